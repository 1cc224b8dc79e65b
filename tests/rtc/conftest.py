"""Two legs that talk to each other: real DTLS, SRTP and SCTP over a network that a test can cut, bend or look into.

And what tests of a port shared with workers have in common.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from support.outposts import Peer, Relay

from relay.core.lifecycle import LegName, SessionLimits
from relay.core.rtp import DatagramKind, classify
from relay.core.sdp import parse_answer, parse_offer
from relay.core.sdp_build import LocalCandidate, LocalTransport, build_answer, build_service_offer
from relay.rtc import forwarding, udp
from relay.rtc.dtls import SharedCertificate, fingerprint_of
from relay.rtc.leg import Leg, LegFault

UFRAG, PWD = "u" * 16, "p" * 32


@dataclass
class Heard:
    """What a leg told its bridge."""

    texts: list[str] = field(default_factory=list)
    binaries: list[int] = field(default_factory=list)
    faults: list[LegFault] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_text(self, leg: LegName, text: str) -> None:
        self.texts.append(text)
        self.news.set()

    def on_binary(self, leg: LegName, size: int) -> None:
        self.binaries.append(size)
        self.news.set()

    def on_fault(self, leg: LegName, fault: LegFault, detail: str) -> None:
        self.faults.append(fault)
        self.news.set()

    async def until(self, wanted: Callable[[], object]) -> None:
        """Wait for news until `wanted` gives something true."""
        async with asyncio.timeout(5):
            while not wanted():
                self.news.clear()
                await self.news.wait()


class Line:
    """One direction of a network: datagrams arrive in order on the next turn of the loop, if `passes` lets them."""

    def __init__(self, far: Leg) -> None:
        self.far = far
        self.sent: list[bytes] = []
        self.passes: Callable[[bytes], bool] = lambda _: True

    def send(self, datagram: bytes) -> bool:
        datagram = bytes(datagram)  # it may be a piece of the packet buffer
        self.sent.append(datagram)
        if self.passes(datagram):
            asyncio.get_running_loop().call_soon(self.deliver, datagram)
        return True

    def deliver(self, datagram: bytes) -> None:
        match classify(datagram):
            case DatagramKind.DTLS:
                self.far.inlets.dtls(datagram)
            case DatagramKind.RTP:
                self.far.inlets.rtp(datagram)
            case DatagramKind.RTCP:
                self.far.inlets.rtcp(datagram)

    def media(self, kind: DatagramKind = DatagramKind.RTP) -> list[bytes]:
        """What was sent of one kind."""
        return [each for each in self.sent if classify(each) is kind]


@dataclass
class Pair:
    """A leg and its peer; `out` carries what the leg sends, `back` what the peer sends."""

    leg: Leg
    peer: Leg
    out: Line
    back: Line
    heard: Heard

    async def close(self) -> None:
        await self.leg.close()
        await self.peer.close()


@pytest.fixture(params=["python", "native"])
def forwarder(request):
    """Either forwarder, in turn; the compiled one where it was built, which in CI is everywhere."""
    try:
        yield forwarding.choose(request.param)
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("the compiled forwarder was not built")
    finally:
        forwarding.choose(forwarding.NAME)


@pytest.fixture
def heard():
    """What a leg of ours tells."""
    return Heard()


@pytest.fixture
async def connect():
    """`connect(leg)` gives a leg a peer and takes both through DTLS and SCTP; the peer opens the channel."""
    pairs = []

    async def start(leg: Leg, peer_ssrc: int = 0x2222) -> Pair:
        heard = Heard()
        certificate = SharedCertificate().current()
        peer = Leg(LegName.UPSTREAM, peer_ssrc, certificate, SessionLimits(), heard)
        offer = build_service_offer(_local(peer, "actpass"))
        answer = build_answer(parse_offer(offer), _local(leg, "passive", ("127.0.0.1", 9)))
        pair = Pair(leg, peer, Line(peer), Line(leg), heard)
        leg.attach(pair.out.send, parse_offer(offer))
        peer.attach(pair.back.send, parse_answer(answer))
        pairs.append(pair)
        async with asyncio.timeout(10):
            assert await asyncio.gather(leg.secure("server", None), peer.secure("client", "oai-events")) == [True, True]
            await asyncio.gather(leg.channel_opened(), peer.channel_opened())
        return pair

    yield start
    for pair in pairs:
        await pair.close()


@pytest.fixture
def make_leg():
    """`make_leg(…)` is a leg of ours, not connected yet."""

    def make(listener=None, name=LegName.DOWNSTREAM, ssrc=0x1111, limits=None) -> Leg:
        certificate = SharedCertificate().current()
        return Leg(name, ssrc, certificate, limits or SessionLimits(), listener or Heard())

    return make


@pytest.fixture
async def relay():
    """A public port and its two workers."""
    made = Relay()
    yield made
    made.close()


@pytest.fixture
def peer(relay):
    """A browser in front of it."""
    made = Peer(relay)
    yield made
    made.socket.close()


@pytest.fixture
def no_sockets(monkeypatch):
    """The system has no more descriptors for workers."""

    def refuse(host: str, port: int) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(udp, "join", refuse)


def _local(leg: Leg, setup: str, *addresses: tuple[str, int]) -> LocalTransport:
    fingerprint, lite = fingerprint_of(leg._dtls.certificate), bool(addresses)
    candidates = tuple(LocalCandidate("udp", host, port) for host, port in addresses)
    return LocalTransport(UFRAG, PWD, fingerprint, setup, leg.stream.ssrc, 1, candidates=candidates, ice_lite=lite)
