"""What the kernel does with many sockets on one UDP port: everything in relay/rtc/shared_port.py rests on it."""

from __future__ import annotations

import contextlib
import random
import socket
import sys

import pytest

from relay.errors import ConfigError
from relay.rtc import shared_port
from relay.rtc.shared_port import join, joined_form, lead, require_shareable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets of many processes share a port on Linux")

PLACES = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1")]


class Port:
    """A led port bound on `host` and reached at `to`."""

    def __init__(self, host: str, to: str, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._to = to
        self._host = host
        self.first = self.socket()
        self.first.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.first.bind((host, 0))
        self.port = self.first.getsockname()[1]
        lead(self.first)

    def socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self._to else socket.AF_INET, socket.SOCK_DGRAM)
        if ":" in self._to:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        return self._stack.enter_context(made)

    def joined(self) -> socket.socket:
        made = self._stack.enter_context(join(self._host, self.port))
        made.setblocking(False)
        return made

    def connect(self, member: socket.socket, peer: socket.socket) -> None:
        member.connect(joined_form(self._host, peer.getsockname()))

    def peer(self) -> socket.socket:
        made = self.socket()
        made.bind((self._to, 0))
        return made

    def strangers(self, number: int) -> None:
        for _ in range(number):
            with self.peer() as stranger:
                stranger.sendto(b"stranger", (self._to, self.port))

    def send(self, peer: socket.socket, datagram: bytes) -> None:
        peer.sendto(datagram, (self._to, self.port))


def read(sock: socket.socket) -> list[bytes]:
    """All that waits."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(100))
    return found


@pytest.fixture(params=PLACES, ids=[host for host, _ in PLACES])
def port(request):
    with contextlib.ExitStack() as stack:
        yield Port(*request.param, stack)


def test_an_unconnected_socket_never_gets_a_strangers_datagram(port):
    """Also while members come, connect and leave in any order: the first stays the one that is chosen."""
    order = random.Random(3)
    members: list[socket.socket] = []
    sent = 0
    for _ in range(60):
        members.append(port.joined())
        port.strangers(5)
        if order.random() < 0.5:
            port.connect(members[order.randrange(len(members))], port.peer())
        port.strangers(5)
        if order.random() < 0.4:
            members.pop(order.randrange(len(members))).close()
        port.strangers(5)
        sent += 15
    assert len(read(port.first)) == sent
    assert [each for member in members for each in read(member)] == []


def test_a_connected_socket_gets_its_peers_datagrams_and_no_others(port):
    peers = [port.peer() for _ in range(50)]
    for number, peer in enumerate(peers):
        port.send(peer, b"before %d" % number)
    members = [port.joined() for _ in peers]
    for member, peer in zip(members, peers, strict=True):
        port.connect(member, peer)
    for number, peer in enumerate(peers):
        port.send(peer, b"after %d" % number)
    assert read(port.first) == [b"before %d" % number for number in range(50)]
    assert [read(member) for member in members] == [[b"after %d" % number] for number in range(50)]
    members[7].send(b"back")
    assert peers[7].recvfrom(100)[1][:2] == (port._to, port.port)
    for member in members[::2]:
        member.close()
    for peer in peers:
        port.send(peer, b"late")
    assert read(port.first) == [b"late"] * 25


def test_nobody_else_binds_a_led_port_and_a_taken_port_is_not_led(port):
    with pytest.raises(OSError, match="in use"):
        port.socket().bind((port._host, port.port))


def test_a_system_that_cannot_is_told_what_to_set(monkeypatch):
    require_shareable()
    monkeypatch.setattr(shared_port, "_SO_ATTACH_REUSEPORT_CBPF", 9_999)
    with pytest.raises(ConfigError, match=r"Protocol not available; set workers\.ports to own"):
        require_shareable()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match=r"this system is darwin; set workers\.ports to own"):
        require_shareable()
