"""Section C of the policy vectors, and what of section K a door decides: offers, forms, queries, paths."""

from __future__ import annotations

import asyncio
import json

import pytest

from relay.core.ephemeral_keys import TRIES_AT_ONCE
from relay.core.lifecycle import Dialect
from relay.errors import ApiError, ErrorCode

CALLS = "/v1/realtime/calls"
BOUNDARY = "----boundary1234"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: str | bytes, disposition: str = "", *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"{disposition}', *headers, "", ""]
    return "\r\n".join(lines).encode() + (content.encode() if isinstance(content, str) else content)


def form(*parts: bytes) -> bytes:
    return b"".join(f"--{BOUNDARY}\r\n".encode() + each + b"\r\n" for each in parts) + f"--{BOUNDARY}--\r\n".encode()


def asked(doors):
    return doors.sessions.requests[-1]


@pytest.mark.parametrize("path", ["/openai/v1/realtime/calls", CALLS, "/v1/realtimertc", "/v1/realtime"])
async def test_v190_an_answer_is_201_sdp_with_a_location(doors, path):
    answer = await doors.call(await doors.key(), path)
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/sdp"
    assert answer.headers["Location"] == "/v1/realtime/calls/rs_1"
    assert answer.text.startswith("v=0\r\n")


async def test_the_offer_arrives_as_it_was_sent(doors, offer):
    await doors.call(await doors.key())
    assert asked(doors).offer == offer


async def test_v025_a_form_brings_its_session(doors, offer, client_key):
    session = {"type": "realtime", "model": "gpt-realtime", "instructions": "x"}
    body = form(part("sdp", offer), part("session", json.dumps(session)))
    answer = await doors.post(CALLS, key=client_key, data=body, headers=FORM)
    assert answer.status == 201
    assert (asked(doors).offer, asked(doors).client_session, asked(doors).model) == (offer, session, "gpt-realtime")


async def test_v025_a_forms_session_lies_over_the_keys_and_the_keys_model_wins(doors, offer):
    minted = {"type": "realtime", "model": "mine", "audio": {"output": {"voice": "cedar", "speed": 1.1}, "input": {}}}
    later = {"type": "realtime", "model": "other", "audio": {"output": {"speed": 0.9}}, "tools": []}
    key = await doors.key(minted)
    await doors.post(CALLS, key=key, data=form(part("sdp", offer), part("session", json.dumps(later))), headers=FORM)
    assert asked(doors).model == "mine"
    assert asked(doors).client_session == {
        "type": "realtime",
        "model": "other",
        "audio": {"output": {"voice": "cedar", "speed": 0.9}, "input": {}},
        "tools": [],
    }


@pytest.mark.parametrize("name", ["sdp", "session"])
async def test_v027_a_part_that_comes_twice_is_refused(doors, offer, name):
    body = form(part("sdp", offer), part("session", "{}"), part(name, offer))
    answer = await doors.post(CALLS, key=await doors.key(), data=body, headers=FORM)
    assert answer.refusal == (400, "invalid_request", name)
    assert doors.sessions.requests == []


@pytest.mark.parametrize(
    "session",
    [
        part("session", '{"type":"realtime"}', '; filename="s.json"', "Content-Type: application/json"),
        part("session", '{"type":"realtime"}', '; filename=""', "Content-Type: application/json"),
        part("session", '{"type":"realtime"}', "", "Content-Type: text/plain"),
        part("session", '{"type":"realtime"}', "", "Content-Type: text/plain; charset=UTF-8"),
    ],
)
async def test_v028_the_session_may_be_a_field_or_a_file(doors, offer, session):
    sdp = part("sdp", offer, '; filename=""', "Content-Type: application/sdp")
    answer = await doors.post(CALLS, key=await doors.key(), data=form(sdp, session), headers=FORM)
    assert answer.status == 201
    assert asked(doors).client_session == {"type": "realtime"}


@pytest.mark.parametrize(
    "session",
    [
        part("session", '{"type":"realtime"}'.encode("utf-16")),
        part("session", '{"type":"realtime"}', "", "Content-Type: application/json; charset=utf-16"),
        part("session", '{"type":"realtime"}', "", "Content-Transfer-Encoding: quoted-printable"),
        part("session", '{"type":"realtime","type":"realtime"}'),
        part("session", '{"type":"transcription"}'),
        part("session", "[]"),
    ],
)
async def test_v028_a_session_that_is_not_plain_strict_json_is_refused(doors, offer, session):
    answer = await doors.post(CALLS, key=await doors.key(), data=form(part("sdp", offer), session), headers=FORM)
    assert answer.status == 400
    assert doors.sessions.requests == []


async def test_v030_extra_parts_are_passed_over(doors, offer, client_key):
    extra = [part(name, "x") for name in ("instructions", "model", "metadata", "instructions")]
    answer = await doors.post(CALLS, key=client_key, data=form(*extra, part("sdp", offer)), headers=FORM)
    assert answer.status == 201
    assert (asked(doors).client_session, asked(doors).model) == (None, "gpt-realtime")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("text/plain", 415),
        ("application/octet-stream", 415),
        (None, 415),
        ("application/sdp; charset=utf-16", 415),
        ("application/sdp; charset=utf-8", 201),
        ("Application/SDP", 201),
    ],
)
async def test_v031_an_offer_is_announced_as_what_it_is(doors, offer, content_type, status):
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert (await doors.post(CALLS, key=await doors.key(), data=offer.encode(), headers=headers)).status == status


async def test_v031_json_announced_as_sdp_is_no_offer(doors, offer):
    answer = await doors.call(await doors.key(), offer=json.dumps({"sdp": offer}))
    assert answer.refusal == (400, "invalid_offer", None)


async def test_v031_preview_doors_take_no_forms(doors, offer):
    answer = await doors.post("/v1/realtimertc", key=await doors.key(), data=form(part("sdp", offer)), headers=FORM)
    assert answer.status == 415


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [70_000, 5 * 1024 * 1024])
async def test_v032_v202_an_offer_is_bounded(doors, size, chunked):
    key = await doors.key()
    answer = await doors.call(key, offer=b"v=0\r\n" + b"a" * size, chunked=chunked or None)
    assert answer.refusal == (413, "request_too_large", None)
    assert (await doors.call(key)).status == 201


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 5000000", b""),
        (b"Transfer-Encoding: chunked", b"%x\r\n" % 70_000 + b"v" * 70_000 + b"\r\n"),
    ],
)
async def test_v032_a_body_too_long_is_refused_before_it_ends(doors, client_key, framing, body):
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.port)
    head = b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\napi-key: "
    writer.write(head + client_key.encode() + b"\r\n" + framing + b"\r\n\r\n" + body)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
    writer.close()


@pytest.mark.parametrize("name", ["sdp", "session", "other"])
async def test_v032_a_form_is_bounded(doors, offer, name):
    body = form(part("sdp", offer), part(name, "v=0\r\n" + "x" * 5 * 1024 * 1024))
    answer = await doors.post(CALLS, key=await doors.key(), data=body, headers=FORM)
    assert answer.refusal == (413, "request_too_large", None)


@pytest.mark.parametrize("name", ["sdp", "session"])
async def test_v032_each_part_is_bounded_too(doors, offer, name):
    others = {"sdp": part("session", "{}"), "session": part("sdp", offer)}
    body = form(others[name], part(name, "v=0\r\n" + "x" * 65_536))
    answer = await doors.post(CALLS, key=await doors.key(), data=body, headers=FORM)
    assert answer.refusal == (413, "request_too_large", None)


@pytest.mark.parametrize("count", [9, 1000, 10_000])
async def test_v032_parts_are_counted_before_they_are_parsed(doors, offer, count):
    body = form(part("sdp", offer), *[b"\r\n"] * (count - 1))
    answer = await doors.post(CALLS, key=await doors.key(), data=body, headers=FORM)
    assert answer.refusal == (413, "request_too_large", None)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=", b""),
        ("multipart/form-data; boundary=" + "b" * 71, b""),
        (FORM["Content-Type"], b""),
        (FORM["Content-Type"], b"no delimiter at all"),
        (FORM["Content-Type"], f"--{BOUNDARY}\r\nno separator\r\n--{BOUNDARY}--".encode()),
        (FORM["Content-Type"], form(part("sdp", "v=0\r\n")).replace(b"1234\r\n", b"1234tail\r\n", 1)),
        (FORM["Content-Type"], form(part("sdp", "v=0\r\n"))[:-8]),
        (FORM["Content-Type"], form(part("session", "{}"))),
        (FORM["Content-Type"], form(b"X: " + b"x" * 3000 + b"\r\n\r\nv=0")),
        (FORM["Content-Type"], form(b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: x\r\n\r\nv')),
    ],
)
async def test_forms_that_are_none(doors, content_type, body):
    answer = await doors.post(CALLS, key=await doors.key(), data=body, headers={"Content-Type": content_type})
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")


async def test_a_form_may_have_a_preamble_and_a_part_with_line_breaks(doors, offer):
    body = b"preamble\r\n" + form(part("sdp", offer + "\r\n--not the boundary\r\n"))
    assert (await doors.post(CALLS, key=await doors.key(), data=body, headers=FORM)).status == 201
    assert asked(doors).offer == offer + "\r\n--not the boundary\r\n"


async def test_v033_the_keys_model_wins_over_the_query(doors):
    key = (await doors.post("/openai/realtimeapi/sessions", json={"model": "minted"})).json["client_secret"]["value"]
    await doors.call(key, "/v1/realtimertc?model=other")
    assert asked(doors).model == "minted"


async def test_v033_without_one_the_query_names_the_model(doors, client_key):
    await doors.call(client_key, "/v1/realtimertc?model=gpt-4o-mini-realtime-preview")
    assert (asked(doors).model, asked(doors).dialect) == ("gpt-4o-mini-realtime-preview", Dialect.PREVIEW)
    assert (await doors.call(client_key, "/v1/realtimertc?model=" + "m" * 129)).refusal[1:] == (
        "invalid_value",
        "model",
    )


async def test_v034_a_deployments_name_is_a_name_like_any_other(doors, client_key):
    real = await doors.call(client_key, "/v1/realtimertc?model=contoso-rt-secret")
    invented = await doors.call(client_key, "/v1/realtimertc?model=no-such-thing")
    assert (real.status, real.text) == (invented.status, invented.text)


@pytest.mark.parametrize(
    "query", ["deployment=d&api-version=2024-10-01-preview", "intent=transcription", "webrtcfilter=off", "x=y"]
)
async def test_v036_v039_other_query_parameters_are_ignored(doors, client_key, query):
    await doors.call(client_key, f"{CALLS}?{query}")
    request = asked(doors)
    assert (request.model, request.client_session, request.webrtc_filter) == ("gpt-realtime", None, False)


@pytest.mark.parametrize("path", [CALLS, "/openai/v1/realtime/calls", "/v1/realtimertc"])
async def test_v037_webrtcfilter_is_understood(doors, path):
    await doors.call(await doors.key(), f"{path}?webrtcfilter=on")
    assert asked(doors).webrtc_filter is True


@pytest.mark.parametrize("path", [CALLS, "/v1/realtimertc", "/v1/realtime", "/v1/realtime/client_secrets"])
async def test_v040_no_call_can_be_joined(doors, path, client_key):
    answer = await doors.call(client_key, f"{path}?call_id=rtc_123")
    assert answer.refusal == (400, "invalid_request", "call_id")
    assert doors.sessions.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/realtime/calls/../client_secrets",
        "/openai/v1/realtime/calls/%2e%2e/client_secrets",
        "/openai/v1/realtime/calls%2f..%2fclient_secrets",
        "//openai/v1/realtime/client_secrets",
        "/openai//v1/realtime/client_secrets",
        "/v1/realtime/client_secrets/",
        "/V1/realtime/client_secrets",
        "/v1/realtime/client_secrets;x",
        "/v1/realtime/calls/rs_1/hangup/",
        "/v1/realtime/calls/..%2frs_1/hangup",
        "/v1/realtime/calls/" + "r" * 65 + "/hangup",
        "/v1/realtime/calls/rs_1/",
        "/v1/realtime/calls/" + "r" * 65,
        "/v1/models",
        "/openai/deployments/x/chat/completions",
    ],
)
async def test_v041_paths_are_exact(doors, path):
    assert (await doors.post(path, json={})).refusal == (404, "not_found", None)


async def test_v043_the_door_decides_the_dialect_and_a_session_is_told_in_it(doors):
    session = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
    await doors.call(await doors.key(session, headers={"OpenAI-Beta": "realtime=v1"}), "/v1/realtimertc")
    assert asked(doors).dialect is Dialect.PREVIEW
    assert asked(doors).client_session["voice"] == "cedar"
    flat = {"model": "m", "voice": "verse"}
    key = (await doors.post("/v1/realtime/sessions", json=flat)).json["client_secret"]["value"]
    await doors.call(key, CALLS, headers={"OpenAI-Beta": "realtime=v1"})
    assert asked(doors).dialect is Dialect.GA
    assert asked(doors).client_session["audio"]["output"]["voice"] == "verse"


async def test_v193_refusals_behind_the_door_keep_their_status_and_code(doors, refuse):
    doors.sessions.refusal = refuse(400, ErrorCode.INVALID_OFFER)
    assert (await doors.call(await doors.key())).refusal == (400, "invalid_offer", None)
    assert doors.facts.refused == [("ga_calls", 400, "invalid_offer")]


@pytest.mark.parametrize(
    "offer", ["", "v=1\r\n", "v=0", " v=0\r\n", "v=0\r\nm=audio\0\r\n", b"v=0\r\n\xff\xfe", "\ufeffv=0\r\n", "hello"]
)
async def test_v202_what_is_no_sdp_is_no_offer(doors, offer):
    answer = await doors.call(await doors.key(), offer=offer)
    assert answer.refusal == (400, "invalid_offer", None)
    assert doors.sessions.requests == []


async def test_v202_line_feeds_alone_are_for_the_sdp_parser_to_judge(doors):
    assert (await doors.call(await doors.key(), offer="v=0\ns=-\n")).status == 201


async def test_a_strangers_body_is_not_read(doors):
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.port)
    writer.write(
        b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        b"Authorization: Bearer ek_0000\r\nContent-Length: 60000\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_an_unexpected_failure_is_500_told_once_and_without_words(doors, facts):
    key = await doors.key()
    doors.sessions.refusal = RuntimeError("ek_secret and CANARY-7f3a")
    answer = await doors.call(key)
    assert answer.refusal == (500, "internal_error", None)
    assert answer.error["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    event, fields = facts.warnings.get_nowait()
    assert event == "request_failed"
    assert fields["request_id"] == answer.headers["X-Request-Id"]
    assert fields["error_type"] == "RuntimeError"
    assert fields["where"].startswith("open:")
    assert "CANARY" not in repr(fields)
    assert facts.warnings.empty()


async def test_one_key_cannot_begin_set_up_after_set_up(doors, client_key):
    """What is refused costs a set-up all the same: a key in a browser must not be enough to keep others out."""
    key, other = await doors.key(), await doors.key()
    doors.sessions.refusal = ApiError(400, ErrorCode.INVALID_OFFER, "no")
    for _ in range(TRIES_AT_ONCE):
        assert (await doors.call(key)).status == 400
    answer = await doors.call(key)
    assert answer.refusal == (429, "rate_limit_exceeded", None)
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("6", "6000")
    assert len(doors.sessions.requests) == TRIES_AT_ONCE
    doors.sessions.refusal = None
    # Neither another key nor the client key behind it is held up, and the key is good again soon.
    assert (await doors.call(other)).status == (await doors.call(client_key)).status == 201
    doors.clock.now += 6
    assert (await doors.call(key)).status == 201


async def test_a_key_is_free_again_whatever_breaks_before_the_session(doors, monkeypatch):
    key = await doors.key()
    monkeypatch.setattr("relay.api.calls.merged", lambda *_: 1 / 0)
    assert (await doors.call(key)).status == 500
    assert doors.facts.warnings.get_nowait()[0] == "request_failed"
    monkeypatch.undo()
    assert (await doors.call(key)).status == 201
