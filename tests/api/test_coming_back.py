"""The door of a running session: who may offer to it, what, and how it answers."""

from __future__ import annotations

import pytest

from relay.errors import ErrorCode

CALL = "/v1/realtime/calls/rs_1"
APP = "https://app.example.com"


async def opened(doors, **options) -> str:
    """The key of a session that is open."""
    key = await doors.key(**options)
    assert (await doors.call(key, **options)).status == 201
    return key


@pytest.mark.parametrize("path", [CALL, f"/openai{CALL}"])
async def test_the_answer_is_200_sdp(doors, offer, path):
    key = await opened(doors)
    answer = await doors.call(key, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/sdp")
    assert answer.text.startswith("v=0")
    assert "Location" not in answer.headers
    assert doors.sessions.reoffers == [("rs_1", offer)]


async def test_the_client_key_behind_it_may_too(doors, client_key, other_client_key):
    await opened(doors)
    assert (await doors.call(client_key, CALL)).status == 200
    assert (await doors.call(other_client_key, CALL)).refusal == (404, "not_found", None)


async def test_unknown_foreign_and_ended_are_one_answer(doors):
    key, fresh = await opened(doors), await doors.key()
    second = await opened(doors)
    answers = [
        await doors.call(fresh, CALL),
        await doors.call(second, CALL),
        await doors.call(key, "/v1/realtime/calls/rs_9"),
        await doors.call(key, "/v1/realtime/calls/rs_2"),
    ]
    doors.sessions.live.clear()
    answers.append(await doors.call(key, CALL))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert {answer.refusal for answer in answers} == {(404, "not_found", None)}
    assert doors.sessions.reoffers == []


async def test_a_wrong_key_is_refused_and_counted(doors):
    await opened(doors)
    assert (await doors.call("ek_0000", CALL)).refusal == (401, "invalid_api_key", None)
    assert (await doors.call(None, CALL)).refusal == (401, "invalid_api_key", None)
    assert doors.facts.failed == ["ephemeral_key", "missing"]
    assert doors.facts.refused[-1] == ("ga_reoffer", 401, "invalid_api_key")


async def test_a_key_of_a_page_is_good_for_that_page_alone(doors):
    key = await opened(doors, headers={"Origin": APP})
    own = f"http://127.0.0.1:{doors.port}"
    assert (await doors.call(key, CALL, headers={"Origin": own})).refusal == (401, "invalid_api_key", None)
    assert (await doors.call(key, CALL, headers={"Origin": APP})).status == 200


async def test_the_key_serves_as_long_as_its_session_lives(doors):
    key = await opened(doors)
    doors.clock.now += 3600
    assert (await doors.call(key, CALL)).status == 200


async def test_only_sdp_of_a_bounded_size(doors, client_key):
    key = await opened(doors)
    form = await doors.post(CALL, key=key, headers={"Content-Type": "multipart/form-data; boundary=x"}, data=b"--x--")
    assert form.refusal == (415, "unsupported_media_type", None)
    assert (await doors.call(key, CALL, "v=1")).refusal == (400, "invalid_offer", None)
    assert (await doors.call(key, CALL, "v=0\r\n" + "a" * 65_536)).status == 413
    assert (await doors.request("GET", CALL)).status == 405
    assert doors.sessions.reoffers == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, ErrorCode.PEER_GONE), (409, ErrorCode.SESSION_NOT_ACTIVE), (429, ErrorCode.RATE_LIMIT_EXCEEDED)],
)
async def test_a_refusal_of_the_session_arrives(doors, refuse, status, code):
    key = await opened(doors)
    doors.sessions.refusal = refuse(status, code, retry_after="6")
    answer = await doors.call(key, CALL)
    assert answer.refusal == (status, code.value, None)
    assert answer.headers["retry-after"] == "6"


async def test_a_page_of_another_origin_may_ask_first(doors):
    headers = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    answer = await doors.request("OPTIONS", CALL, headers=headers)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, APP)
