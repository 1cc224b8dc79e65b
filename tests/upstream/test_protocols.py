"""What goes over the wire in each protocol, and what is taken from the answers."""

import json
from http import HTTPStatus

import pytest

from relay.config import Secret, UpstreamProtocol, UpstreamSettings
from relay.core.lifecycle import Dialect
from relay.errors import ConfigError
from relay.upstream import ServiceCall, ServiceError, ServiceKey, ServiceRefusal, create_upstream

GA_SESSION = {"type": "realtime", "model": "my-realtime", "instructions": "Speak about brønshøj only."}
PREVIEW_SESSION = {"model": "my-realtime", "instructions": "Speak about brønshøj only.", "voice": "verse"}
OFFER = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
ANSWER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
EPHEMERAL = "ek_canary0123456789"
KEY = ServiceKey(EPHEMERAL)
RESOURCE_KEY = "canary-resource-key-0123456789abcdef"
PLAIN_HEADERS = {"host", "user-agent", "accept", "accept-encoding", "content-length", "content-type"}


@pytest.mark.parametrize(
    ("protocol", "path", "credential"),
    [
        ("azure-ga", "/openai/v1/realtime/client_secrets", ("api-key", RESOURCE_KEY)),
        ("openai", "/v1/realtime/client_secrets", ("authorization", f"Bearer {RESOURCE_KEY}")),
    ],
)
async def test_ga_mint(service, connect, protocol, path, credential):
    effective = GA_SESSION | {"id": "sess_1", "object": "realtime.session"}
    body = {"value": EPHEMERAL, "expires_at": 1784859437, "session": effective}
    service.will(200, body, apim_request_id="6f1e-req", x_ms_region="Sweden Central")
    upstream = connect(protocol)

    key = await upstream.mint(GA_SESSION)

    [asked] = service.asked
    assert asked.path == path
    assert json.loads(asked.body) == {"session": GA_SESSION}
    assert asked["content-type"] == "application/json"
    assert asked[credential[0]] == credential[1]
    assert asked.names == PLAIN_HEADERS | {credential[0]}
    assert key == ServiceKey(EPHEMERAL, 1784859437, "6f1e-req", effective, "SwedenCentral")
    assert upstream.dialect is Dialect.GA


@pytest.mark.parametrize(
    ("protocol", "path"), [("azure-ga", "/openai/v1/realtime/calls"), ("openai", "/v1/realtime/calls")]
)
async def test_ga_call_carries_the_minted_key_and_the_raw_offer(service, connect, protocol, path):
    service.will(
        201,
        ANSWER,
        location="/v1/realtime/calls/rtc_0123abcd",
        content_type="text/plain; charset=utf-8",
        x_request_id="req_9",
    )

    call = await connect(protocol).call(KEY, OFFER, "my-realtime")

    [asked] = service.asked
    assert asked.path == path
    assert asked.body == OFFER.encode()
    assert asked["authorization"] == f"Bearer {EPHEMERAL}"
    assert asked["content-type"] == "application/sdp"
    assert asked.names == PLAIN_HEADERS | {"authorization"}
    assert call == ServiceCall(ANSWER.decode(), "rtc_0123abcd", "req_9")


async def test_preview_mints_at_the_resource_and_calls_the_region(service, connect):
    upstream = connect("azure-preview", api_version="2025-04-01-preview")
    secret = {"value": EPHEMERAL, "expires_at": 1784859437}
    service.will(200, {"id": "sess_1", "object": "realtime.session", "client_secret": secret, **PREVIEW_SESSION})

    key = await upstream.mint(PREVIEW_SESSION)
    service.will(201, ANSWER, location="/ignored/rtc_1")
    call = await upstream.call(key, OFFER, "deployment/with & odd name")

    mint, posted = service.asked
    assert mint.path == "/openai/realtimeapi/sessions?api-version=2025-04-01-preview"
    assert json.loads(mint.body) == PREVIEW_SESSION
    assert mint["api-key"] == RESOURCE_KEY
    assert key.session == {"id": "sess_1", "object": "realtime.session", **PREVIEW_SESSION}
    assert key.expires_at == 1784859437
    path, _, query = posted.path.partition("?")
    assert path == "/regional/v1/realtimertc"
    assert query.replace("%2F", "/") == "model=deployment/with%20%26%20odd%20name"
    assert posted["authorization"] == f"Bearer {EPHEMERAL}"
    assert "api-key" not in posted.names
    assert call.answer == ANSWER.decode()
    assert upstream.dialect is Dialect.PREVIEW


@pytest.mark.parametrize(
    ("protocol", "path", "credential"),
    [
        ("azure-ga", "/openai/v1/realtime/calls/rtc_1/hangup", "api-key"),
        ("openai", "/v1/realtime/calls/rtc_1/hangup", "authorization"),
    ],
)
async def test_hang_up_uses_the_own_credential(service, connect, protocol, path, credential):
    service.will(200)
    await connect(protocol).hang_up(ServiceCall("v=0", "rtc_1"))
    [asked] = service.asked
    assert asked.path == path
    assert RESOURCE_KEY in asked[credential]
    assert asked.body == b""
    assert EPHEMERAL not in str(asked.headers)


@pytest.mark.parametrize(("protocol", "call_id"), [("azure-ga", None), ("azure-preview", "rtc_1")])
async def test_nothing_is_hung_up_without_a_call_id_or_in_the_preview(service, connect, protocol, call_id):
    await connect(protocol).hang_up(ServiceCall("v=0", call_id))
    assert service.asked == []


async def test_hanging_up_a_call_that_is_gone_says_so_and_blames_no_deployment(service, connect):
    service.will(404, {"error": {"code": "call_not_found", "message": "gone"}})
    with pytest.raises(ServiceError) as caught:
        await connect().hang_up(ServiceCall("v=0", "rtc_1"))
    assert (caught.value.refusal, caught.value.status) == (ServiceRefusal.REJECTED, 404)
    assert caught.value.operation == "hangup"


@pytest.mark.parametrize(
    ("location", "call_id"),
    [
        ("/v1/realtime/calls/rtc_0123", "rtc_0123"),
        ("/v1/realtime/calls/rtc_u2_A-b/", "rtc_u2_A-b"),
        ("https://res.example/openai/v1/realtime/calls/rtc_9?x=1#y", "rtc_9"),
        ("rtc_bare", "rtc_bare"),
        ("/calls/" + "a" * 128, "a" * 128),
        ("/calls/" + "a" * 129, None),
        ("/calls/rtc_1%2Fhangup", None),
        ("/calls/rtc 1", None),
        ("/calls/..", None),
        ("https://[broken/calls/rtc_1", None),
        ("", None),
        (None, None),
    ],
)
async def test_call_id_from_location(service, connect, location, call_id):
    service.will(201, ANSWER, **({} if location is None else {"location": location}))
    assert (await connect().call(KEY, OFFER, "d")).call_id == call_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sign in</html>",
        b"[]",
        b"{}",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"value":null}',
        b'{"value":""}',
        b'{"value":17}',
        b'{"value":"ek_a b"}',
        b'{"value":"ek_a\\r\\nx-injected: 1"}',
        b'{"value":"' + b"k" * 5_000 + b'"}',
        b'{"client_secret":"ek_1"}',
        b'{"value":1e999999,"expires_at":' + b"9" * 5_000 + b"}",
    ],
)
@pytest.mark.parametrize("protocol", ["azure-ga", "azure-preview"])
async def test_a_mint_answer_without_a_usable_key(service, connect, protocol, body):
    service.will(200, body, apim_request_id="r1")
    with pytest.raises(ServiceError) as caught:
        await connect(protocol).mint(GA_SESSION)
    assert caught.value.refusal is ServiceRefusal.INVALID_ANSWER
    assert (caught.value.status, caught.value.request_id) == (200, "r1")


async def test_odd_side_fields_of_a_mint_are_dropped(service, connect):
    service.will(
        200, {"value": EPHEMERAL, "expires_at": True, "session": ["x"]}, apim_request_id="a\u00e9b c;" + "d" * 200
    )
    key = await connect().mint(GA_SESSION)
    assert key.expires_at is None
    assert key.session is None
    assert key.request_id is not None
    assert key.request_id.startswith("ab")
    assert len(key.request_id) == 128


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"\xff\xfe", b" v=0"])
async def test_a_call_answer_that_is_no_sdp(service, connect, body):
    service.will(HTTPStatus.CREATED, body, location="/openai/v1/realtime/calls/rtc_7")
    with pytest.raises(ServiceError) as caught:
        await connect().call(KEY, OFFER, "d")
    assert caught.value.refusal is ServiceRefusal.INVALID_ANSWER
    assert (caught.value.operation, caught.value.call_id) == ("call", "rtc_7")


def test_no_secret_in_print():
    key = ServiceKey(EPHEMERAL, 1, "req", {"instructions": "canary text"}, "region")
    assert EPHEMERAL not in f"{key} {key!r}"
    assert "canary" not in f"{key} {key!r}"
    assert "v=0" not in repr(ServiceCall("v=0 canary", "rtc_1"))


@pytest.mark.parametrize(
    "settings",
    [
        UpstreamSettings(protocol=UpstreamProtocol.AZURE_GA, endpoint="https://res.example"),
        UpstreamSettings(
            protocol=UpstreamProtocol.AZURE_PREVIEW, endpoint="https://res.example", api_key=Secret(RESOURCE_KEY)
        ),
    ],
    ids=["no key", "no region"],
)
async def test_settings_that_cannot_work(settings):
    with pytest.raises(ConfigError):
        create_upstream(settings)
