"""RTP and RTCP of one leg, with a real peer: what is dropped and why, what is counted, what is reported."""

from __future__ import annotations

import asyncio
import json
import time
from struct import pack, unpack_from

import pytest

from relay.core.event_filter import EventFilter
from relay.core.lifecycle import Dialect, LegName, SessionLimits, SessionStart
from relay.core.policy import policy_from_instructions
from relay.core.rtcp import Report, parse_compound
from relay.core.rtp import DatagramKind, DropCause
from relay.core.sdp_build import OFFERED_PAYLOAD_TYPE
from relay.rtc.bridge import Bridge
from relay.rtc.packet import VIEW, load

pytestmark = pytest.mark.usefixtures("forwarder")

INSTRUCTIONS = "You are Contoso's assistant."


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def rtp(sequence, *, ssrc=0xABCD, payload=b"opus" * 5, timestamp=None, payload_type=OFFERED_PAYLOAD_TYPE, first=0x80):
    at = sequence * 960 if timestamp is None else timestamp
    return pack("!BBHII", first, payload_type, sequence & 0xFFFF, at & 0xFFFFFFFF, ssrc) + payload


@pytest.fixture
async def pair(make_leg, connect):
    return await connect(make_leg())


@pytest.fixture
def received(pair):
    """Packets our leg would forward."""
    packets = []
    pair.leg.stream.forward = lambda size: packets.append(bytes(VIEW[:size]))
    return packets


def protected(stream, packet):
    """A packet as the stream would put it on the wire, whatever is in its header."""
    return bytes(VIEW[: stream._transmit.protect(load(packet))])


def inject(pair, packet):
    """Give our leg a packet that its peer protected, whatever is in its header."""
    pair.leg.inlets.rtp(protected(pair.peer.stream, packet))


async def test_packets_go_through_with_the_senders_own_ssrc(pair, received):
    for sequence in (65_534, 65_535, 0, 1):
        pair.peer.stream.send(load(rtp(sequence)))
    await turns()
    assert [unpack_from("!HII", each, 2)[0] for each in received] == [65_534, 65_535, 0, 1]
    assert {unpack_from("!I", each, 8)[0] for each in received} == {0x2222}
    assert received[0][12:] == b"opus" * 5
    snapshot = pair.leg.stream.snapshot()
    assert (snapshot.packets_in, snapshot.bytes_in, snapshot.packets_lost, snapshot.dropped) == (4, 4 * 32, 0, {})
    assert pair.peer.stream.snapshot().packets_out == 4
    assert pair.peer.stream.snapshot().bytes_out == 4 * 20


async def test_header_extensions_are_not_carried(pair, received):
    extended = rtp(1, first=0x90, payload=pack("!HH", 0xBEDE, 1) + b"\x10\xff\x00\x00" + b"opus")
    pair.peer.stream.send(load(extended))
    await turns()
    assert (received[0][0], received[0][12:]) == (0x80, b"opus")


async def test_a_third_source_is_dropped_before_it_costs_a_context(pair, received):
    for number, ssrc in enumerate((0xA, 0xB, 0xC, 0xD, 0xA)):
        inject(pair, rtp(number, ssrc=ssrc))
    # One change is followed; the source that was left is a third one by then.
    assert [unpack_from("!I", each, 8)[0] for each in received] == [0xA, 0xB]
    assert pair.leg.stream.dropped == {DropCause.SSRC: 3}
    # libsrtp never heard of it: what it had unprotected once it would call a replay now.
    third = protected(pair.peer.stream, rtp(9, ssrc=0xC))
    assert pair.leg.stream._receive.unprotect(load(third)) > 0


async def test_sources_that_do_not_authenticate_use_up_nothing(pair, received):
    for ssrc in range(100, 200):
        pair.leg.inlets.rtp(rtp(1, ssrc=ssrc) + bytes(16))
    assert pair.leg.stream.dropped == {DropCause.NOT_AUTHENTIC: 100}
    inject(pair, rtp(1, ssrc=0xA))
    inject(pair, rtp(2, ssrc=0xB))
    assert len(received) == 2


async def test_a_third_rtcp_source_is_dropped_before_it_costs_a_context(pair):
    stream, peer = pair.leg.stream, pair.peer.stream

    def report(ssrc):
        stream.on_rtcp(peer._transmit.protect_rtcp(pack("!BBHI", 0x80, 201, 1, ssrc)))

    for ssrc in (1, 2, 3, 4):
        report(ssrc)
    assert stream.dropped == {DropCause.SSRC: 2}
    stream.on_rtcp(b"\x80\xc9\x00\x01")
    assert stream.dropped[DropCause.RTCP_MALFORMED] == 1


async def test_what_is_dropped_has_its_cause(pair, received):
    stream = pair.leg.stream
    inject(pair, rtp(1))
    again, forged = (protected(pair.peer.stream, rtp(number)) for number in (2, 3))
    cases = [
        (again, None),
        (again, DropCause.REPLAY),
        (forged[:-1] + bytes([forged[-1] ^ 1]), DropCause.NOT_AUTHENTIC),
        (protected(pair.peer.stream, rtp(4, payload_type=8)), DropCause.PAYLOAD_TYPE),
        (b"\x80\x6f\x00\x01", DropCause.MALFORMED),
    ]
    for datagram, cause in cases:
        before = dict(stream.dropped)
        stream.on_rtp(datagram)
        if cause is not None:
            assert stream.dropped[cause] == before.get(cause, 0) + 1, cause
    assert len(received) == 2


async def test_old_packets_are_replays(pair, received):
    """A window of 128: what is older cannot be told from a replay, and is one."""
    late = [protected(pair.peer.stream, rtp(number)) for number in range(1, 200)]
    for datagram in (late[198], late[198 - 127], late[198 - 128]):
        pair.leg.inlets.rtp(datagram)
    assert len(received) == 2
    assert pair.leg.stream.dropped == {DropCause.REPLAY: 1}


async def test_one_peer_sends_no_more_than_its_rate(make_leg, connect):
    pair = await connect(make_leg(limits=SessionLimits(packets_per_second=50)))
    received = []
    pair.leg.stream.forward = received.append
    for sequence in range(70):
        inject(pair, rtp(sequence))
    assert (len(received), pair.leg.stream.dropped) == (50, {DropCause.RATE: 20})
    pair.leg.stream.tick(time.monotonic(), time.time())
    inject(pair, rtp(70))
    assert len(received) == 51


async def test_nothing_is_taken_before_the_handshake(make_leg):
    leg = make_leg()
    leg.inlets.rtp(rtp(1))
    leg.inlets.rtcp(b"\x80\xc9" + bytes(20))
    leg.stream.send(load(rtp(1)))
    assert leg.stream.dropped == {DropCause.NOT_READY: 2, DropCause.OTHER_LEG_NOT_READY: 1}


async def test_reports_say_what_was_sent_lost_and_how_long_it_takes(pair, received):
    """Ten of fifty packets are lost on the way; both ends come to know it from each other's reports."""
    told = []
    read = pair.leg.stream._read_reports
    pair.leg.stream._read_reports = lambda packets: (told.extend(packets), read(packets))
    lost = set(range(10, 20))
    pair.back.passes = lambda datagram: unpack_from("!H", datagram, 2)[0] not in lost
    for sequence in range(50):
        pair.peer.stream.send(load(rtp(sequence)))
    await turns()
    pair.back.passes = lambda _: True
    now = time.time()
    pair.peer.stream.tick(time.monotonic(), now)
    await turns()
    (sent,) = told
    assert (sent.ssrc, sent.sender.packets, sent.sender.octets) == (0x2222, 50, 50 * 20)
    assert sent.sender.ntp >> 32 == int(now) + 2_208_988_800
    # The timestamp is that of the last packet, gone on at 48 kHz.
    assert 49 * 960 <= sent.sender.timestamp < 49 * 960 + 48_000
    pair.leg.stream.tick(time.monotonic(), time.time())
    await turns()
    mine, theirs = pair.leg.stream.snapshot(), pair.peer.stream.snapshot()
    assert (mine.packets_in, mine.packets_lost) == (40, 10)
    assert theirs.remote_loss == (10 * 256 // 50) / 256
    assert 0 <= theirs.rtt_seconds < 5
    assert mine.rtt_seconds is None
    # A leg that has sent nothing gives a receiver report.
    report = parse_compound(pair.peer.stream._receive.unprotect_rtcp(_again(pair)))[0]
    assert isinstance(report, Report)
    assert report.sender is None
    (block,) = report.blocks
    assert (block.ssrc, block.lost, block.fraction_lost, block.highest_sequence) == (0x2222, 10, 0, 49)


async def test_a_silent_leg_reports_every_five_seconds(pair):
    pair.out.passes = lambda _: False
    now = time.monotonic()
    for second in range(12):
        pair.leg.stream.tick(now + second, time.time())
    assert len(pair.out.media(DatagramKind.RTCP)) == 3
    for second in range(12, 15):
        inject(pair, rtp(second))
        pair.leg.stream.tick(now + second, time.time())
    assert len(pair.out.media(DatagramKind.RTCP)) == 6


def _again(pair):
    """A further report of our leg, not yet seen by its peer."""
    pair.out.passes = lambda _: False
    pair.leg.stream.tick(time.monotonic() + 5, time.time())
    return pair.out.media(DatagramKind.RTCP)[-1]


class Listener:
    """What a bridge tells its session."""

    def __init__(self):
        self.ended, self.in_force, self.first, self.told = [], 0, [], []

    def end(self, reason, detail=""):
        self.ended.append((reason, detail))

    def on_policy_in_force(self):
        self.in_force += 1

    def on_first_audio(self, leg):
        self.first.append(leg)

    def tell(self, fact):
        self.told.append(fact)


@pytest.fixture
async def bridged(make_leg, connect):
    """A bridge of two connected legs, what it told, and the pairs of both sides."""
    policy = policy_from_instructions(INSTRUCTIONS, "dep", None)
    start = SessionStart("rs_1", "", Dialect.GA, Dialect.GA, webrtc_filter=False, model="m", policy=policy)
    listener = Listener()
    bridge = Bridge(EventFilter(start, lambda: "event_1"), SessionLimits(), listener)
    down = make_leg(bridge, LegName.DOWNSTREAM, 0xD0)
    up = make_leg(bridge, LegName.UPSTREAM, 0xE0)
    bridge.join(down, up)
    return bridge, listener, await connect(down, 0xC1), await connect(up, 0x5E)


def heard_by(pair):
    """What arrives at a side's far peer."""
    heard = []
    pair.peer.stream.forward = lambda size: heard.append(bytes(VIEW[:size]))
    return heard


async def test_the_newest_packet_before_the_gate_opens_is_the_first_to_go_through(bridged):
    bridge, listener, client, service = bridged
    at_service, at_client = heard_by(service), heard_by(client)
    for sequence in (1, 2):
        client.peer.stream.send(load(rtp(sequence, payload=b"from client %d" % sequence)))
        service.peer.stream.send(load(rtp(sequence, payload=b"from service %d" % sequence)))
    await turns()
    created = {
        "type": "session.created",
        "event_id": "e",
        "session": {"type": "realtime", "instructions": INSTRUCTIONS},
    }
    bridge.on_text(LegName.UPSTREAM, json.dumps(created))
    client.peer.stream.send(load(rtp(3, payload=b"from client 3")))
    await turns(10)
    assert [each[12:] for each in at_service] == [b"from client 2", b"from client 3"]
    assert [each[12:] for each in at_client] == [b"from service 2"]
    assert (listener.in_force, sorted(listener.first)) == (1, ["downstream", "upstream"])
    counted = bridge.counters()
    assert counted.downstream.dropped == counted.upstream.dropped == {"gate_closed": 1}


async def test_the_media_gate(bridged):
    """Until the instructions are confirmed packets are authenticated and counted, and not sent.

    What came before the service showed others is not sent afterwards either.
    """
    bridge, listener, client, service = bridged
    at_service, at_client = heard_by(service), heard_by(client)

    for sequence in range(5):
        client.peer.stream.send(load(rtp(sequence)))
        service.peer.stream.send(load(rtp(sequence)))
    client.leg.inlets.rtp(rtp(9, ssrc=0xC1) + bytes(16))
    await turns()
    counted = bridge.counters()
    assert counted.downstream.dropped == {"gate_closed": 4, "not_authentic": 1}
    assert counted.upstream.dropped == {"gate_closed": 4}
    assert (counted.downstream.packets_in, counted.upstream.packets_in) == (5, 5)
    assert (counted.downstream.packets_out, counted.upstream.packets_out) == (0, 0)
    assert service.out.media() == client.out.media() == []

    created = {"type": "session.created", "event_id": "e", "session": {"type": "realtime", "instructions": "others"}}
    bridge.on_text(LegName.UPSTREAM, json.dumps(created))
    client.peer.stream.send(load(rtp(5)))
    await turns()
    assert (listener.in_force, service.out.media()) == (0, [])
    counted = bridge.counters()
    assert (counted.downstream.dropped["gate_closed"], counted.upstream.dropped["gate_closed"]) == (6, 5)

    updated = {"type": "session.updated", "session": {"type": "realtime", "instructions": INSTRUCTIONS}}
    bridge.on_text(LegName.UPSTREAM, json.dumps(updated))
    assert listener.in_force == 1
    for sequence in (6, 7):
        client.peer.stream.send(load(rtp(sequence, payload=b"from client")))
        service.peer.stream.send(load(rtp(sequence, payload=b"from service")))
    await turns(10)
    assert [each[12:] for each in at_service] == [b"from client"] * 2
    assert [each[12:] for each in at_client] == [b"from service"] * 2
    assert {unpack_from("!I", each, 8)[0] for each in at_service} == {0xE0}
    assert {unpack_from("!I", each, 8)[0] for each in at_client} == {0xD0}
    assert sorted(listener.first) == ["downstream", "upstream"]
    assert listener.ended == []
