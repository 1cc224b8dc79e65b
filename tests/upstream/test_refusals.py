"""Every way the service says no, as the log and as the client see it."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from relay.errors import ErrorCode
from relay.upstream import Operation, ServiceError, ServiceKey, ServiceRefusal, to_api_error
from relay.upstream.refusals import MESSAGE_MAX_CHARS, RETRY_AFTER_MAX_MS, read_refusal, retry_after_ms, scrub

R = ServiceRefusal
SESSION = {
    "type": "realtime",
    "model": "my-realtime-deployment-name",
    "instructions": "You are Ada of\nContoso Bank. Never promise an interest rate.",
    "tools": [{"type": "mcp", "server_label": "x", "authorization": "hunter2-token"}],
}


@pytest.mark.parametrize(
    ("status", "code", "refusal"),
    [
        (401, "invalid_api_key", R.UNAUTHORIZED),
        (401, "content_filter", R.UNAUTHORIZED),
        (403, "PermissionDenied", R.UNAUTHORIZED),
        (404, "DeploymentNotFound", R.NO_DEPLOYMENT),
        (404, None, R.NO_DEPLOYMENT),
        (400, "DeploymentNotFound", R.NO_DEPLOYMENT),
        (400, "model_not_found", R.NO_DEPLOYMENT),
        (429, "rate_limit_exceeded", R.RATE_LIMITED),
        (429, "insufficient_quota", R.RATE_LIMITED),
        (400, "content_filter", R.CONTENT_FILTER),
        (400, "invalid_offer", R.BAD_OFFER),
        (400, "unknown_parameter", R.REJECTED),
        (400, "OperationNotSupported", R.REJECTED),
        (409, None, R.REJECTED),
        (431, None, R.REJECTED),
        (500, None, R.FAILED),
        (503, "content_filter", R.FAILED),
        (301, None, R.INVALID_ANSWER),
        (307, None, R.INVALID_ANSWER),
    ],
)
async def test_status_and_code_decide(service, connect, status, code, refusal):
    service.will(status, {"error": {"message": "no", "type": "t", "param": None, "code": code}}, apim_request_id="r-7")
    with pytest.raises(ServiceError) as caught:
        await connect().mint(SESSION)
    error = caught.value
    assert (error.refusal, error.operation, error.status, error.request_id) == (refusal, Operation.MINT, status, "r-7")
    assert error.retry_after_ms is None
    if code is not None:
        assert f"code={code}" in error.detail


@pytest.mark.parametrize(
    "body", [b"", b"gateway says no", b"[1]", b'{"error":"text"}', b'{"error":{"code":7}}', b"\xff"]
)
def test_an_error_without_the_usual_body_is_judged_by_its_status(body):
    error = read_refusal(Operation.CALL, 500, {}, body, ())
    assert error.refusal is R.FAILED
    assert error.detail == "no error body"


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (R.UNAUTHORIZED, 401, ErrorCode.SERVICE_UNAUTHORIZED),
        (R.NO_DEPLOYMENT, 404, ErrorCode.SERVICE_NO_DEPLOYMENT),
        (R.RATE_LIMITED, 429, ErrorCode.SERVICE_RATE_LIMITED),
        (R.CONTENT_FILTER, 400, ErrorCode.SERVICE_CONTENT_FILTER),
        (R.BAD_OFFER, 400, ErrorCode.SERVICE_REFUSED_OFFER),
        (R.REJECTED, 502, ErrorCode.SERVICE_REJECTED),
        (R.FAILED, 502, ErrorCode.SERVICE_FAILED),
        (R.TIMEOUT, 504, ErrorCode.SERVICE_TIMEOUT),
        (R.UNREACHABLE, 502, ErrorCode.SERVICE_UNREACHABLE),
        (R.INVALID_ANSWER, 502, ErrorCode.SERVICE_ANSWER_INVALID),
    ],
)
def test_what_the_client_sees(refusal, status, code):
    error = ServiceError(refusal, Operation.CALL, "res.openai.azure.com my-realtime ek_1", status=400, request_id="rid")
    api = to_api_error(error)
    assert (api.status, api.code) == (status, code)
    shown = f"{api} {api.body} {api.headers}"
    for inside in ("azure", "my-realtime", "ek_1", "rid", "400" if status != 400 else "rid"):
        assert inside not in shown.lower()
    # After a time-out or an unreadable answer the call may be under way: a retry would open a second one.
    hopeless = refusal in {R.UNAUTHORIZED, R.NO_DEPLOYMENT, R.TIMEOUT, R.INVALID_ANSWER}
    assert api.headers == ({"x-should-retry": "false"} if hopeless else {})
    minting = to_api_error(ServiceError(refusal, Operation.MINT, ""))
    assert minting.headers == ({"x-should-retry": "false"} if status in {401, 404} else {})


def test_every_refusal_has_a_public_form():
    assert {to_api_error(ServiceError(refusal, Operation.MINT, "")).code for refusal in R} == {
        code for code in ErrorCode if code.name.startswith("SERVICE_")
    }


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "0"), (1, "1"), (1500, "2"), (60_000, "60")])
def test_a_rate_limit_says_when_to_come_back(milliseconds, seconds):
    api = to_api_error(ServiceError(R.RATE_LIMITED, Operation.MINT, "", status=429, retry_after_ms=milliseconds))
    assert api.headers == {"retry-after": seconds, "retry-after-ms": str(milliseconds)}


async def test_a_rate_limit_of_the_service_reaches_the_error(service, connect):
    service.will(429, {}, retry_after="7", retry_after_ms="6500")
    with pytest.raises(ServiceError) as caught:
        await connect().call(ServiceKey("ek_1"), "v=0", "d")
    assert caught.value.retry_after_ms == 6500


def test_only_a_rate_limit_carries_a_waiting_time():
    assert read_refusal(Operation.MINT, 503, {"retry-after": "7"}, b"", ()).retry_after_ms is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after-ms": "20", "retry-after": "7"}, 20),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7_000),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1e30"}, RETRY_AFTER_MAX_MS),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00"}, 0),
        ({"retry-after": "Wed, 21 Oct 9999 07:28:00 GMT"}, RETRY_AFTER_MAX_MS),
        ({}, None),
    ],
)
def test_retry_after(headers, expected):
    assert retry_after_ms(headers) == expected


def test_retry_after_as_a_date_to_come():
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    milliseconds = retry_after_ms({"retry-after": later})
    assert milliseconds is not None
    assert 0 < milliseconds <= 600_000


@pytest.mark.parametrize(
    "secret",
    [
        "ek_0123456789abcdef",
        "sk-proj-****abcd",
        "Bearer abc",
        "eyJhbGciOi.J9.x-y",
        "api-key: swordfish",
        "Authorization=swordfish",
        "0123456789abcdef0123456789abcdef",
        "http://user:swordfish@proxy:3128",
    ],
)
def test_credentials_in_a_message_are_masked(secret):
    shown = scrub(f"Incorrect key provided: {secret} at the door.", ())
    assert secret not in shown
    assert "swordfish" not in shown
    assert "***" in shown
    assert shown.startswith("Incorrect key provided:")


def test_a_credential_at_the_cut_is_masked_too():
    assert "0123" not in scrub("x" * (MESSAGE_MAX_CHARS - 10) + " 0123456789abcdef0123456789abcdef", ())


def test_a_message_is_one_bounded_printable_line():
    shown = scrub("a\r\nb\x1b[31mc\u2028d" + " e" * 500, ())
    assert shown.startswith("a b [31mc d e")
    assert shown.isprintable()
    assert len(shown) <= MESSAGE_MAX_CHARS


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value: 'You are Ada of\nContoso Bank. Never promise'",
        "Blocked: ...of Contoso Bank. Never promise an...",
        "Tool token hunter2-token refused",
        "Key canary-resource-key-0123456789abcdef is wrong",
    ],
)
async def test_what_was_sent_never_comes_back(service, connect, message):
    service.will(400, {"error": {"message": message, "code": "invalid_value", "param": "session.instructions"}})
    with pytest.raises(ServiceError) as caught:
        await connect().mint(SESSION)
    assert caught.value.detail == (
        "code=invalid_value param=session.instructions (message withheld: it repeats what was sent)"
    )


async def test_the_offer_and_the_minted_key_never_come_back(service, connect):
    offer = "v=0\r\na=ice-pwd:canarycanarycanarycanary\r\n"
    for quoted in (offer, "canarycanarycanarycanary", "mintedkey-0123456789"):
        service.will(400, {"error": {"message": f"cannot read {quoted}", "code": "invalid_offer"}})
        with pytest.raises(ServiceError) as caught:
            await connect().call(ServiceKey("mintedkey-0123456789"), offer, "d")
        assert caught.value.refusal is R.BAD_OFFER
        assert "canary" not in str(caught.value)
        assert "mintedkey" not in str(caught.value)


async def test_the_words_an_operator_needs_stay(service, connect):
    message = "The API deployment my-realtime-deployment-name does not exist."
    service.will(404, {"error": {"message": message, "code": "DeploymentNotFound"}})
    with pytest.raises(ServiceError) as caught:
        await connect().mint(SESSION)
    assert caught.value.detail == f"code=DeploymentNotFound {message}"
    assert str(caught.value).startswith("mint: no_deployment (status 404")


@pytest.mark.parametrize("code", ["a b", "x" * 100, "ek_0123456789", 5, ["x"]])
def test_a_code_that_is_no_plain_word_is_left_out(code):
    error = read_refusal(Operation.MINT, 400, {}, json.dumps({"error": {"code": code, "message": "m"}}).encode(), ())
    assert error.detail == "m"
