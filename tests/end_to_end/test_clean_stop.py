"""`relay serve` told to stop while somebody talks: what the session left is in the database afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import threading

import pytest
from support.client import Client
from support.program import environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT, bench

from relay.config import QuotaSettings, StateSettings
from relay.simulator import Simulator, SimulatorSettings


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_clean_stop_loses_nothing(tmp_path, workers):
    async with Simulator(SimulatorSettings(deployments=(DEPLOYMENT,))) as service:
        given = environment(
            service.url,
            RELAY_STATE_DIRECTORY=str(tmp_path),
            RELAY_LIMITS_DRAIN_SECONDS="0",
            RELAY_WORKERS=workers,
            RELAY_COST_PRICES=f"{DEPLOYMENT} output_audio=64 output_text=16",
        )
        async with serving(**given) as program:
            url = (await program.line("started"))["public_url"]
            async with Client(url, CLIENT_KEY) as client:
                await client.connect()
                await client.event("session.created")
                client.send({"type": "session.update", "session": {"type": "realtime", "instructions": "my own"}})
                await client.event("session.updated")
                client.send({"type": "response.create"})
                usage = (await client.event("response.done"))["response"]["usage"]
                assert held(tmp_path) == 1
                program.process.send_signal(signal.SIGTERM)
                assert await program.stopped() == 0
    [(session, reason, body)] = rows(tmp_path, "SELECT id, reason, body FROM sessions")
    assert reason == "relay_draining"
    kept = json.loads(body)
    assert kept["tokens"] == usage["total_tokens"] > 0
    [(sessions, seconds, tokens)] = rows(tmp_path, "SELECT sessions, seconds, tokens FROM usage WHERE subject != ''")
    assert (sessions, tokens) == (1, usage["total_tokens"])
    assert seconds > 0
    assert ("session.update",) in rows(tmp_path, f"SELECT event_type FROM decisions WHERE session = '{session}'")
    assert held(tmp_path) == 0


async def test_a_session_that_still_waits_for_its_place_does_not_outlive_the_drain(tmp_path):
    """It would take the place after all places were given back, and hold it until it lapses."""
    free = threading.Event()
    sections = {"state": StateSettings(directory=str(tmp_path)), "quotas": QuotaSettings(relay_sessions=1)}
    async with bench(early_most=2, **sections) as world, Client(world.url, CLIENT_KEY) as client:
        await world.relay.store.ping()
        busy = asyncio.create_task(world.relay.store.database.run(lambda _: free.wait(30)))
        await client.mint()
        registry = world.relay.registry
        assert len(registry._preparing) == 1
        await registry.drain(0)
        assert not registry._preparing
        free.set()
        await busy
    assert held(tmp_path) == 0


def held(directory):
    [(places,)] = rows(directory, "SELECT count(*) FROM leases")
    return places


def rows(directory, question):
    with sqlite3.connect(directory / "relay.db") as database:
        return database.execute(question).fetchall()
