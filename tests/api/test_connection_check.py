"""The door for connection checks: who may use it, and what it refuses."""

from __future__ import annotations

import pytest

APP = "https://app.example.com"
PATHS = ("/v1/realtime/connection_check", "/openai/v1/realtime/connection_check")
DIGEST = ":".join(["AB"] * 32)
OFFER = "\r\n".join(
    [
        "v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0",
        "a=ice-ufrag:abcd", "a=ice-pwd:0123456789abcdef0123456789", f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:actpass", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2", "a=recvonly", "",
    ]
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_gets_an_answer_and_stays_usable(doors, checks, path):
    key = await doors.key()
    answer = await doors.call(key, path, OFFER)
    assert answer.status == 200, answer.text
    assert answer.headers["Content-Type"] == "application/sdp"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    assert (await doors.call(key)).status == 201
    assert (await doors.call(key, path, OFFER)).status == 200  # a used key may check again
    first, again = checks.askers
    assert first == again
    assert key not in first
    assert doors.sessions.live.keys() == {"rs_1"}


async def test_every_key_is_an_asker_of_its_own(doors, checks, client_key):
    for key in (await doors.key(), await doors.key(), client_key):
        assert (await doors.call(key, PATHS[0], OFFER)).status == 200
    assert len(set(checks.askers)) == 3


async def test_strangers_and_pages_of_another_origin_are_refused(doors, checks):
    minted = await doors.key(headers={"Origin": APP})
    for key, origin in ((None, None), ("ek_forged", None), ("guess", None), (minted, f"http://127.0.0.1:{doors.port}")):
        answer = await doors.call(key, PATHS[0], OFFER, headers={} if origin is None else {"Origin": origin})
        assert answer.refusal == (401, "invalid_api_key", None)
    assert checks.askers == []


@pytest.mark.parametrize(
    ("body", "kind", "refusal"),
    [
        ("v=1\r\n", "application/sdp", (400, "invalid_offer", None)),
        ("v=0\r\ns=-\r\n", "application/sdp", (400, "invalid_offer", None)),
        ("v=0\r\n" + "a" * 70_000, "application/sdp", (413, "request_too_large", None)),
        ("{}", "application/json", (415, "unsupported_media_type", None)),
    ],
)
async def test_what_is_no_offer_is_refused(doors, body, kind, refusal):
    answer = await doors.call(await doors.key(), PATHS[0], body, headers={"Content-Type": kind})
    assert answer.refusal == refusal


async def test_too_many_at_once_are_told_when_to_come_back(doors, checks):
    checks.full = True
    answer = await doors.call(await doors.key(), PATHS[0], OFFER)
    assert answer.refusal == (429, "rate_limit_exceeded", None)
    assert int(answer.headers["retry-after"]) > 0
