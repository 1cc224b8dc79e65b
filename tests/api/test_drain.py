"""Draining by request, and the probe of start-up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.config import Secret

KEY = "operators-key-0001"


async def test_a_drain_is_begun_told_and_written_down_once(operations, sessions, rows):
    sessions.live = {"rs_1": "somebody"}
    answer = await operations.post("/drain", key=None)
    assert (answer.status, answer.json) == (202, {"status": "draining", "sessions": 1, "seconds": 30.0})
    assert sessions.draining
    assert (await operations.post("/drain", key=None)).status == 202
    assert [(row.actor, row.action, row.accepted) for row in rows] == [("", "drain", True)]
    assert (await operations.request("GET", "/drain")).refusal == (405, "method_not_allowed", None)
    assert (await operations.request("DELETE", "/drain")).refusal == (405, "method_not_allowed", None)


@pytest.mark.parametrize(
    "headers", [{"Origin": "null"}, {"Origin": "http://127.0.0.1:8081"}, {"Sec-Fetch-Site": "none"}]
)
async def test_no_page_drains_a_relay(operations, sessions, headers):
    assert (await operations.post("/drain", key=None, headers=headers)).refusal == (403, "origin_not_allowed", None)
    assert not sessions.draining


async def test_the_public_listener_has_no_drain(doors):
    assert (await doors.post("/drain")).refusal == (404, "not_found", None)


class TestWithAKey:
    @pytest.fixture
    def admin_key(self):
        return Secret(KEY)

    @pytest.mark.parametrize("shown", [None, "", "wrong", KEY + "x", "clé"])
    async def test_others_are_refused(self, operations, sessions, shown):
        headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        assert (await operations.post("/drain", key=None, headers=headers)).refusal == (401, "invalid_api_key", None)
        assert not sessions.draining

    async def test_its_holder_is_let_in(self, operations, sessions, rows):
        assert (await operations.post("/drain", key=KEY)).status == 202
        assert sessions.draining
        assert [(row.actor, row.role) for row in rows] == [("admin.key", "owner")]

    async def test_nobody_guesses_it_here_faster_than_at_the_admin_api(self, operations):
        answers = [(await operations.post("/drain", key="x" * 24)).status for _ in range(11)]
        assert answers == [401] * 10 + [429]


class TestBeyondLoopback:
    @pytest.fixture
    def drain_door(self, drain_door):
        return replace(drain_door, open_to_all=False)

    async def test_without_a_key_nobody_drains(self, operations, sessions):
        answer = await operations.post("/drain", key=None)
        assert answer.refusal == (403, "forbidden", None)
        assert not sessions.draining


async def test_start_up_is_told_apart_from_readiness(operations, sessions):
    sessions.started = False
    answer = await operations.request("GET", "/startupz")
    assert (answer.status, answer.json) == (503, {"status": "starting"})
    sessions.started = True
    assert (await operations.request("GET", "/startupz")).status == 200
