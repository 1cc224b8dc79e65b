"""Sessions that run, as administrators see and end them: a real client, a real service's stand-in, both legs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from support.administrators import ADMIN_KEY, Office, admin_settings
from support.client import Client
from support.service import INSTRUCTIONS
from support.sessions import Watch, client_of, end_notice, watched

from relay.config import QuotaSettings

KILL = "/kill-switch"


@contextlib.asynccontextmanager
async def talking(**sections: Any) -> AsyncIterator[tuple[Office, Watch, Client]]:
    """A relay with one session under way."""
    async with (
        watched(admin=admin_settings(), **sections) as watch,
        aiohttp.ClientSession() as http,
        client_of(watch) as client,
    ):
        await client.connect()
        await client.event("session.created")
        yield Office(watch.world.relay.operations_url, http), watch, client


async def the_session(office: Office) -> dict[str, Any]:
    [found] = (await office.ask("GET", "/sessions")).json["sessions"]
    return dict(found)


async def recorded(office: Office, session_id: str) -> dict[str, Any]:
    """The session once it is in the store; it is written behind its back."""
    async with asyncio.timeout(10):
        while "ended_at" not in (found := (await office.ask("GET", f"/sessions/{session_id}")).json):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dict(found)


async def test_a_session_is_seen_ended_and_kept_with_what_happened_in_it():
    async with talking() as (office, watch, client):
        live = await the_session(office)
        assert (live["phase"], live["tenant"], live["policy"]) == ("active", "default", "default")
        assert live["transports"] == {"downstream": "udp", "upstream": "udp"}
        client.microphone.level = 1.0
        await client.event("input_audio_buffer.speech_started")
        client.microphone.level = 0.0
        await client.event("response.done")
        detail = (await office.ask("GET", f"/sessions/{live['id']}")).json
        kinds = [entry["kind"] for entry in detail["timeline"]]
        assert (kinds[0], detail["timeline"][0]["text"]) == ("phase", "new")
        assert {"stage", "transport", "answer_began", "answered"} <= set(kinds)
        assert [entry["at"] for entry in detail["timeline"]] == sorted(entry["at"] for entry in detail["timeline"])
        assert detail["turns"] == {"completed": 1}
        assert detail["tokens"] > 0
        assert detail["quality"]["downstream"]["packets_in"] > 0
        ended = await office.ask("POST", f"/sessions/{live['id']}/end", json={"note": "asked to"})
        assert (ended.status, ended.json) == (202, {"id": live["id"], "status": "ending"})
        await end_notice(client, "operator_ended", 5)
        await watch.hung_up()
        kept = await recorded(office, live["id"])
        assert (kept["reason"], kept["phase"]) == ("operator_ended", "closed")
        assert kept["timeline"][-1]["kind"] == "ended"
        assert kept["timeline"][-1]["text"] == "operator_ended"
        assert INSTRUCTIONS not in json.dumps(kept)
        [listed] = (await office.ask("GET", "/sessions/recorded?reason=operator_ended")).json["sessions"]
        assert listed["id"] == live["id"]
        assert (await office.ask("POST", f"/sessions/{live['id']}/end", json={})).refusal == (404, "not_found")
        rows = (await office.ask("GET", f"/audit?target={live['id']}")).json["audit"]
        assert [(row["action"], row["accepted"]) for row in rows] == [("session.end", False), ("session.end", True)]
        assert rows[1]["actor"] == "admin.key"
        assert rows[1]["body"] == {"note": "asked to"}
        assert (await office.ask("GET", "/audit/verify")).json == {"ok": True, "rows": len(rows), "first_bad": None}


async def test_limits_are_told_with_what_is_used_now_and_not_written_down_yet(monkeypatch):
    # Nothing is written down by itself while this test runs.
    monkeypatch.setattr("relay.quotas.FLUSH_SECONDS", 3_600.0)
    async with talking(quotas=QuotaSettings(user_sessions=3, tenant_minutes_a_day=60)) as (office, _watch, _client):
        told = (await office.ask("GET", "/limits")).json
        assert (told["limits"]["user_sessions"], told["limits"]["tenant_minutes_a_day"]) == (3, 60)
        [tenant] = told["today"]["tenants"]
        assert (tenant["tenant"], tenant["sessions"]) == ("default", 1)
        assert tenant["seconds"] > 0
        [subject] = told["today"]["subjects"]
        assert (subject["tenant"], subject["sessions"]) == ("default", 1)


async def test_a_tenants_sessions_are_ended_together_and_nobody_elses():
    async with talking() as (office, watch, client):
        assert (await office.ask("POST", "/tenants/another/end", json={})).json == {"ended": 0}
        assert not watch.records
        assert (await office.ask("POST", "/tenants/default/end", json={"note": "x"})).json == {"ended": 1}
        await end_notice(client, "operator_ended", 5)
        await watch.hung_up()


@pytest.mark.parametrize(
    "stopped",
    [{"everybody": True}, {"tenants": ["default"]}, {"policies": ["default"]}],
    ids=lambda each: next(iter(each)),
)
async def test_the_kill_switch_ends_sessions_lets_nobody_in_and_is_taken_back(stopped):
    nobody = {"everybody": False, "tenants": [], "policies": []}
    async with talking() as (office, watch, client):
        moved = await office.ask("PUT", KILL, json={**nobody, **stopped, "note": "incident"})
        assert (moved.status, moved.json) == (200, {**nobody, **stopped})
        # In force when it is answered: whoever looks now finds the session ending, and the client is told why.
        await end_notice(client, "policy_killed", 5)
        await watch.hung_up()
        assert (await office.ask("GET", "/status")).json["kill_switch"] == {**nobody, **stopped}
        with pytest.raises(AssertionError, match="policy_violation"):
            await client.mint()
        assert (await office.ask("PUT", KILL, json=nobody)).json == nobody
        await client.mint()
        rows = (await office.ask("GET", "/audit?action=kill_switch")).json["audit"]
        assert len(rows) >= 2
        assert {row["accepted"] for row in rows} == {True}


class Events:
    """A reader of server-sent events, as a browser's fetch reads them."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = response.content

    async def next(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                event = (await self._lines.readuntil(b"\n\n")).decode()
                kind, data = event.removesuffix("\n\n").split("\n")
                if kind == f"event: {name}":
                    return dict(json.loads(data.removeprefix("data: ")))


async def test_the_stream_tells_what_changes_and_ends_with_the_listener():
    async with talking() as (office, _watch, client):
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with office.http.get(f"{office.url}/admin/v1/sessions/stream", headers=headers) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-store"
            events = Events(response)
            assert (await events.next("status"))["sessions"] == 1
            listed = await events.next("sessions")
            assert listed.keys() == (await office.ask("GET", "/sessions")).json.keys()
            [session] = listed["sessions"]
            await office.ask("POST", f"/sessions/{session['id']}/end", json={})
            await end_notice(client, "operator_ended", 5)
            while (await events.next("sessions"))["sessions"]:
                pass
