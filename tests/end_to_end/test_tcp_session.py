"""A whole session of a client whose every datagram to the relay goes over TCP."""

from __future__ import annotations

from dataclasses import replace

import aioice.ice
from support.active_tcp import active_tcp
from support.client import Client
from support.service import CLIENT_KEY, relay_settings
from support.sessions import watched

from relay.rtc.path import Transport

NO_SERVICE = "http://127.0.0.1:1"


def selected_paths(world):
    """The path each live session sends on towards its client."""
    endpoint = world.relay.registry._host._plane.endpoint
    return [agent.selected for agent in endpoint._by_ufrag.values()]


async def call(client: Client) -> str:
    """Mint and post an offer; the answer."""
    status, answer = await client.post_offer(await client.offer(), await client.mint())
    assert status == 201, answer
    return answer


async def test_speech_and_events_flow_over_tcp_alone():
    async with watched() as watch:
        async with active_tcp() as bridge, Client(watch.world.url, CLIENT_KEY) as client:
            await client.accept(bridge.through(await call(client)))
            await client.event("session.created")
            assert [path.transport for path in selected_paths(watch.world)] == [Transport.TCP]
            assert watch.world.relay.registry._host._plane.endpoint._inlets[0]._paths == {}
            client.microphone.level = 1.0
            await client.event("input_audio_buffer.speech_started")
            client.microphone.level = 0.0
            await client.event("input_audio_buffer.speech_stopped")
            await client.until(lambda: max(client.levels, default=0) > 1000)
            done = await client.event("response.done")
            assert done["response"]["status"] == "completed"
            assert await client.hang_up() == 200
            await client.closed.wait()
            assert sum(line.frames for line in bridge.lines.values()) > 100
        await watch.hung_up()


async def test_a_reset_connection_is_replaced_by_the_next_check(monkeypatch):
    """The client's consent checks go on; the first on a new connection makes it the session's path."""
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.3)
    async with watched() as watch:
        async with active_tcp() as bridge, Client(watch.world.url, CLIENT_KEY) as client:
            await client.accept(bridge.through(await call(client)))
            await client.event("session.created")
            (before,) = selected_paths(watch.world)
            await bridge.cut()
            client.microphone.level = 1.0
            await client.event("input_audio_buffer.speech_started")
            (after,) = selected_paths(watch.world)
            assert (after.transport, after is before) == (Transport.TCP, False)
            assert await client.hang_up() == 200
        assert len(watch.world.simulator.state()["calls"]) == 1


async def test_without_tcp_nothing_listens_and_no_candidate_says_so():
    ice = replace(relay_settings(NO_SERVICE).ice, tcp=False)
    async with watched(ice=ice) as watch, Client(watch.world.url, CLIENT_KEY) as client:
        answer = await call(client)
        assert " udp " in answer
        assert "tcptype" not in answer
        await client.accept(answer)
        await client.event("session.created")
        assert await client.hang_up() == 200
        await client.closed.wait()
