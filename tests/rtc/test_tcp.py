"""The public TCP port over real sockets: frames, strangers, slow readers, and connections that come in numbers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct
from collections import Counter

import pytest
from aioice import stun
from support.checks import CLIENT_HELLO, RTCP, RTP, Taken, check
from support.resources import settled
from support.tcp_client import TcpClient

from relay.core.framing import frame
from relay.core.rtp import MAX_DATAGRAM, DropCause
from relay.rtc import tcp, tcp_connection
from relay.rtc.endpoint import Endpoint
from relay.rtc.path import Transport
from relay.rtc.tcp import TcpListener

HOST = "127.0.0.1"


class Bench:
    """An endpoint with its listener, and the clients a test plugs in."""

    def __init__(self, *hosts: str) -> None:
        self.endpoint = Endpoint(hosts or (HOST,), 0)
        self.listener = TcpListener(self.endpoint, hosts or (HOST,), 0)
        self.plugs: list[TcpClient] = []

    async def plug(self, source: str = HOST, *, receive_buffer: int = 0) -> TcpClient:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        connection = socket.socket(family)
        connection.setblocking(False)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.bind((source, 0))
        host = source if family == socket.AF_INET6 else HOST
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, (host, self.listener.port)), 5)
        self.plugs.append(TcpClient(connection))
        return self.plugs[-1]

    def agent(self):
        taken = Taken()
        return self.endpoint.add_agent(taken.inlets, "peer"), taken

    async def until(self, wanted) -> None:
        """Let the loop read its sockets until something is so."""
        assert not await settled(lambda: not wanted())

    async def dropped(self, cause: DropCause, number: int = 1) -> None:
        await self.until(lambda: self.endpoint.dropped[cause] >= number)
        assert self.endpoint.dropped[cause] == number

    def close(self) -> None:
        for plug in self.plugs:
            plug.socket.close()
        self.listener.close()
        self.endpoint.close()


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def short_times(monkeypatch):
    monkeypatch.setattr(tcp, "PROOF_SECONDS", 0.05)
    monkeypatch.setattr(tcp_connection, "STALLED_SECONDS", 0.05)


async def test_a_check_makes_the_connection_a_path(bench):
    agent, taken = bench.agent()
    plug = await bench.plug()
    await plug.send(check(agent, nominate=True))
    answer = await plug.answer()
    assert answer.message_class is stun.Class.RESPONSE
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == plug.socket.getsockname()
    assert (agent.selected.transport, agent.selected.address) == (Transport.TCP, plug.socket.getsockname())
    # Frames cut anywhere, several at once.
    stream = frame(CLIENT_HELLO) + frame(RTP) + frame(RTCP)
    for part in (stream[:1], stream[1:70], stream[70:]):
        await plug.raw(part)
        await asyncio.sleep(0)
    await bench.until(lambda: len(taken) == 3)
    assert (taken.dtls, taken.rtp, taken.rtcp) == ([CLIENT_HELLO], [RTP], [RTCP])
    assert agent.send(RTP)
    assert await plug.read() == RTP
    assert not bench.endpoint.dropped


async def test_both_families_share_the_port():
    bench = Bench(HOST, "::1")
    try:
        agent, _ = bench.agent()
        for source in (HOST, "::1"):
            plug = await bench.plug(source)
            await plug.send(check(agent, nominate=True))
            answer = await plug.answer()
            assert answer.attributes["XOR-MAPPED-ADDRESS"] == plug.socket.getsockname()[:2]
    finally:
        bench.close()


async def test_a_taken_port_is_an_error_that_names_it_and_a_closed_one_is_free(bench):
    port = bench.listener.port
    with pytest.raises(OSError, match=f"TCP {HOST} port {port}: .*in use"):
        TcpListener(bench.endpoint, (HOST,), port)
    bench.listener.close()
    TcpListener(bench.endpoint, (HOST,), port).close()


async def test_strangers_get_no_answer_and_a_few_frames(bench):
    agent, taken = bench.agent()
    expected = {
        CLIENT_HELLO: DropCause.STRANGER,
        RTP: DropCause.STRANGER,
        b"\x00\x01" + bytes(18): DropCause.STUN_MALFORMED,
        check(agent, username="nobody:peer"): DropCause.STUN_UNKNOWN_SESSION,
        check(agent, key="another password, wrong"): DropCause.STUN_NOT_AUTHENTIC,
    }
    for datagram, cause in expected.items():
        before = bench.endpoint.dropped[cause]
        plug = await bench.plug()
        await plug.send(*[datagram] * (tcp_connection.UNPROVEN_FRAMES - 1))
        await bench.dropped(cause, before + tcp_connection.UNPROVEN_FRAMES - 1)
        assert bench.listener.connections == 1
        await plug.raw(frame(datagram))
        assert await plug.ended()
        assert bench.listener.connections == 0
    assert bench.endpoint.dropped[DropCause.TCP_UNPROVEN] == len(expected)
    assert (len(taken), agent.selected) == (0, None)


@pytest.mark.parametrize("length", [0, MAX_DATAGRAM + 1, 0xFFFF])
async def test_a_bad_frame_ends_the_connection_even_a_proven_one(bench, length):
    agent, taken = bench.agent()
    plug = await bench.plug()
    await plug.send(check(agent, nominate=True))
    await plug.read()
    await plug.raw(frame(RTP) + length.to_bytes(2, "big") + bytes(200))
    assert await plug.ended()
    assert bench.endpoint.dropped == {DropCause.TCP_FRAMING: 1}
    assert (agent.selected, agent.send(RTP), taken.rtp) == (None, False, [])


async def test_a_session_falls_back_when_its_connection_goes(bench):
    agent, taken = bench.agent()
    first, second = await bench.plug(), await bench.plug()
    await first.send(check(agent))
    await first.read()
    await second.send(check(agent, nominate=True))
    await second.read()
    assert agent.selected.address == second.socket.getsockname()
    second.reset()
    await bench.until(lambda: bench.listener.connections == 1)
    assert agent.selected.address == first.socket.getsockname()
    assert agent.send(RTP)
    assert await first.read() == RTP
    first.socket.shutdown(socket.SHUT_WR)
    assert await first.ended()
    assert (agent.selected, bench.listener.connections, len(taken)) == (None, 0, 0)


async def test_the_end_of_a_session_closes_its_connections_after_the_last_word(bench):
    agent, _ = bench.agent()
    plug, other = await bench.plug(), await bench.plug()
    for each in (plug, other):
        await each.send(check(agent, nominate=each is plug))
        await each.read()
    agent.send(b"\x15goodbye")
    agent.close()
    assert await plug.read() == b"\x15goodbye"
    assert await plug.ended()
    assert await other.ended()
    assert bench.listener.connections == 0


async def test_a_connection_that_says_nothing_or_half_a_frame_is_closed(bench, short_times):
    agent, _ = bench.agent()
    silent, half, proven = await bench.plug(), await bench.plug(), await bench.plug()
    await half.raw(frame(check(agent))[:50])
    await proven.send(check(agent))
    await proven.read()
    assert await silent.ended()
    assert await half.ended()
    await bench.dropped(DropCause.TCP_UNPROVEN, 2)
    assert bench.listener.connections == 1
    # Its own deadline is gone with the proof.
    await asyncio.sleep(0.06)
    assert agent.send(RTP)
    assert await proven.read() == RTP


async def test_a_source_holds_a_bounded_number_of_unproven_connections_and_keeps_nobody_out(bench, monkeypatch):
    monkeypatch.setattr(tcp, "UNPROVEN_PER_SOURCE", 4)
    agent, _ = bench.agent()
    proven = await bench.plug()
    await proven.send(check(agent, nominate=True))
    await proven.read()
    held = [await bench.plug() for _ in range(10)]
    await bench.dropped(DropCause.TCP_LIMIT, 6)
    for plug in held[:6]:
        assert await plug.ended()
    assert bench.listener.connections == 5
    # The newest of that source, and one of another, still connect; the proven one was never in question.
    for source in (HOST, "127.0.0.2"):
        late = await bench.plug(source)
        await late.send(check(agent))
        assert (await late.answer()).message_class is stun.Class.RESPONSE
    assert agent.send(RTP)
    assert await proven.read() == RTP


async def test_all_sources_together_hold_a_bounded_number(bench, monkeypatch):
    monkeypatch.setattr(tcp, "UNPROVEN_CONNECTIONS", 6)
    held = [await bench.plug(f"127.0.0.{number}") for number in range(2, 12)]
    await bench.dropped(DropCause.TCP_LIMIT, 4)
    for plug in held[:4]:
        assert await plug.ended()
    assert bench.listener.connections == 6
    agent, _ = bench.agent()
    await held[-1].send(check(agent))
    assert (await held[-1].answer()).message_class is stun.Class.RESPONSE


def test_an_ipv6_subscriber_is_one_source():
    one = {tcp._source(address) for address in (("2001:db8::1", 1, 0, 0), ("2001:db8::2:3%eth0", 1, 0, 2))}
    assert len(one) == 1
    assert tcp._source(("2001:db8:0:1::1", 1, 0, 0)) not in one
    assert tcp._source(("192.0.2.1", 1)) != tcp._source(("192.0.2.2", 1))


async def test_nothing_is_kept_of_connections_that_are_gone(bench):
    agent, _ = bench.agent()
    for number in range(50):
        plug = await bench.plug()
        if number % 2:
            await plug.send(check(agent))
            await plug.read()
        plug.reset()
    await bench.until(lambda: bench.listener.connections == 0)
    unproven = bench.listener._connections._unproven
    assert (unproven._deadlines, unproven._by_source) == ({}, {})
    assert agent._paths == set()


async def test_a_reader_that_does_not_read_loses_media_then_its_connection(bench, short_times):
    agent, _ = bench.agent()
    plug = await bench.plug(receive_buffer=2048)
    await plug.send(check(agent, nominate=True))
    await plug.read()
    packet = RTP + bytes(1000)
    taken = 0
    while agent.send(packet):
        taken += 1
        assert taken < 2000, "nothing bounds what waits"
    connection = next(iter(bench.listener._connections))
    waits = len(connection._waiting)
    assert tcp_connection.MEDIA_WAITING_BYTES - len(packet) - 2 <= waits <= tcp_connection.MEDIA_WAITING_BYTES
    # Events wait longer than sound: it is late, they are not.
    while agent.send(CLIENT_HELLO):
        pass
    waits = len(connection._waiting)
    assert tcp_connection.WAITING_BYTES - len(CLIENT_HELLO) - 2 <= waits <= tcp_connection.WAITING_BYTES
    await bench.dropped(DropCause.TCP_STALLED)
    assert (agent.selected, bench.listener.connections) == (None, 0)


async def test_a_slow_reader_gets_whole_frames_and_keeps_its_connection(bench):
    agent, _ = bench.agent()
    plug = await bench.plug(receive_buffer=2048)
    await plug.send(check(agent, nominate=True))
    await plug.read()
    connection = next(iter(bench.listener._connections))
    for _ in range(2):
        sent = []
        while agent.send(packet := b"\x80" + struct.pack("!H", len(sent)) + bytes(500)):
            sent.append(packet)
            assert len(sent) < 4000, "nothing bounds what waits"
        pending = connection._stall_check
        assert [await plug.read() for _ in sent] == sent
        assert (pending.cancelled(), bytes(connection._waiting)) == (True, b"")
    assert not bench.endpoint.dropped


async def test_only_what_waits_too_long_ends_the_connection(bench):
    """A link that is slow but moves keeps its connection: what came later has its own time."""
    agent, _ = bench.agent()
    plug = await bench.plug(receive_buffer=2048)
    await plug.send(check(agent, nominate=True))
    await plug.read()
    connection = next(iter(bench.listener._connections))
    while agent.send(RTP + bytes(1000)):
        pass
    connection._check_progress(connection._written)
    assert agent.selected is connection.path
    connection._check_progress(connection._written + 1)
    assert (agent.selected, bench.endpoint.dropped) == (None, {DropCause.TCP_STALLED: 1})


async def test_what_the_other_end_would_refuse_is_not_sent(bench):
    agent, _ = bench.agent()
    plug = await bench.plug()
    await plug.send(check(agent, nominate=True))
    await plug.read()
    assert not agent.send(bytes(MAX_DATAGRAM + 1))
    assert not agent.send(b"")
    assert agent.send(RTP)
    assert await plug.read() == RTP


async def test_a_fault_of_a_leg_costs_one_datagram(bench, caplog):
    taken = Taken()

    def fail(_datagram):
        raise ZeroDivisionError

    agent = bench.endpoint.add_agent(type(taken.inlets)(fail, fail, taken.rtp.append, taken.rtcp.append), "peer")
    plug = await bench.plug()
    await plug.send(check(agent, nominate=True), CLIENT_HELLO, RTP)
    await bench.until(lambda: taken.rtp)
    assert bench.endpoint.dropped == {DropCause.INTERNAL: 1}
    assert "ZeroDivisionError" in caplog.text


async def test_without_descriptors_accepting_rests_and_goes_on(bench, monkeypatch, caplog):
    """EMFILE leaves the connection in the queue and the socket readable: a loop that tries again at once would spin."""
    monkeypatch.setattr(tcp, "ACCEPT_PAUSE_SECONDS", 0.05)
    agent, _ = bench.agent()
    plug = socket.socket()
    plug.setblocking(False)
    bench.plugs.append(TcpClient(plug))
    wakes = Counter()
    readable = tcp._AcceptSocket._readable
    monkeypatch.setattr(tcp._AcceptSocket, "_readable", lambda self: wakes.update(["wake"]) or readable(self))
    bench.listener._sockets[0]._resume()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
    try:
        with caplog.at_level(logging.WARNING), contextlib.suppress(BlockingIOError):
            plug.connect((HOST, bench.listener.port))
        await bench.until(lambda: bench.endpoint.dropped[DropCause.TCP_ACCEPT] >= 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert wakes["wake"] <= bench.endpoint.dropped[DropCause.TCP_ACCEPT] + 1
    assert caplog.text.count("no TCP connection can be accepted: Too many open files") == 1
    await bench.until(lambda: bench.listener.connections == 1)
    await bench.plugs[-1].send(check(agent))
    assert (await bench.plugs[-1].answer()).message_class is stun.Class.RESPONSE


async def test_connections_are_accepted_at_a_bounded_rate(bench, monkeypatch):
    """To accept costs more than to connect: who connects without end must not get the whole loop."""
    monkeypatch.setattr(tcp, "TURN_SECONDS", 0.05)
    loop = asyncio.get_running_loop()
    for number in range(25):
        plug = socket.socket()
        plug.setblocking(False)
        plug.bind((f"127.0.0.{number + 2}", 0))
        bench.plugs.append(TcpClient(plug))
        plug.connect_ex((HOST, bench.listener.port))
    began = loop.time()
    await bench.until(lambda: bench.listener.connections == 25)
    # Two turns had to end before the third could begin.
    assert loop.time() - began >= 2 * 0.05


async def test_accepted_connections_send_at_once_and_notice_a_dead_peer(bench):
    """Set on the listening socket and inherited, which saves a handful of system calls for each connection."""
    await bench.plug()
    await bench.until(lambda: bench.listener.connections == 1)
    accepted = next(iter(bench.listener._connections))._socket
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 65_536


async def test_closing_the_listener_ends_every_connection(bench):
    agent, _ = bench.agent()
    proven, silent = await bench.plug(), await bench.plug()
    await proven.send(check(agent, nominate=True))
    await proven.read()
    await bench.until(lambda: bench.listener.connections == 2)
    bench.listener.close()
    assert await proven.ended()
    assert await silent.ended()
    assert (agent.selected, bench.listener.connections) == (None, 0)
