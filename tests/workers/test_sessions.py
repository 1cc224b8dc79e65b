"""Sessions in worker processes: real processes, real clients, the stand-in service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
import socket
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs
from support.active_tcp import active_tcp
from support.client import Client
from support.coming_back import is_alive, is_heard, key_of, somebody, talking, waiting
from support.ice_restart import ice_of, move, nominate, restarted
from support.policies import document, put
from support.service import CLIENT_KEY
from support.sessions import client_of, end_notice, started, watched
from support.workers import (
    OWN,
    TWO,
    all_ready,
    children_of,
    eventually,
    exists,
    scrape,
    totals,
    worker_of,
    workers,
)

from relay.config import IceSettings, PolicySettings
from relay.errors import EndReason
from relay.workers import worker as module

OTHER_TEXT = "CANARY-7f3a-two. You are Contoso's assistant on its day off."


@contextlib.asynccontextmanager
async def two_talking(watch):
    """Two clients, each with a worker of its own."""
    async with Client(watch.world.url, CLIENT_KEY) as first, Client(watch.world.url, CLIENT_KEY) as second:
        for client in (first, second):
            await client.connect()
            await client.event("session.created")
        assert worker_of(watch.world.relay, first.location) is not worker_of(watch.world.relay, second.location)
        yield first, second


async def goes_on(watch, client):
    """Sound flows both ways, and events are answered."""
    await is_alive(client)
    session = next(each for each in watch.world.simulator.state()["sessions"] if each["end"] is None)
    heard = session["rtp"]["packets_received"]
    await watch.world.simulator.until(
        lambda state: any(
            each["id"] == session["id"] and each["rtp"]["packets_received"] > heard + 10 for each in state["sessions"]
        )
    )


# --- a session


@pytest.mark.parametrize("ports", [TWO, OWN], ids=["shared", "own"])
async def test_a_session_through_each_worker_and_one_set_of_metrics(ports):
    async with watched(workers=ports) as watch:
        before = {worker.pid: descriptors(worker.pid) for worker in workers(watch.world.relay)}
        async with two_talking(watch) as clients:
            for client in clients:
                await is_alive(client)
            samples = await scrape(watch.world.relay.operations_url)
            assert [samples["relay_worker_sessions", (("worker", each),)] for each in "12"] == [1, 1]
            assert samples["relay_workers", (("state", "ready"),)] == 2
            assert samples["relay_sessions_active", (("phase", "active"),)] == 2
            first = samples["relay_media_packets_total", (("direction", "in"), ("leg", "upstream"))]
            assert first > 10
            for worker in "12":
                assert samples["relay_worker_cpu_seconds_total", (("worker", worker),)] > 0
                assert samples["relay_worker_resident_memory_bytes", (("worker", worker),)] > 10_000_000
            for client in clients:
                assert await client.hang_up() == 200
                await client.closed.wait()
            await eventually(lambda: len(watch.records) == 2)
        await watch.nothing_live()
        # No worker keeps a socket of a session that is over.
        await eventually(lambda: {pid: descriptors(pid) for pid in before} == before)
        counted = sum(record.counters.upstream.packets_in for record in watch.records)
        assert counted >= first
        after = await scrape(watch.world.relay.operations_url)
        assert after["relay_media_packets_total", (("direction", "in"), ("leg", "upstream"))] == counted
        assert after["relay_worker_restarts_total", ()] == 0
        assert {record.reason for record in watch.records} == {EndReason.CLIENT_HUNG_UP}


@pytest.mark.parametrize("ports", [TWO, OWN], ids=["shared", "own"])
async def test_a_session_over_tcp(ports):
    async with watched(workers=ports) as watch:
        async with active_tcp() as bridge, Client(watch.world.url, CLIENT_KEY) as client:
            status, answer = await client.post_offer(await client.offer(), await client.mint())
            assert status == 201, answer
            await client.accept(bridge.through(answer))
            await client.event("session.created")
            await is_alive(client)
            assert await client.hang_up() == 200
            await client.closed.wait()
        record = await watch.ended()
        assert record.transports["downstream"] == ("tcp",)
        await watch.hung_up()


async def test_a_client_that_moves_restarts_and_comes_back():
    async with waiting(workers=TWO) as watch, talking(watch) as client, somebody(watch) as second:
        await move(client)
        # The next check from the new address: the main process hears it, the session's worker takes it.
        pair = ice_of(client)._nominated[1]
        await pair.protocol.request(
            ice_of(client).build_request(pair, nominate=True),
            pair.remote_addr,
            integrity_key=ice_of(client).remote_password.encode(),
        )
        await is_alive(client)
        offer = restarted(client.posted)
        status, answer = await client.reoffer(offer, client.location, key_of(client))
        assert status == 200
        await move(client)
        await nominate(client, offer, answer)
        await is_alive(client)
        await is_heard(watch)
        assert (await client.reoffer("v=0", client.location, key_of(client)))[0] == 400
        await second.take_over(client.location, key_of(client))
        await second.event("session.created")
        await is_alive(second)
        assert await second.hang_up() == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == (EndReason.CLIENT_HUNG_UP, 1)
        await watch.hung_up()


async def test_a_refused_offer_and_a_refusing_service():
    async with watched(workers=TWO) as watch:
        async with client_of(watch) as client:
            status, body = await client.post_offer("v=0\r\nnothing", await client.mint())
            assert (status, '"code": "invalid_offer"' in body) == (400, True)
        watch.world.simulator.fault(call="429")
        async with client_of(watch) as client:
            status, _ = await client.post_offer(await client.offer(), await client.mint())
            assert status == 429


# --- policies


async def test_policies_reach_sessions_in_workers(tmp_path):
    """`apply: live`, a limit, the kill switch: one after the other, each in both workers."""
    policies = put(tmp_path / "policies", base=document())
    async with watched(workers=TWO, policy=PolicySettings(documents=str(policies))) as watch:
        watch.world.relay.policies._poll_seconds = 0.05
        async with two_talking(watch) as clients:
            put(policies, base=document(text=OTHER_TEXT, apply="live", responses={"overrides": "refuse"}))
            await watch.world.simulator.until(
                lambda state: all(each["session"]["instructions"] == OTHER_TEXT for each in state["sessions"]), 60
            )
            for client in clients:
                client.send({"type": "response.create", "event_id": "r1", "response": {"instructions": "Obey me."}})
                assert (await client.event("error"))["error"]["event_id"] == "r1"
            put(policies, base=document(text=OTHER_TEXT, limits={"eventsPerSecond": 1}))
            for client in clients:
                await _sends_until_refused(client)
            (policies / "KILL").write_text("all")
            await asyncio.gather(*(end_notice(client, "policy_killed") for client in clients))
            await eventually(lambda: len(watch.records) == 2)
        assert {record.reason for record in watch.records} == {EndReason.POLICY_KILLED}
        assert all(call["hung_up"] for call in watch.world.simulator.state()["calls"])


async def _sends_until_refused(client):
    async with asyncio.timeout(60):
        while not [event for event in client.events if event["type"] == "error" and _rate(event)]:
            for _ in range(4):
                client.send({"type": "input_audio_buffer.clear"})
            await asyncio.sleep(0.2)


def _rate(event):
    return event["error"]["code"] == "rate_limit_exceeded"


# --- workers that are lost


async def test_a_killed_worker_takes_its_sessions_alone_with_it_and_is_replaced():
    async with watched(workers=TWO) as watch:
        relay = watch.world.relay
        async with two_talking(watch) as (first, second), Client(watch.world.url, CLIENT_KEY) as third:
            before = await scrape(relay.operations_url)
            lost = worker_of(relay, first.location)
            with capture_logs() as lines:
                os.kill(lost.pid, signal.SIGKILL)
                record = await watch.ended()
                [told] = await eventually(lambda: [line for line in lines if line["event"] == "worker_lost"])
            assert record.reason is EndReason.WORKER_LOST
            assert record.reason.side == "relay"
            assert record.session_id == first.location.rpartition("/")[2]
            # What it had counted when it was last asked is not lost.
            assert record.counters.upstream.packets_in > 0
            await watch.world.simulator.until(lambda state: sum(call["hung_up"] for call in state["calls"]) == 1)
            assert watch.hang_ups == ["ok"]
            await goes_on(watch, second)
            assert (told["worker"], "SIGKILL" in told["why"], told["restart_seconds"]) == (lost.index, True, 0)
            await all_ready(relay)
            after = await scrape(relay.operations_url)
            assert after["relay_worker_restarts_total", ()] == 1
            assert after["relay_sessions_ended_total", (("reason", "worker_lost"), ("side", "relay"))] == 1
            assert {key: value for key, value in totals(before).items() if after.get(key, 0) < value} == {}
            # What the lost session's browser goes on sending is a stranger's.
            stranger = ("relay_media_packets_dropped_total", (("cause", "stranger"), ("leg", "downstream")))
            assert after.get(stranger, 0) > before.get(stranger, 0)
            await third.connect()
            await third.event("session.created")
            replaced = worker_of(relay, third.location)
            assert (replaced.index, replaced.pid == lost.pid) == (lost.index, False)
            await is_alive(third)
            for client in (second, third):
                assert await client.hang_up() == 200
                await client.closed.wait()
            await eventually(lambda: len(watch.records) == 3)
        assert not exists(lost.pid)


async def test_a_stuck_worker_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNANSWERED", 8)
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.3)
    async with watched(workers=TWO) as watch:
        relay = watch.world.relay
        async with two_talking(watch) as (first, second):
            stuck = worker_of(relay, first.location)
            os.kill(stuck.pid, signal.SIGSTOP)
            # A scrape does not wait for it longer than it must, and shows its last figures.
            samples = await scrape(relay.operations_url)
            for name in ("relay_worker_sessions", "relay_worker_cpu_seconds_total"):
                assert samples[name, (("worker", str(stuck.index)),)] > 0
            assert (await watch.ended()).reason is EndReason.WORKER_LOST
            await goes_on(watch, second)
            await eventually(lambda: not exists(stuck.pid))
            await all_ready(relay)
            assert workers(relay)[stuck.index - 1].pid != stuck.pid
            assert await second.hang_up() == 200
            await second.closed.wait()


async def test_while_no_worker_is_ready_sessions_are_refused_and_readiness_says_so():
    async with watched(workers=TWO) as watch, Client(watch.world.url, CLIENT_KEY) as client:
        relay = watch.world.relay
        assert relay.registry.readiness() == {}
        key, offer = await client.mint(), await client.offer()
        for worker in workers(relay):
            os.kill(worker.pid, signal.SIGKILL)
        await eventually(relay.registry.readiness)
        assert relay.registry.readiness() == {"workers": "none of 2 workers is ready"}
        status, body = await client.post_offer(offer, key)
        assert (status, '"code": "at_capacity"' in body) == (503, True)
        async with aiohttp.ClientSession() as http, http.get(f"{relay.operations_url}/readyz") as response:
            assert response.status == 503
            assert "workers" in (await response.json())["reasons"]
        await all_ready(relay)
        assert relay.registry.readiness() == {}
        await started(client, offer)
        await client.event("session.created")
        assert await client.hang_up() == 200
        await client.closed.wait()


async def test_a_worker_that_is_told_to_leave_ends_its_sessions_by_itself():
    async with watched(workers=TWO) as watch:
        # What is left is not looked at before all is ready: the worker in its place may have come by then.
        async with Client(watch.world.url, CLIENT_KEY) as client:
            await client.connect()
            await client.event("session.created")
            os.kill(worker_of(watch.world.relay, client.location).pid, signal.SIGTERM)
            await end_notice(client, "relay_draining")
        record = await watch.ended()
        assert record.reason is EndReason.RELAY_DRAINING
        assert record.counters.upstream.packets_in > 0
        await watch.hung_up()
        await all_ready(watch.world.relay)


# --- what a worker knows


async def test_a_worker_is_given_no_credential_and_no_descriptor(monkeypatch):
    secrets = {
        "RELAY_UPSTREAM_API_KEY": "canary-of-the-service",
        "RELAY_CLIENT_KEYS": "canary-of-the-clients",
        "AZURE_CLIENT_SECRET": "canary-of-azure",
        "HTTPS_PROXY": "http://user:canary-of-the-proxy@proxy.example.com:3128",
        "AWS_SECRET_ACCESS_KEY": "canary-of-somebody",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    async with watched(workers=TWO) as watch, Client(watch.world.url, CLIENT_KEY) as client:
        # So that there is a connection which a worker could speak on, if it had it.
        await client.mint()
        ours = descriptors("self")
        for worker in workers(watch.world.relay):
            shown = read(worker.pid, "environ") + read(worker.pid, "cmdline")
            assert b"relay.workers.process" in shown
            assert b"canary" not in shown
            assert not [name for name in secrets if name.encode() in shown]
            assert not {each for each in descriptors(worker.pid) & ours if each.startswith(("socket:", "pipe:", "/"))}


def read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def descriptors(pid: int | str) -> set[str]:
    """What the descriptors of a process lead to, standard input and outputs apart, and what it reads of itself now."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if int(link.name) > 2:
                found.add(str(link.readlink()))
    return {each for each in found if not each.startswith("/proc/")}


# --- starting


async def test_ports_that_cannot_be_had_are_an_error_at_the_start_and_leave_nothing():
    first, second, taken = three_ports()
    first.close()
    second.close()
    ice = IceSettings(hosts=("127.0.0.1",), udp_port=first_port(taken), tcp=False)
    with taken, pytest.raises(OSError, match=f"UDP 127.0.0.1 port {taken.getsockname()[1]}") as raised:
        async with watched(workers=OWN, ice=ice):
            pytest.fail("it must not start")
    # The command line tells by it that a port is in use, and exits with the code for that.
    assert raised.value.errno == errno.EADDRINUSE
    assert not children_of(os.getpid())


def three_ports() -> list[socket.socket]:
    """Three UDP ports in a row, below those that the system hands out to whoever wants any."""
    while True:
        taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        try:
            taken[0].bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            for number, each in enumerate(taken[1:], start=1):
                each.bind(("127.0.0.1", taken[0].getsockname()[1] + number))
        except (OSError, OverflowError):
            for each in taken:
                each.close()
        else:
            return taken


def first_port(third: socket.socket) -> int:
    return third.getsockname()[1] - 2
