"""Addresses change under a running session: the conversation and its upstream leg stay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from network.browser import Call
from network.lab import Host
from network.programs import until
from network.shapes import World
from network.test_reach import shape, talked

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]

GAP_SECONDS = 3.0
NEW_ADDRESS = "198.51.100.99"


async def test_three_nat_rebindings_each_with_a_gap_under_3_s(lab):
    async with shape(lab, "nat") as (there, call):
        await call.start()
        await talked(there, call)
        session = there.service.session()["id"]
        lab.reset()
        for number in range(1, 4):
            assert there.client.rebind() >= 1
            await heard_again(there)
            assert len(there.relay.host.audio("into", there.client)["ports"]) == number
        assert_gap_under(there, GAP_SECONDS)
        await same_session(there, call, session)
        assert "failed" not in await states(call)


async def test_ice_restarts_lose_nothing_and_a_new_address_costs_under_3_s_from_its_restart(lab):
    async with shape(lab, "direct") as (there, call):
        await call.start()
        await talked(there, call)
        session = there.service.session()["id"]
        lab.reset()
        for _ in range(3):
            await call.page.evaluate("() => call.restart()")
            await heard_again(there)
        assert there.service.host.audio("into")["missing"] == 0
        assert there.client.audio("into")["missing"] == 0

        there.client.move(NEW_ADDRESS)
        lab.reset()
        await call.page.evaluate("() => call.restart()")
        await heard_again(there)
        assert_gap_under(there, GAP_SECONDS)
        assert (await call.stats())["local"]["address"] == NEW_ADDRESS
        await same_session(there, call, session)


async def test_a_reload_is_attached_again(lab):
    async with shape(lab, "direct") as (there, call):
        await call.start()
        await talked(there, call)
        session = there.service.session()["id"]
        key, location = await call.page.evaluate("[call.key, call.location]")
        await call.open()
        await call.page.evaluate("([key, location]) => call.resume(key, location)", [key, location])
        created = await call.event("session.created")
        assert "instructions" not in created["session"]
        await talked(there, call)
        await same_session(there, call, session)


async def test_a_line_that_is_dead_for_five_seconds(lab):
    async with shape(lab, "direct") as (there, call):
        await call.start()
        await talked(there, call)
        session = there.service.session()["id"]
        there.client.blackout(5.0)
        await asyncio.sleep(5.0)
        await call.flowing()
        await same_session(there, call, session)


async def heard_again(there: World, seconds: float = 10.0) -> None:
    """Wait until sound of after the change has reached both ends."""
    service, client = there.service.host, there.client
    before = packets(service), packets(client)
    await until(
        lambda: packets(service) > before[0] + 10 and packets(client) > before[1] + 10,
        "sound both ways",
        seconds=seconds,
    )


def packets(host: Host) -> int:
    return sum(int(flow["packets"]) for flow in host.seen("into").flows)


def assert_gap_under(there: World, seconds: float) -> None:
    gaps = {host.role: host.audio("into")["longest_pause"] for host in (there.service.host, there.client)}
    assert max(gaps.values()) < seconds, gaps


async def same_session(there: World, call: Call, wanted: str) -> None:
    """One call at the service in all, its session open, and events answered."""
    state = there.service.state()
    assert len(state["calls"]) == 1
    session: dict[str, Any] = there.service.session()
    assert (session["id"], session["state"]) == (wanted, "open")
    await call.answered()


async def states(call: Call) -> list[str]:
    return [each[1] for each in await call.page.evaluate("call.states")]
