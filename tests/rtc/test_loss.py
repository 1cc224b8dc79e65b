"""Events over a network that loses one datagram in twenty, both ways: all arrive, in order, in bounded time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from relay.core.lifecycle import SessionLimits
from relay.core.rtp import DatagramKind, DropCause, classify
from relay.rtc.dtls import DtlsSession, SharedCertificate, fingerprint_of
from relay.rtc.leg import LegFault

# DTLS 1.2 record of AES-GCM, and what UDP and IPv6 add.
RECORD_BYTES = 13 + 8 + 16
UDP_OVER_IPV6 = 8 + 40
SECONDS = 60


def lossy(pair, seed, share=0.05):
    """Lose a share of all datagrams, in both directions, always the same ones for a seed."""
    chance = random.Random(seed)
    lost = Counter()
    for name in ("out", "back"):

        def passes(_, name=name):
            gone = chance.random() < share
            lost[name] += gone
            return not gone

        getattr(pair, name).passes = passes
    return lost


async def until(heard, count):
    async with asyncio.timeout(SECONDS):
        while len(heard.texts) < count:
            heard.news.clear()
            await heard.news.wait()


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_events_each_way(make_leg, connect, heard, seed):
    pair = await connect(make_leg(heard))
    lost = lossy(pair, seed)
    up, down = ([f"{way} {number} " + "é" * 110 for number in range(200)] for way in ("up", "down"))
    for sent, received in zip(up, down, strict=True):
        assert pair.peer.send_text(sent)
        assert pair.leg.send_text(received)
        await asyncio.sleep(0)
    await asyncio.gather(until(heard, 200), until(pair.heard, 200))
    assert (heard.texts, pair.heard.texts) == (up, down)
    assert min(lost.values()) > 0
    assert heard.faults == pair.heard.faults == []


async def test_large_messages_each_way(make_leg, connect, heard):
    pair = await connect(make_leg(heard))
    lost = lossy(pair, 3)
    texts = [str(number) * 65_536 for number in range(5)]
    for text in texts:
        assert pair.peer.send_text(text)
        assert pair.leg.send_text(text)
    await asyncio.gather(until(heard, 5), until(pair.heard, 5))
    assert heard.texts == pair.heard.texts == texts
    assert min(lost.values()) > 0
    assert pair.leg._association.incomplete_bytes == pair.leg._association.buffered_bytes == 0
    # A path of 1280 bytes carries every datagram, with room for a longer cipher and a TURN channel.
    largest = max(len(each) for line in (pair.out, pair.back) for each in line.sent)
    assert largest <= 1280 - UDP_OVER_IPV6 - (65 - RECORD_BYTES) - 4


async def test_a_leg_comes_up_although_datagrams_are_lost(make_leg, connect, heard):
    """DTLS repeats its flights, SCTP its INIT and COOKIE ECHO."""
    leg = make_leg(heard)
    first = set()
    sent = leg.attach

    def attach(send, remote):
        def losing(datagram):
            # The first datagram of each type of record is lost: a flight of the handshake, then an INIT.
            if classify(bytes(datagram)) is DatagramKind.DTLS and datagram[0] not in first:
                first.add(datagram[0])
                return True
            return send(datagram)

        sent(losing, remote)

    leg.attach = attach
    pair = await connect(leg)
    assert len(first) >= 2
    assert pair.leg.send_text("there") is True
    await pair.heard.until(lambda: pair.heard.texts == ["there"])


async def test_a_peer_that_answers_nothing_is_given_more_until_it_is_too_slow(make_leg, connect, heard):
    pair = await connect(make_leg(heard, limits=SessionLimits(outbox_bytes=10_000)))
    pair.out.passes = lambda _: False
    sent = 0
    while not heard.faults:
        pair.leg.send_text("x" * 1000)
        sent += 1
    assert heard.faults == [LegFault.TOO_SLOW]
    # What was sent into the first window, and what waits.
    assert 10 <= sent <= 20


async def test_an_idle_association_has_no_timer(make_leg, connect, heard):
    pair = await connect(make_leg(heard))
    pair.peer.send_text("one")
    await heard.until(lambda: heard.texts)
    association = pair.peer._association
    async with asyncio.timeout(5):
        while association._repeat_alarm._handle or pair.leg._association._sack_alarm._handle:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert association._outbox.deadline is None


async def test_every_second_event_is_acknowledged_and_with_an_event_for_nothing(make_leg, connect, heard):
    pair = await connect(make_leg(heard))
    async with asyncio.timeout(5):
        while pair.leg._association._inbox.owes_sack or pair.peer._association._inbox.owes_sack:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    before = len(pair.out.sent), len(pair.back.sent)
    for number in range(10):
        pair.peer.send_text(f"event {number}")
        await heard.until(lambda number=number: len(heard.texts) == number + 1)
    assert (len(pair.out.sent) - before[0], len(pair.back.sent) - before[1]) == (5, 10)
    pair.peer.send_text("asked")
    await heard.until(lambda: len(heard.texts) == 11)
    pair.leg.send_text("answered")
    await pair.heard.until(lambda: pair.heard.texts)
    assert not pair.leg._association._inbox.owes_sack
    assert len(pair.out.sent) - before[0] == 6


# --- DTLS alone ------------------------------------------------------------------------------------------------------


def session(send):
    certificate = SharedCertificate().current()
    return DtlsSession(send, certificate, Counter[DropCause](), lambda: None), fingerprint_of(certificate)


async def test_what_comes_before_it_can_be_read_is_kept_in_order_and_bounded():
    loop = asyncio.get_running_loop()
    server, server_print = session(lambda datagram: loop.call_soon(client.feed, datagram) is not None)
    client, client_print = session(lambda datagram: loop.call_soon(server.feed, datagram) is not None)
    done = await asyncio.gather(
        server.handshake("server", (client_print,)), client.handshake("client", (server_print,))
    )
    assert done == [True, True]
    for number in range(200):
        assert client.send(b"%d" % number)
    await asyncio.sleep(0)
    got = []
    server.deliver_to(got.append)
    assert got == [b"%d" % number for number in range(128)]
    assert server._dropped == {DropCause.DTLS_QUEUE_FULL: 200 - 128}
    client.send(b"then")
    await asyncio.sleep(0)
    assert got[-1] == b"then"
    client.close()
    await asyncio.sleep(0)
    assert (server.state, server.send(b"late")) == ("closed", False)


async def test_the_keys_are_there_before_the_datagram_that_follows_the_handshake():
    """It is media, and may be read before any task that waits for the handshake has its turn."""
    wire = []
    server, server_print = session(lambda datagram: wire.append((client, datagram)) is None)
    client, client_print = session(lambda datagram: wire.append((server, datagram)) is None)
    keys = []
    shaking = asyncio.gather(
        server.handshake("server", (client_print,), lambda *contexts: keys.append(("server", contexts))),
        client.handshake("client", (server_print,), lambda *contexts: keys.append(("client", contexts))),
    )
    await asyncio.sleep(0)
    for to, datagram in wire:  # it grows meanwhile
        to.feed(datagram)
    assert sorted(name for name, _ in keys) == ["client", "server"]
    assert await shaking == [True, True]


async def test_a_stranger_gets_no_keys():
    wire = []
    server, server_print = session(lambda datagram: wire.append((client, datagram)) is None)
    client, _ = session(lambda datagram: wire.append((server, datagram)) is None)
    keys = []
    shaking = asyncio.gather(
        server.handshake("server", (server_print,), lambda *contexts: keys.append(contexts)),
        client.handshake("client", (server_print,)),
    )
    await asyncio.sleep(0)
    for to, datagram in wire:
        to.feed(datagram)
    assert (await shaking, keys, server.state) == ([False, True], [], "failed")


async def test_the_flights_of_a_handshake_pass_any_path():
    sent = []

    def carry(to):
        def send(datagram):
            sent.append(len(datagram))
            return asyncio.get_running_loop().call_soon(lambda: to().feed(datagram)) is not None

        return send

    server, server_print = session(carry(lambda: client))
    client, client_print = session(carry(lambda: server))
    await asyncio.gather(server.handshake("server", (client_print,)), client.handshake("client", (server_print,)))
    assert max(sent) <= 1200
    server.close()
    client.close()
