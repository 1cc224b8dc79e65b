"""Many sessions, one after the other: afterwards everything is as it was."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

import pytest
from aiortc.rtcsctptransport import WEBRTC_STRING
from support.client import Client
from support.resources import held, nothing_left_since, resident_bytes, settled
from support.service import CLIENT_KEY, bounds
from support.sessions import answered, started, watched

from relay.conversation import Conversation
from relay.core.ephemeral_keys import EphemeralKeys
from relay.core.event_filter import EventFilter
from relay.rtc.bridge import Bridge
from relay.rtc.dtls import DtlsSession
from relay.rtc.ice_lite import IceLiteAgent
from relay.rtc.leg import Leg
from relay.rtc.rtp_stream import RtpStream
from relay.rtc.sctp import Association
from relay.rtc.udp import UdpSocket
from relay.rtc.upstream_ice import UpstreamIce
from relay.session import Session

OF_A_SESSION = (Conversation, Session, Bridge, EventFilter, Leg, RtpStream, DtlsSession, Association,
                IceLiteAgent, UpstreamIce, UdpSocket)  # fmt: skip
WARM_UP = 120
# What 80 sessions may add to the process, client and stand-in included, beyond what 120 needed: the allocator's arenas
# grow for the first hundred, and then hold what comes.
GROWTH_BYTES = 5 * 1024 * 1024


@pytest.mark.timeout(240)
@pytest.mark.parametrize("sessions", [12, pytest.param(200, marks=pytest.mark.long)])
async def test_sessions_in_sequence_leave_nothing(sessions):
    async with watched() as watch:
        before, objects_before = held(), objects()
        for number in range(sessions):
            if number == WARM_UP:
                gc.collect()
                resident = resident_bytes()
            watch.records.clear()
            async with Client(watch.world.url, CLIENT_KEY, sound=False) as client:
                await client.connect()
            assert (await watch.ended()).reason == "client_left"
        await watch.nothing_live()
        await nothing_left_since(before, sockets=False)
        left = objects() - objects_before
        assert not left, left
        check_keys(watch.world)
        if sessions > WARM_UP:
            growth = resident_bytes() - resident
            assert growth < GROWTH_BYTES, growth


async def leaves(watch, client):
    await client.connect()
    client.channel.close()


async def breaks_a_rule(watch, client):
    await client.connect()
    await client.peer.sctp._send(client.channel.id, WEBRTC_STRING, b"\xff")


async def never_starts_dtls(watch, client):
    over = asyncio.Event()
    offer = await client.offer()
    client.peer.getTransceivers()[0].sender.transport.start = over.wait
    await started(client, offer)
    await watch.ended()
    over.set()


async def is_refused_by_the_service(watch, client):
    watch.world.simulator.fault(call="500")
    await answered(client, await client.mint())


@pytest.mark.parametrize("end", [leaves, breaks_a_rule, never_starts_dtls, is_refused_by_the_service])
async def test_no_session_waits_for_the_garbage_collector(end):
    """It looks at every session that runs, and holds up all their packets meanwhile; so it is to come rarely."""
    async with watched(limits=bounds(dtls_seconds=1.0)) as watch:
        objects_before = objects()
        gc.disable()
        try:
            async with Client(watch.world.url, CLIENT_KEY, sound=False) as client:
                await end(watch, client)
                await watch.ended()
            await watch.nothing_live()
            # The last task that knows it ends a turn of the loop later.
            left = await settled(lambda: alive() - objects_before)
        finally:
            gc.enable()
        assert not left, left


def objects():
    """How many of each kind of thing that a session is made of are alive, when all garbage is gone."""
    gc.collect()
    return alive()


def alive():
    """The same, with what waits for the collector; what is known weakly is not counted twice."""
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in OF_A_SESSION)


def check_keys(world):
    """No ended session's answer is kept, and its key goes a little later."""
    keys = world.relay.registry._on_end.__closure__[0].cell_contents
    assert isinstance(keys, EphemeralKeys)
    assert keys._by_session == {}
    assert [key for key in keys._keys.values() if key.answer is not None] == []
    keys._purge(time.time() + 3600)
    assert (len(keys), keys._bytes_held) == (0, 0)
