"""Everything that can go wrong at the client: its session ends in an orderly way, or goes on, and nobody else's."""

from __future__ import annotations

import asyncio
import re
from struct import pack

import pytest
from aiortc.rtcsctptransport import WEBRTC_DCEP, WEBRTC_STRING
from support.service import bounds
from support.sessions import client_of, end_notice, started, watched

from relay.rtc.sctp import Association

CLEAR = {"type": "input_audio_buffer.clear"}


async def is_alive(client):
    """The session answers what is asked now."""
    before = len(client.events)
    client.send(CLEAR)
    await client.until(lambda: any(event["type"] == "input_audio_buffer.cleared" for event in client.events[before:]))


def silence(client):
    """The client's network is gone: nothing leaves it, nothing reaches it, nobody is told."""
    for protocol in client.peer.sctp.transport.transport._connection._protocols:
        protocol.transport.sendto = lambda *_: None
        protocol.datagram_received = lambda *_: None


async def send_raw(client, kind, data, stream=None):
    """Put a message on a stream, the event channel's if none is named, that no browser would let a page send."""
    await client.peer.sctp._send(client.channel.id if stream is None else stream, kind, data)


async def test_the_client_vanishes():
    async with watched(limits=bounds(consent_seconds=2.0)) as watch, client_of(watch) as client:
        await client.connect()
        await client.event("session.created")
        silence(client)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_lost", "no checks and no media from the client")
        await watch.hung_up()


@pytest.mark.parametrize("what", ["channel", "peer"])
async def test_the_client_leaves(what):
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        await client.event("session.created")
        if what == "peer":
            await client.peer.close()
        else:
            client.channel.close()
        assert (await watch.ended()).reason == "client_left"
        await watch.hung_up()


async def test_the_client_never_answers_on_the_network():
    async with watched(limits=bounds(ice_seconds=1.0)) as watch, client_of(watch) as client:
        status, _ = await client.post_offer(await client.offer(), await client.mint())
        assert status == 201
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_unreachable", "ice not done after 1 s")
        assert record.counters.upstream.packets_out == record.counters.downstream.packets_out == 0
        await watch.hung_up()


async def test_the_client_never_starts_dtls():
    async with watched(limits=bounds(dtls_seconds=1.0)) as watch, client_of(watch) as client:
        offer = await client.offer()
        over = asyncio.Event()

        async def never(_):
            await over.wait()

        client.peer.getTransceivers()[0].sender.transport.start = never
        await started(client, offer)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_dtls_failed", "dtls not done after 1 s")
        assert "downstream.ice" in record.stages
        await watch.hung_up()
        over.set()


async def test_the_client_has_another_certificate_than_its_offer_says():
    async with watched() as watch, client_of(watch) as client:
        offer = re.sub(r"(a=fingerprint:\S+ )..", r"\1AB", await client.offer())
        assert offer.count(" AB:") >= 1
        await started(client, offer)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_dtls_failed", "dtls failed")
        assert record.counters.upstream.packets_out == record.counters.downstream.packets_out == 0
        await watch.hung_up()


async def test_the_client_never_opens_a_channel():
    async with watched(limits=bounds(channel_seconds=1.0)) as watch, client_of(watch) as client:
        offer = await client.offer()

        async def never(*_):
            return

        client.peer.sctp.start = never
        await started(client, offer)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_channel_timeout", "channel not done after 1 s")
        await watch.hung_up()


PROTOCOL_ERRORS = {
    "text message is not UTF-8": (WEBRTC_STRING, b'{"type":"input_audio_buffer.clear\xff"}', None),
    "second DCEP OPEN on an open stream": (WEBRTC_DCEP, pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x", None),
    "short DCEP OPEN": (WEBRTC_DCEP, b"\x03\x00", 9),
}


@pytest.mark.parametrize("detail", PROTOCOL_ERRORS)
async def test_protocol_errors_end_the_session_in_order(detail):
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        await client.event("session.created")
        await send_raw(client, *PROTOCOL_ERRORS[detail])
        error = await end_notice(client, "client_protocol_error")
        assert error["type"] == "invalid_request_error"
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_protocol_error", detail)
        assert watch.session()["client_events"] == []
        await watch.hung_up()


async def test_a_message_above_the_limit_costs_only_itself():
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        client.peer.sctp._remote_max_message_size = 0
        padding = "x" * (262_145 - len('{"type":"response.create","x":""}'))
        client.send(f'{{"type":"response.create","x":"{padding}"}}')
        error = await client.event("error")
        assert error["error"]["code"] == "event_too_large"
        await is_alive(client)
        assert [event["type"] for event in watch.session()["client_events"]] == ["input_audio_buffer.clear"]


async def test_a_message_that_ignores_the_limit_ends_the_session_and_is_never_kept_whole(monkeypatch):
    kept = []
    receive = Association.receive

    def watched_receive(self, packet):
        receive(self, packet)
        kept.append(self.incomplete_bytes)

    monkeypatch.setattr(Association, "receive", watched_receive)
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        client.peer.sctp._remote_max_message_size = 0
        client.send("x" * 1_048_576)
        await end_notice(client, "client_message_too_large")
        assert (await watch.ended()).reason == "client_message_too_large"
        # A little more than the largest message that is let in, of four times as much that was sent.
        assert 262_144 < max(kept) <= 262_144 + 65_536
        assert watch.session()["client_events"] == []
        await watch.hung_up()


async def test_binary_messages_are_refused_and_cost_nothing():
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        client.channel.send(b'{"type":"response.create"}')
        error = await client.event("error")
        assert error["error"]["code"] == "invalid_event"
        client.channel.send(b"")
        await is_alive(client)
        assert watch.session()["binary_messages"] == 0


async def test_a_second_channel_is_closed_unread():
    async with watched() as watch, client_of(watch) as client:
        await client.connect()
        second = client.peer.createDataChannel("second")
        closed = asyncio.Event()
        second.on("open", lambda: second.send('{"type":"response.create"}'))
        second.on("close", closed.set)
        await asyncio.wait_for(closed.wait(), 10)
        await is_alive(client)
        state = watch.session()
        assert [event["type"] for event in state["client_events"]] == ["input_audio_buffer.clear"]
        assert state["other_channels"] == 0


async def test_an_offer_of_audio_alone_is_a_session_too():
    async with watched() as watch, client_of(watch, data=False) as client:
        client.microphone.level = 1.0
        await started(client)
        await client.until(lambda: len(client.levels) > 50)
        client.microphone.level = 0.0
        await client.until(lambda: max(client.levels) > 1000)
        assert watch.session()["channel_label"] == "oai-events"
        assert watch.records == []
        await client.peer.close()
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_left", "DTLS closed")
        assert "downstream.channel" not in record.stages
        await watch.hung_up()


async def test_a_little_too_much_is_refused_and_a_flood_ends_the_session():
    async with watched(limits=bounds(events_per_second=20)) as watch, client_of(watch) as client:
        await client.connect()
        for _ in range(45):
            client.send(CLEAR)
        assert (await client.event("error"))["error"]["code"] == "rate_limit_exceeded"
        for _ in range(400):
            client.send(CLEAR)
        await end_notice(client, "client_flood")
        assert (await watch.ended()).reason == "client_flood"
        # Answers stop long before the end does: a flood is not answered by a flood.
        refusals = [event for event in client.events if event["type"] == "error"]
        assert 1 < len(refusals) <= 20 + 1
        assert len(watch.session()["client_events"]) < 60
        await watch.hung_up()


async def test_a_client_that_does_not_read_is_ended_before_events_pile_up():
    async with watched(limits=bounds(outbox_bytes=65_536)) as watch, client_of(watch) as client:
        await client.connect()
        await client.event("session.created")

        async def deaf(_):
            return

        client.peer.sctp._handle_data = deaf
        for _ in range(12):
            await watch.world.simulator.say({"type": "response.output_text.delta", "delta": "x" * 20_000})
        assert (await watch.ended()).reason == "client_too_slow"
        await watch.hung_up()


@pytest.mark.parametrize("delay", ["mint_delay_ms", "call_delay_ms"])
async def test_the_client_leaves_during_set_up(delay):
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(**{delay: 400})
        key = await client.mint()
        offer = await client.offer()
        posting = asyncio.create_task(client.post_offer(offer, key))
        await watch.world.simulator.until(lambda state: state["calls" if delay.startswith("call") else "mints"])
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        assert (await watch.ended()).reason == "request_cancelled"
        await watch.nothing_live()
        state = watch.world.simulator.state()
        # Nothing more is asked of the service; what it had accepted is hung up.
        if delay.startswith("mint"):
            assert state["calls"] == []
        else:
            await watch.hung_up()
        # The key was not spent: who comes back may use it.
        watch.world.simulator.fault(reset=True)
        assert (await client.post_offer(offer, key))[0] == 201
        assert await client.hang_up() == 200
