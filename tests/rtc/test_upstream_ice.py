"""Our ICE end towards the service, against a service made of a plain socket and aioice's STUN messages."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aioice import stun
from support.resources import held, nothing_left_since, settled

from relay.core.ice_check_pairs import CheckTimes, WayKind
from relay.core.rtp import DropCause
from relay.core.sdp import AudioMedia, Candidate, Fingerprint, RemoteDescription
from relay.rtc.ice_lite import Inlets
from relay.rtc.packet import VIEW
from relay.rtc.upstream_ice import UpstreamIce

pytestmark = pytest.mark.usefixtures("forwarder")

UFRAG, PWD = "u" * 16, "p" * 32
SERVICE_UFRAG, SERVICE_PWD = "0a1b/realtime-host-1", "s" * 24
HELLO = b"\x16\xfe\xff" + bytes(50)
# Consent as in the field, a few hundred times as fast.
HURRIED = CheckTimes(consent_least=0.01, consent_most=0.02, consent_lost=0.2)


class Service(asyncio.DatagramProtocol):
    """Answers checks while `answers` says so; `greeting` is sent before each answer, in the same burst."""

    def __init__(self):
        self.checks = []
        self.answers = lambda _: True
        self.greeting = b""
        self.came = asyncio.Event()
        self.transport = None
        self.peer = None

    def connection_made(self, transport):
        self.transport = transport

    @property
    def address(self):
        return self.transport.get_extra_info("sockname")

    def datagram_received(self, data, addr):
        message = stun.parse_message(data)
        message.check_message_integrity(SERVICE_PWD.encode())
        assert message.attributes["USERNAME"] == f"{SERVICE_UFRAG}:{UFRAG}"
        self.checks.append(message)
        self.peer = addr
        self.came.set()
        if self.greeting:
            self.transport.sendto(self.greeting, addr)
        if self.answers(message):
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = addr
            answer.add_message_integrity(SERVICE_PWD.encode())
            answer.add_fingerprint()
            self.transport.sendto(bytes(answer), addr)

    async def more_checks(self, count):
        wanted = len(self.checks) + count
        while len(self.checks) < wanted:
            self.came.clear()
            await self.came.wait()


@pytest.fixture
async def service():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Service, local_addr=("127.0.0.1", 0))
    yield protocol
    transport.close()


@pytest.fixture
async def taken():
    return {"dtls": [], "rtp": [], "rtcp": [], "lost": []}


@pytest.fixture
async def make_ice(taken):
    made = []

    def make(**keywords):
        inlets = Inlets(
            lambda size: taken["rtp"].append(bytes(VIEW[:size])),
            *(taken[kind].append for kind in ("dtls", "rtp", "rtcp")),
        )
        made.append(UpstreamIce(UFRAG, PWD, inlets, Counter(), lambda: taken["lost"].append(True), **keywords))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
async def ice(make_ice):
    return make_ice()


def description(*candidates, lite=False):
    audio = AudioMedia("0", 111, "sendrecv")
    fingerprints = (Fingerprint("sha-256", "AA"),)
    return RemoteDescription(SERVICE_UFRAG, SERVICE_PWD, lite, "active", fingerprints, audio, None, (), candidates)


def candidate(service, transport="udp"):
    host, port = service.address
    return Candidate("1", transport, 100, host, port, "host", "passive" if transport == "tcp" else None)


@pytest.mark.parametrize("lite", [False, True])
async def test_consent_checks_carry_use_candidate(service, make_ice, lite):
    ice = make_ice(times=HURRIED)
    await asyncio.wait_for(ice.connect(description(candidate(service), lite=lite)), 5)
    await asyncio.wait_for(service.more_checks(4), 5)
    for check in service.checks[-4:]:
        assert "USE-CANDIDATE" in check.attributes
        assert "ICE-CONTROLLING" in check.attributes


async def test_a_service_that_answers_only_nominations_keeps_us(service, make_ice, taken):
    ice = make_ice(times=HURRIED)
    await asyncio.wait_for(ice.connect(description(candidate(service))), 5)
    service.answers = lambda message: "USE-CANDIDATE" in message.attributes
    await asyncio.wait_for(service.more_checks(40), 10)
    assert taken["lost"] == []


async def test_a_service_that_stops_answering_is_lost_once(service, make_ice, taken):
    ice = make_ice(times=HURRIED)
    lost = asyncio.Event()
    ice._on_lost = lambda: (taken["lost"].append(True), lost.set())
    await asyncio.wait_for(ice.connect(description(candidate(service))), 5)
    service.answers = lambda _: False
    await asyncio.wait_for(lost.wait(), 20)
    service.transport.sendto(b"\x00\x01" + bytes(18), service.peer)
    service.transport.sendto(HELLO, service.peer)
    await settled(lambda: not taken["dtls"])
    await ice.close()
    assert taken["lost"] == [True]


async def test_dtls_that_comes_before_the_answer_to_our_check_is_not_lost(service, ice, taken):
    service.greeting = HELLO
    await asyncio.wait_for(ice.connect(description(candidate(service), lite=True)), 5)
    assert taken["dtls"]
    assert set(taken["dtls"]) == {HELLO}
    assert ice._dropped == {}


async def test_early_dtls_of_strangers_is_bounded_and_dropped(service, ice, taken):
    first = asyncio.Event()
    service.answers = lambda message: first.set() if len(service.checks) == 1 else True
    connecting = asyncio.create_task(ice.connect(description(candidate(service))))
    await asyncio.wait_for(first.wait(), 5)
    stranger, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    port = next(iter(ice._lines.values())).port
    for _ in range(20):
        stranger.sendto(HELLO, ("127.0.0.1", port))
    stranger.sendto(b"\x80\x6f" + bytes(30), ("127.0.0.1", port))
    await asyncio.wait_for(connecting, 5)
    stranger.close()
    assert (taken["dtls"], taken["rtp"], ice._early) == ([], [], [])
    assert ice._dropped == {DropCause.STRANGER: 21}


async def test_early_dtls_from_an_address_that_is_not_taken_is_dropped(service, ice, taken):
    loop = asyncio.get_running_loop()
    transport, other = await loop.create_datagram_endpoint(Service, local_addr=("127.0.0.1", 0))
    other.answers = lambda _: False
    other.greeting = HELLO
    service.answers = lambda _: other.checks
    await asyncio.wait_for(ice.connect(description(candidate(other), candidate(service))), 5)
    assert ice._remote == service.address
    assert taken["dtls"] == []
    assert set(ice._dropped) == {DropCause.STRANGER}
    transport.close()


async def test_datagrams_of_the_service_are_told_apart(service, ice, taken):
    await asyncio.wait_for(ice.connect(description(candidate(service))), 5)
    rtp, rtcp = b"\x80\x6f" + bytes(30), b"\x80\xc8" + bytes(30)
    # asyncio sends no empty datagram.
    ice.on_datagram(next(iter(ice._lines)), b"", service.address)
    for datagram in (HELLO, rtp, rtcp, bytes(1600), b"\xff" * 9, b"\x00" * 30, b"\x00\x01" + b"\xff" * 60):
        service.transport.sendto(datagram, service.peer)
    await settled(lambda: sum(ice._dropped.values()) < 5)
    assert (taken["dtls"], taken["rtp"], taken["rtcp"]) == ([HELLO], [rtp], [rtcp])
    assert ice._dropped == {
        DropCause.EMPTY: 1,
        DropCause.OVERSIZED: 1,
        DropCause.UNRECOGNISED: 1,
        DropCause.STUN_MALFORMED: 2,
    }


async def test_once_connected_one_socket_is_left_that_hears_one_address(service, ice):
    assert ice.transport is None
    await asyncio.wait_for(ice.connect(description(candidate(service))), 5)
    assert ice.transport is WayKind.UDP
    (line,) = ice._egress._lines.values()
    assert line._socket.getpeername() == service.address


async def test_without_a_candidate_of_use_there_is_no_connection(ice):
    with pytest.raises(ConnectionError, match="it listed no usable candidate"):
        await ice.connect(description())


async def test_close_frees_everything_at_any_time(service, taken):
    before = held()
    inlets = Inlets(
        lambda size: taken["rtp"].append(bytes(VIEW[:size])), *(taken[kind].append for kind in ("dtls", "rtp", "rtcp"))
    )
    for answers in (True, False):
        service.answers = lambda _, answers=answers: answers
        end = UpstreamIce(UFRAG, PWD, inlets, Counter(), lambda: None)
        connecting = asyncio.create_task(end.connect(description(candidate(service))))
        await asyncio.wait_for(service.more_checks(1), 5)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await end.close()
        assert not end.send(HELLO)
    never = UpstreamIce(UFRAG, PWD, inlets, Counter(), lambda: None)
    await never.close()
    await nothing_left_since(before)
