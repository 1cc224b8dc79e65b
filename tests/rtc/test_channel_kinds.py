"""Channels of other kinds than the usual ordered, reliable one."""

from __future__ import annotations

import json

import pytest
from support.client import Client
from support.service import CLIENT_KEY
from support.sessions import watched


@pytest.mark.parametrize(
    "options", [{"ordered": False}, {"maxRetransmits": 0}, {"ordered": False, "maxPacketLifeTime": 50}]
)
async def test_v200_an_unordered_or_lossy_channel_is_served_and_the_services_is_not(options):
    """Decisions are made in the order of arrival; partial reliability is not agreed on, so nothing is given up."""
    async with watched() as watch, Client(watch.world.url, CLIENT_KEY, sound=False) as client:
        client.channel = client.peer.createDataChannel("oai-events", **options)
        client.peer.sctp._data_channel_queue.popleft()  # the channel that the client would have opened first
        client.channel.on("open", client.opened.set)
        client.channel.on("message", client._on_message)
        await client.connect()
        await client.event("session.created")
        client.send({"type": "session.update", "session": {"type": "realtime", "instructions": "x"}})
        await client.event("session.updated")
        (session,) = watch.world.simulator.state()["sessions"]
        assert session["other_channels"] in (0, [])


async def test_v198_what_is_said_on_a_channel_nobody_announced_goes_nowhere():
    async with watched() as watch, Client(watch.world.url, CLIENT_KEY, sound=False) as client:
        await client.connect()
        await client.event("session.created")
        unannounced = client.peer.createDataChannel("x", negotiated=True, id=100)
        update = {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"speed": 1.2}}}}
        unannounced.send(json.dumps(update))
        client.send({"type": "input_audio_buffer.clear"})
        await client.event("input_audio_buffer.cleared")
        (session,) = watch.world.simulator.state()["sessions"]
        assert [event["type"] for event in session["client_events"]] == ["input_audio_buffer.clear"]
