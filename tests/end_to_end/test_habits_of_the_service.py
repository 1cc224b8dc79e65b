"""The service's network habits: shared port, lite, candidates in one section, checks it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
from support.client import Client
from support.service import CLIENT_KEY
from support.sessions import client_of, started, watched

from relay.core.ice_check_pairs import CheckTimes
from relay.rtc import upstream_ice
from relay.simulator import SimulatorSettings

# Consent is asked for and lost ten times faster than usual (RFC 7675: every 5 s, lost after 30 s).
FAST = CheckTimes(consent_least=0.4, consent_most=0.6, consent_lost=3.0)
PAST_CONSENT_SECONDS = 4.5

HABITS = {
    "lite": SimulatorSettings(ice_lite=True),
    "lite on one port": SimulatorSettings(ice_lite=True, udp_port=0),
    "candidates in the first section alone": SimulatorSettings(candidates_in_every_section=False),
    "no tcp candidates": SimulatorSettings(tcp_candidates=False),
    "many candidates": SimulatorSettings(ice_addresses=("127.0.0.1", "127.0.0.2", "127.0.0.3")),
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS)
async def test_habits_of_the_service(habits):
    async with watched(habits) as watch, client_of(watch) as client:
        await started(client)
        await client.event("session.created")
        await client.until(lambda: len(client.levels) > 10)
        await watch.world.simulator.until(lambda state: state["sessions"][-1]["rtp"]["packets_received"] > 10)
        if habits.tcp_candidates:
            assert " tcp " in watch.world.simulator.state()["calls"][-1]["answer"]


OFFERS = {
    "no candidates": lambda sdp: _without(sdp, "a=candidate", "a=end-of-candidates"),
    "no candidates, and no more to come": lambda sdp: _without(sdp, "a=candidate"),
    "candidates": lambda sdp: sdp,
    "candidates nobody can resolve": lambda sdp: re.sub(
        r"(a=candidate:\S+ \d udp \d+) \S+", r"\1 8b3a1c52-7a10-4c8f-9a2e-9d1f00c0ffee.local", sdp
    ),
}


@pytest.mark.parametrize("change", OFFERS.values(), ids=OFFERS)
async def test_candidates_of_an_offer_do_not_matter(change):
    """Browsers send none, some, or names that only their own network knows; their checks tell where they are."""
    async with watched() as watch, client_of(watch) as client:
        offer = change(await client.offer(with_candidates=True))
        await started(client, offer)
        await client.event("session.created")
        await client.until(lambda: client.levels)
        await client.peer.close()
        assert (await watch.ended()).counters.downstream.packets_out > 0


def _without(sdp, *starts):
    return "".join(line for line in sdp.splitlines(keepends=True) if not line.startswith(starts))


async def test_sessions_of_one_service_port_are_told_apart():
    """The service answers every session from one address and port."""
    async with watched(SimulatorSettings(udp_port=0)) as watch, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(watch.world.url, CLIENT_KEY)) for _ in range(3)]
        await asyncio.gather(*[started(client) for client in clients])
        for client in clients:
            await client.event("session.created")
            await client.until(lambda client=client: client.levels)
        answers = [call["answer"] for call in watch.world.simulator.state()["calls"]]
        ports = {line.split()[5] for text in answers for line in text.splitlines() if line.startswith("a=candidate")}
        udp = {
            line.split()[5]
            for text in answers
            for line in text.splitlines()
            if line.startswith("a=candidate") and " udp " in line
        }
        assert len(udp) == 1, ports
        for number, session in enumerate(watch.world.simulator.state()["sessions"]):
            await watch.world.simulator.say({"type": "response.output_text.delta", "delta": f"{number}"}, session["id"])
        heard = [(await client.event("response.output_text.delta"))["delta"] for client in clients]
        assert sorted(heard) == ["0", "1", "2"]
        await clients[0].peer.close()
        assert (await watch.ended()).reason == "client_left"
        for client in clients[1:]:
            before = len(client.levels)
            await client.until(lambda client=client, before=before: len(client.levels) > before + 10)


async def test_a_service_that_ignores_plain_checks_does_not_lose_us(monkeypatch):
    """Once connected it answers only checks with USE-CANDIDATE; an agent without it loses its consent."""
    monkeypatch.setattr(upstream_ice, "CheckTimes", lambda: FAST)
    async with watched(SimulatorSettings(consent_quirk=True)) as watch, client_of(watch) as client:
        await started(client)
        await client.event("session.created")
        await asyncio.sleep(PAST_CONSENT_SECONDS)
        assert watch.records == []
        (counters,) = watch.world.relay.registry.live.counters().values()
        assert counters.upstream.packets_in > 3 * 50
        assert counters.downstream.packets_in > 3 * 50
        heard, sent = len(client.levels), watch.session()["rtp"]["packets_received"]
        await client.until(lambda: len(client.levels) > heard + 25)
        await watch.world.simulator.until(lambda state: state["sessions"][-1]["rtp"]["packets_received"] > sent + 25)
        assert watch.session()["end"] is None
