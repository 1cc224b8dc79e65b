"""The ways out to the service, against sockets of the test's own: ports, streams, a proxy, a TURN server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from dataclasses import replace

import pytest
from support.connect_proxy import connect_proxy
from support.coturn import coturn
from support.resources import held, nothing_left_since, settled

from relay.config import EgressSettings, Secret
from relay.config_network import PortRange, turn_server
from relay.core.framing import Deframer, frame
from relay.core.ice_check_pairs import CheckTimes, WayKind
from relay.core.rtp import MAX_DATAGRAM, DropCause
from relay.core.sdp import AudioMedia, Candidate, Fingerprint, RemoteDescription
from relay.core.stun import binding_success, parse_binding_request
from relay.rtc import egress, egress_turn
from relay.rtc.egress_tcp import open_stream
from relay.rtc.ice_lite import Inlets
from relay.rtc.packet import VIEW
from relay.rtc.upstream_ice import UpstreamIce

UFRAG, PWD = "u" * 16, "p" * 32
SERVICE_PWD = "s" * 24
HELLO, RTP = b"\x16\xfe\xff" + bytes(50), b"\x80\x6f" + bytes(1000)
TCP_ONLY = EgressSettings(udp=False)
HURRIED = CheckTimes(consent_least=0.01, consent_most=0.02, consent_lost=0.3)


class TcpService(asyncio.Protocol):
    """A passive ICE-TCP candidate that answers checks while `answers` is true."""

    def __init__(self, service=None):
        self.service = service or self
        self.streams = []
        self.received = []
        self.answers = True
        self.hangs_up = False
        self.deframer = Deframer()

    def connection_made(self, transport):
        self.transport = transport
        self.service.streams.append(self)
        if self.service.hangs_up:
            transport.abort()

    def data_received(self, data):
        for datagram in self.deframer.feed(data):
            request = parse_binding_request(datagram)
            if request is None:
                self.service.received.append(datagram)
            elif self.service.answers:
                answer = binding_success(request.transaction_id, ("127.0.0.1", 1), SERVICE_PWD.encode())
                self.transport.write(frame(answer))


class UdpService(asyncio.DatagramProtocol):
    """A UDP candidate that answers the checks that come from `heard` ports; it sends back what is no check."""

    def __init__(self, heard=range(65_536)):
        self.heard = heard
        self.delay = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        request = parse_binding_request(data)
        if request is None:
            self.transport.sendto(data, addr)
            return
        if addr[1] in self.heard:
            answer = binding_success(request.transaction_id, addr, SERVICE_PWD.encode())
            asyncio.get_running_loop().call_later(self.delay, self.transport.sendto, answer, addr)


@pytest.fixture
async def tcp_service():
    service = TcpService()
    server = await asyncio.get_running_loop().create_server(lambda: TcpService(service), "127.0.0.1", 0)
    service.address = server.sockets[0].getsockname()
    yield service
    server.close()
    for each in service.streams:
        each.transport.abort()
    await server.wait_closed()


@pytest.fixture
async def udp_service():
    transport, service = await asyncio.get_running_loop().create_datagram_endpoint(
        UdpService, local_addr=("127.0.0.1", 0)
    )
    service.address = transport.get_extra_info("sockname")
    yield service
    transport.close()


class Ends:
    """What an upstream end tells."""

    def __init__(self):
        self.taken = []
        self.lost = asyncio.Event()
        self.dropped = Counter()

    def ice(self, settings, times=None):
        take = self.taken.append
        inlets = Inlets(lambda size: take(bytes(VIEW[:size])), take, take, take)
        return UpstreamIce(UFRAG, PWD, inlets, self.dropped, self.lost.set, egress=settings, times=times)


@pytest.fixture
async def ends():
    return Ends()


@pytest.fixture
async def connect(ends):
    made = []

    async def begin(settings, *candidates, times=None, seconds=8):
        ice = ends.ice(settings, times)
        made.append(ice)
        await asyncio.wait_for(ice.connect(description(*candidates)), seconds)
        return ice

    before = held()
    yield begin
    for each in made:
        await each.close()
    finalizer = asyncio.current_task()
    await nothing_left_since(replace(before, tasks=before.tasks | {finalizer}), sockets=False)


def description(*candidates):
    audio, fingerprints = AudioMedia("0", 111, "sendrecv"), (Fingerprint("sha-256", "AA"),)
    return RemoteDescription("name/of-host", SERVICE_PWD, False, "active", fingerprints, audio, None, (), candidates)


def at(service, transport="udp"):
    host, port = service.address
    return Candidate("1", transport, 100, host, port, "host", "passive" if transport == "tcp" else None)


def deaf(kind="udp"):
    """A candidate where nobody is; `active` is one of TCP that connects to us and cannot be connected to."""
    tcp_type = {"udp": None, "tcp": "passive", "active": "active"}[kind]
    return Candidate("1", "udp" if kind == "udp" else "tcp", 100, "127.0.0.1", 9, "host", tcp_type)


# --- UDP -------------------------------------------------------------------------------------------------------------


async def test_udp_ports_come_from_the_range(udp_service, connect):
    first = random.randrange(30_000, 32_000, 8)
    settings = EgressSettings(udp_ports=PortRange(first, first + 7))
    ports = []
    for _ in range(3):
        ice = await connect(settings, at(udp_service))
        ports.append(next(iter(ice._lines.values())).port)
    assert set(ports) <= set(range(first, first + 8))
    assert len(set(ports)) == 3


async def test_a_range_without_a_free_port_is_named(udp_service, connect):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        settings = EgressSettings(udp_ports=PortRange(port, port), tcp=False)
        with pytest.raises(ConnectionError, match=rf"every port of {port}-{port} \(egress.udp_ports\) is in use"):
            await connect(settings, at(udp_service))


async def test_where_udp_answers_nothing_else_is_begun(udp_service, tcp_service, connect):
    udp_service.delay = 0.1
    ice = await connect(EgressSettings(), at(udp_service), at(tcp_service, "tcp"))
    assert ice.transport is WayKind.UDP
    await asyncio.sleep(egress._HEAD_START_SECONDS + 0.1)
    assert tcp_service.streams == []


@pytest.mark.parametrize("egress_settings", [EgressSettings(), TCP_ONLY], ids=["udp", "tcp"])
async def test_ipv6_is_a_way_like_another(connect, ends, egress_settings):
    loop = asyncio.get_running_loop()
    try:
        transport, udp = await loop.create_datagram_endpoint(UdpService, local_addr=("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port = transport.get_extra_info("sockname")[1]
    service = TcpService()
    server = await loop.create_server(lambda: TcpService(service), "::1", port)
    udp.address = service.address = ("::1", port)
    ice = await connect(egress_settings, at(udp), at(service, "tcp"))
    assert ice.transport is (WayKind.UDP if egress_settings.udp else WayKind.TCP)
    assert ice.send(HELLO)
    if egress_settings.udp:
        await settled(lambda: not ends.taken)
        assert ends.taken == [HELLO]
    else:
        await settled(lambda: not service.received)
        assert service.received == [HELLO]
    await ice.close()
    transport.close()
    server.close()
    for each in service.streams:
        each.transport.abort()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("settings", "listed", "why"),
    [
        (EgressSettings(udp=False, tcp=False), ("udp", "tcp"), "it listed no usable candidate"),
        (EgressSettings(udp=False), ("udp",), "it listed no usable candidate"),
        (EgressSettings(udp=False), ("active",), "it listed no usable candidate"),
        (EgressSettings(udp=False), ("tcp",), "tcp 127.0.0.1 port 9: Connect call failed"),
    ],
)
async def test_a_way_that_is_off_or_refused_is_not_waited_for(connect, settings, listed, why):
    with pytest.raises(ConnectionError, match=why):
        await connect(settings, *(deaf(each) for each in listed), seconds=2)


# --- TCP -------------------------------------------------------------------------------------------------------------


async def test_tcp_after_udp_did_not_answer(tcp_service, connect, ends):
    ice = await connect(EgressSettings(), deaf(), at(tcp_service, "tcp"))
    assert ice.transport is WayKind.TCP
    assert ice.send(HELLO)
    assert ice.send(RTP)
    await settled(lambda: len(tcp_service.received) < 2)
    assert tcp_service.received == [HELLO, RTP]
    stream = tcp_service.streams[0].transport
    for datagram in (HELLO, RTP):
        stream.write(frame(datagram)[:3])
        await asyncio.sleep(0.01)
        stream.write(frame(datagram)[3:])
    await settled(lambda: len(ends.taken) < 2)
    assert ends.taken == [HELLO, RTP]
    assert ends.dropped == {}


@pytest.mark.parametrize("rubbish", [b"\x00\x00", b"\xff\xff", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_stream_that_cannot_be_followed_is_dropped_and_the_service_lost(tcp_service, connect, ends, rubbish):
    await connect(TCP_ONLY, at(tcp_service, "tcp"))
    tcp_service.streams[0].transport.write(rubbish)
    await asyncio.wait_for(ends.lost.wait(), 5)
    assert ends.dropped == {DropCause.MALFORMED: 1}


async def test_a_connection_that_ends_is_a_service_lost_at_once(tcp_service, connect, ends):
    await connect(TCP_ONLY, at(tcp_service, "tcp"))
    tcp_service.streams[0].transport.close()
    await asyncio.wait_for(ends.lost.wait(), 5)
    assert ends.dropped == {}


async def test_a_service_that_hangs_up_at_once_is_not_waited_for(tcp_service, connect):
    tcp_service.hangs_up = True
    with pytest.raises(ConnectionError, match=rf"tcp 127.0.0.1 port {tcp_service.address[1]}"):
        await connect(TCP_ONLY, at(tcp_service, "tcp"), seconds=2)


async def test_a_fault_in_a_handler_costs_one_datagram(tcp_service, connect, ends):
    ice = await connect(TCP_ONLY, at(tcp_service, "tcp"))
    ice._inlets = Inlets(lambda _: 1 / 0, lambda _: 1 / 0, ends.taken.append, ends.taken.append)
    tcp_service.streams[0].transport.write(frame(HELLO) + frame(RTP))
    await settled(lambda: not ends.taken)
    assert ends.taken == [RTP]
    assert ends.dropped == {DropCause.INTERNAL: 1}


async def test_a_slow_service_costs_media_first_then_all_and_then_its_consent(tcp_service, connect, ends):
    ice = await connect(TCP_ONLY, at(tcp_service, "tcp"), times=HURRIED)
    tcp_service.streams[0].transport.pause_reading()
    sent = 0
    while ice.send(RTP):
        sent += len(RTP)
        assert sent < 64 << 20
    transport = next(iter(ice._lines.values()))._transport
    assert 8_192 < transport.get_write_buffer_size() < 8_192 + 2 * len(RTP)
    while ice.send(HELLO + bytes(1000)):
        pass
    assert 262_144 < transport.get_write_buffer_size() < 262_144 + 3000
    assert not ice.send(RTP)
    await asyncio.wait_for(ends.lost.wait(), 5)
    assert transport.get_write_buffer_size() < 300_000


async def test_no_datagram_is_too_large_for_a_frame(tcp_service, connect):
    ice = await connect(TCP_ONLY, at(tcp_service, "tcp"))
    assert ice.send(b"\x16" + bytes(MAX_DATAGRAM - 1))
    await settled(lambda: not tcp_service.received)


# --- the proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "the proxy refused: '407 Proxy Authentication Required'",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the proxy refused: ''"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000, "the proxy's answer is too long"),
        (b"HTTP/1.1 200", "the proxy closed the connection"),
    ],
    ids=["refused", "no proxy", "endless", "cut off"],
)
async def test_a_proxy_that_does_not_connect_is_quoted(tcp_service, connect, answer, why):
    async with connect_proxy(answer) as proxy:
        settings = EgressSettings(udp=False, proxy=Secret(proxy.url("user:secret@")))
        with pytest.raises(ConnectionError) as raised:
            await connect(settings, at(tcp_service, "tcp"))
    assert why in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_proxy_that_is_not_there_is_named_as_that(tcp_service, connect):
    settings = EgressSettings(udp=False, proxy=Secret("http://127.0.0.1:9"))
    with pytest.raises(ConnectionError, match="proxy: "):
        await connect(settings, at(tcp_service, "tcp"))


async def test_what_comes_with_the_proxys_answer_is_not_lost(tcp_service):
    """The service may speak before we do."""

    class Reader(asyncio.Protocol):
        def __init__(self):
            self.data = b""

        def data_received(self, data):
            self.data += data

    early = b"HTTP/1.0 200 Fine\r\n\r\nearly "
    async with connect_proxy(early) as proxy:
        transport, reader = await open_stream(Reader, *tcp_service.address, proxy=Secret(proxy.url()))
        await settled(lambda: not tcp_service.streams)
        tcp_service.streams[0].transport.write(b"late")
        await settled(lambda: len(reader.data) < 10)
        assert reader.data == b"early late"
        transport.abort()
        await asyncio.sleep(0)


# --- TURN ------------------------------------------------------------------------------------------------------------


def through(turn, way="udp", **keywords):
    return EgressSettings(turn_url=turn_server(turn.url(way)), turn_secret=Secret(turn.secret), **keywords)


async def test_a_relay_is_used_when_nothing_better_answered_in_a_second(udp_service, connect, ends, tmp_path):
    async with coturn(tmp_path) as turn:
        udp_service.heard = turn.relay_ports
        loop = asyncio.get_running_loop()
        began = loop.time()
        ice = await connect(through(turn, tcp=False), at(udp_service))
        assert ice.transport is WayKind.RELAY
        assert loop.time() - began >= 1
        assert ice.send(HELLO)
        await settled(lambda: not ends.taken)
        assert ends.taken == [HELLO]
        await ice.close()


async def test_datagrams_of_any_length_go_through_a_relay_on_a_stream(udp_service, connect, ends, tmp_path):
    async with coturn(tmp_path) as turn:
        ice = await connect(through(turn, "tcp", udp=False, tcp=False), at(udp_service))
        datagrams = [b"\x16" + bytes(size) for size in range(20, 28)]
        for each in datagrams:
            assert ice.send(each)
        await settled(lambda: len(ends.taken) < len(datagrams))
        assert ends.taken == datagrams
        await ice.close()


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_a_relay_that_refuses_us_is_quoted(udp_service, connect, tmp_path, way):
    async with coturn(tmp_path) as turn:
        settings = EgressSettings(
            udp=False, tcp=False, turn_url=turn_server(turn.url(way)), turn_username="u", turn_password=Secret("hush")
        )
        with pytest.raises(ConnectionError, match=rf"relay {turn.url(way).split('?')[0]}.*refused: 401") as raised:
            await connect(settings, at(udp_service))
        assert "hush" not in str(raised.value)


async def test_a_peer_that_the_relay_denies_is_said(udp_service, connect, tmp_path):
    async with coturn(tmp_path, options=["denied-peer-ip=127.0.0.0-127.255.255.255"]) as turn:
        with pytest.raises(ConnectionError, match="refused: 403"):
            await connect(through(turn, udp=False, tcp=False), at(udp_service))


async def test_tls_is_verified_by_the_systems_store_or_the_file_that_stands_for_it(
    udp_service, connect, tmp_path, monkeypatch
):
    async with coturn(tmp_path) as turn:
        settings = through(turn, "tls", udp=False, tcp=False)
        egress_turn._verifying_context.cache_clear()
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(settings, at(udp_service))
        monkeypatch.setenv("SSL_CERT_FILE", str(turn.certificate))
        egress_turn._verifying_context.cache_clear()
        assert (await connect(settings, at(udp_service))).transport is WayKind.RELAY
        async with connect_proxy() as proxy:
            behind = through(turn, "tls", udp=False, tcp=False, proxy=Secret(proxy.url()))
            ice = await connect(behind, at(udp_service))
            assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{turn.tls_port} HTTP/1.1\r\n")
            await ice.close()
    egress_turn._verifying_context.cache_clear()


async def test_channels_are_renewed_before_their_permissions_expire(udp_service, connect, tmp_path, monkeypatch):
    monkeypatch.setattr(egress_turn, "_RENEW_SECONDS", 0.05)
    async with coturn(tmp_path) as turn:
        ice = await connect(through(turn, udp=False, tcp=False), at(udp_service))
        bound = lambda: sum("CHANNEL_BIND processed, success" in line for line in turn.log)  # noqa: E731
        await settled(lambda: bound() < 4)
        assert bound() >= 4
        await ice.close()


async def test_a_relay_that_goes_away_is_a_service_lost(udp_service, connect, ends, tmp_path):
    async with coturn(tmp_path) as turn:
        ice = await connect(through(turn, "tcp", udp=False, tcp=False), at(udp_service))
        assert not ends.lost.is_set()
    await asyncio.wait_for(ends.lost.wait(), 5)
    assert not ice.send(HELLO)


async def test_closing_while_ways_are_opened_leaves_nothing(udp_service, tcp_service, ends, tmp_path):
    async with coturn(tmp_path) as turn:
        before = held()
        udp_service.heard = range(0)
        tcp_service.answers = False
        for seconds in (0, 0.01, 0.31, 0.33, 0.4, 0.6):
            ice = ends.ice(through(turn, "tls"))
            connecting = asyncio.create_task(ice.connect(description(at(udp_service), at(tcp_service, "tcp"))))
            await asyncio.sleep(seconds)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            await ice.close()
        for each in tcp_service.streams:
            each.transport.abort()
        await nothing_left_since(before)
