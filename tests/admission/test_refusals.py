"""A relay without room: what the door answers, what readiness and metrics tell; running sessions go on."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from support.client import Client
from support.resources import settled
from support.service import CLIENT_KEY, bench, bounds
from support.sessions import answered

from relay.config import AdmissionSettings
from relay.core.headroom import LoadSample

OFF = AdmissionSettings(cpu=0, loop_lag_seconds=0, setups=0)
BUSY = LoadSample(cpu=1.0, cores=2.0, loop_lag_seconds=0.001)


async def told(world) -> tuple[int, dict, str]:
    """Status and body of `/readyz`, and the metrics."""
    async with aiohttp.ClientSession(world.relay.operations_url) as http:
        async with http.get("/readyz") as response:
            status, body = response.status, await response.json()
        async with http.get("/metrics") as response:
            return status, body, await response.text()


async def test_a_relay_short_of_cpu_refuses_new_sessions_says_so_and_keeps_those_it_has():
    async with bench(admission=AdmissionSettings(loop_lag_seconds=0, setups=0)) as world:
        headroom = world.relay.registry._headroom
        async with Client(world.url, CLIENT_KEY) as client, Client(world.url, CLIENT_KEY) as second:
            await client.connect()
            for second_ahead in range(30):
                headroom.take(BUSY, asyncio.get_running_loop().time() + second_ahead)
            key = await second.mint()  # minting goes on: the key may be used at another relay, or later
            status, headers, error = await answered(second, key)
            assert (status, error["code"], headers["retry-after"]) == (503, "at_capacity", "5")
            assert len(world.simulator.state()["mints"]) == 1
            ready, body, metrics = await told(world)
            assert ready == 503
            assert body["reasons"]["capacity"].startswith("short of cpu with 1 session")
            assert 'relay_capacity_refusals_total{resource="cpu"} 1.0' in metrics
            assert 'relay_capacity_ratio{resource="cpu"} 1.1' in metrics
            assert "relay_ready 0.0" in metrics
            await client.event("session.created")
            client.microphone.level = 1.0
            await client.event("input_audio_buffer.speech_started")


async def test_more_clicks_than_may_begin_at_once_are_told_when_to_come_back():
    only_setups = AdmissionSettings(cpu=0, loop_lag_seconds=0, setups=1, setup_cpu_seconds=1.0)
    async with bench(admission=only_setups) as world:
        async with Client(world.url, CLIENT_KEY) as first, Client(world.url, CLIENT_KEY) as second:
            await first.connect()
            status, headers, error = await answered(second, await second.mint())
        assert (status, error["code"]) == (503, "at_capacity")
        assert 1000 <= int(headers["retry-after-ms"]) <= 1000 * int(headers["retry-after"]) <= 30_000
        ready, _, metrics = await told(world)
        assert ready == 200
        assert 'relay_capacity_refusals_total{resource="setups"} 1.0' in metrics


async def test_the_count_of_sessions_is_a_resource_like_the_others():
    async with bench(limits=bounds(max_sessions=2)) as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        _, _, metrics = await told(world)
        assert 'relay_capacity_ratio{resource="sessions"} 0.5' in metrics


async def test_whoever_only_connects_leaves_sessions_the_files_they_need(monkeypatch):
    """Idle connections need no key: with no more than 1024 open files allowed they would fill them all."""
    monkeypatch.setattr("relay.listeners.max_files", lambda: 40)
    async with bench() as world, contextlib.AsyncExitStack() as stack:
        closed = []
        for number in range(15):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int(world.url.rpartition(":")[2]), local_addr=(f"127.0.0.{1 + number % 2}", 0)
            )
            stack.callback(writer.close)
            closed.append(asyncio.create_task(reader.read()))
        assert not await settled(lambda: sum(each.done() for each in closed) < 5)
        assert sum(each.done() for each in closed) == 5
        for each in closed:
            each.cancel()
        await asyncio.gather(*closed, return_exceptions=True)
