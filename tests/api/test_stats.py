"""The door at which clients tell what they measure: whose session, what form, how large."""

from __future__ import annotations

import pytest

from relay.core.client_stats import ClientStats

REPORT = {"rtt_seconds": 0.03, "jitter_seconds": None, "concealed": 7}


async def opened(doors):
    key = await doors.key()
    answer = await doors.call(key)
    assert answer.status == 201
    return key, answer.headers["Location"]


@pytest.mark.parametrize("prefix", ["", "/openai"])
async def test_the_key_of_a_session_and_its_owner_may_report(doors, client_key, prefix):
    key, location = await opened(doors)
    for credential in (key, client_key):
        answer = await doors.post(f"{prefix}{location}/stats", key=credential, json=REPORT)
        assert (answer.status, answer.body) == (204, b"")
    session_id = location.rsplit("/", 1)[1]
    assert doors.sessions.stats == [(session_id, ClientStats(rtt_seconds=0.03, concealed=1.0))] * 2


async def test_others_see_no_session(doors, other_client_key):
    _, location = await opened(doors)
    stranger = await doors.key()
    for credential in (stranger, other_client_key):
        answer = await doors.post(f"{location}/stats", key=credential, json=REPORT)
        assert answer.refusal == (404, "not_found", None)
    assert (await doors.post(f"{location}/stats", key=None, json=REPORT)).status == 401
    assert (await doors.post(f"{location}/stats", key="ek_nobody", json=REPORT)).status == 401
    assert doors.sessions.stats == []
    assert {door for door, _, _ in doors.facts.refused} == {"ga_stats"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b"not json", 400),
        (b'{"rtt_seconds": 1, "rtt_seconds": 2}', 400),
        (b'{"rtt_seconds": "0.1"}', 400),
        (b'{"rtt_seconds": NaN}', 400),
        (b'{"user_agent": 1}', 400),
        (b'{"rtt_seconds": 0.1' + b" " * 2048 + b"}", 413),
    ],
)
async def test_a_report_has_one_small_form(doors, body, status):
    key, location = await opened(doors)
    headers = {"Content-Type": "application/json"}
    assert (await doors.post(f"{location}/stats", key=key, data=body, headers=headers)).status == status
    assert doors.sessions.stats == []


async def test_a_report_is_json(doors):
    key, location = await opened(doors)
    answer = await doors.post(f"{location}/stats", key=key, data=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status == 415
    assert (await doors.request("GET", f"{location}/stats")).status == 405


async def test_the_clients_trace_goes_with_its_offer(doors):
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await doors.call(await doors.key(), headers={"traceparent": header})
    await doors.call(await doors.key())
    assert [request.traceparent for request in doors.sessions.requests] == [header, None]
