"""The lab does what it says: a test on a network that loses nothing would prove nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from network import namespaces
from network.lab import TESTS, Host, Lab, Nat
from network.packet import Kind

pytestmark = pytest.mark.network

LEFT, RIGHT = "198.51.100.10", "203.0.113.20"
LEFT6, RIGHT6 = "2001:db8:1::10", "2001:db8:2::20"
PORT = 5000
SO_RCVBUFFORCE = 33
IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_MTU_DISCOVER, IP_MTU = 2, 0, 10, 14


@contextlib.contextmanager
def udp(host: Host, address: str = "", port: int = 0, seconds: float = 1.0) -> Iterator[socket.socket]:
    address = address or host.addresses[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespaces.entered(host.namespace):
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.bind((address, port))
        made.settimeout(seconds)
        yield made


def pair(lab: Lab, nat: Nat | None = None) -> tuple[Host, Host]:
    inner = LEFT if nat is None else "192.168.1.2"
    return lab.host("left", inner, LEFT6, nat=nat), lab.host("right", RIGHT, RIGHT6)


def arrived(receiver: socket.socket, quiet: float = 0.3) -> list[bytes]:
    found = []
    receiver.settimeout(quiet)
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(receiver.recv(65_536))
    return found


@pytest.mark.parametrize(("source", "target"), [(LEFT, RIGHT), (LEFT6, RIGHT6)])
def test_two_hosts_talk(lab, source, target):
    left, right = pair(lab)
    with udp(left, source) as sender, udp(right, target, PORT) as receiver:
        sender.sendto(b"hello", (target, PORT))
        text, address = receiver.recvfrom(100)
        receiver.sendto(text.upper(), address)
        assert sender.recv(100) == b"HELLO"
        assert address[0] == source


def test_tcp_carries_a_megabyte(lab):
    left, right = pair(lab)
    wanted = bytes(range(256)) * 4096
    program = f"import socket; socket.create_server(({RIGHT!r}, 8000)).accept()[0].sendall(bytes(range(256)) * 4096)"
    right.start(sys.executable, "-c", program, log="server")
    found = b""
    with connected(left, RIGHT, 8000) as stream:
        while piece := stream.recv(65_536):
            found += piece
    assert found == wanted


def connected(host: Host, address: str, port: int) -> socket.socket:
    """A connection, once the server is there."""
    deadline = time.monotonic() + 10
    while True:
        with namespaces.entered(host.namespace):
            try:
                return socket.create_connection((address, port), 5)
            except OSError:
                assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_loss_is_what_was_asked(lab, loss):
    left, right = pair(lab)
    left.set(ways=["out"], loss=loss)
    count = 4000
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        for number in range(count):
            sender.sendto(b"\xff" + number.to_bytes(4, "big"), (RIGHT, PORT))
            if number % 200 == 199:
                # The device holds 500 packets: a link that gets no CPU must not lose more than it was told to.
                wait_for(lambda sent=number + 1: left.seen("out").counts.get("udp") == sent)
        found = arrived(receiver)
    # Four standard deviations of a binomial: the seed is fixed, what the kernel adds of its own is not.
    assert abs(count - len(found) - count * loss) < 4 * (count * loss * (1 - loss)) ** 0.5
    lost = sum(number for name, number in left.seen("out").counts.items() if name.startswith("lost:"))
    assert lost == count - len(found)


def test_delay_and_jitter(lab):
    left, right = pair(lab)
    left.set(ways=["out"], delay=0.15, jitter=0.03)
    took = []
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        for _ in range(20):
            before = time.monotonic()
            sender.sendto(b"x", (RIGHT, PORT))
            receiver.recv(10)
            took.append(time.monotonic() - before)
    assert min(took) >= 0.12
    # Half of them: this machine may be slow now and then, and must not be always.
    assert sorted(took)[10] < 0.2
    assert max(took) - min(took) > 0.02


def test_reordering(lab):
    left, right = pair(lab)
    left.set(ways=["out"], reorder=0.2)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        for number in range(100):
            sender.sendto(bytes([number]), (RIGHT, PORT))
            time.sleep(0.002)
        found = [each[0] for each in arrived(receiver)]
    assert sorted(found) == list(range(100))
    assert found != sorted(found)


def test_jitter_alone_keeps_the_order(lab):
    left, right = pair(lab)
    left.set(ways=["out"], delay=0.05, jitter=0.05)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        for number in range(100):
            sender.sendto(bytes([number]), (RIGHT, PORT))
            time.sleep(0.002)
        assert [each[0] for each in arrived(receiver)] == list(range(100))


@pytest.mark.parametrize(("source", "target"), [(LEFT, RIGHT), (LEFT6, RIGHT6)])
def test_a_large_packet_disappears_in_a_black_hole(lab, source, target):
    left, right = pair(lab)
    right.set(ways=["into"], mtu=1280)
    header = 48 if ":" in target else 28
    with udp(left, source) as sender, udp(right, target, PORT) as receiver:
        sender.sendto(b"x" * (1281 - header), (target, PORT))
        sender.sendto(b"y" * (1280 - header), (target, PORT))
        assert receiver.recv(2000)[:1] == b"y"
    assert right.seen("into").counts["too_big:udp"] == 1


def test_the_sender_of_a_large_packet_is_told_ipv4(lab):
    left, right = pair(lab)
    right.set(ways=["into"], mtu=1280, too_big="icmp")
    with udp(left) as sender, udp(right, port=PORT):
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        sender.connect((RIGHT, PORT))
        assert sender.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1500
        sender.send(b"x" * 1400)
        wait_for(lambda: sender.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1280)


def test_the_sender_of_a_large_packet_is_told_ipv6(lab):
    left, right = pair(lab)
    right.set(ways=["into"], mtu=1280, too_big="icmp")
    ipv6_mtu = 24
    with udp(left, LEFT6) as sender, udp(right, RIGHT6, PORT):
        sender.connect((RIGHT6, PORT))
        assert sender.getsockopt(socket.IPPROTO_IPV6, ipv6_mtu) == 1500
        sender.send(b"x" * 1400)
        wait_for(lambda: sender.getsockopt(socket.IPPROTO_IPV6, ipv6_mtu) == 1280)


def test_a_large_packet_is_split_on_the_way(lab):
    left, right = pair(lab)
    right.set(ways=["into"], mtu=1280, too_big="icmp")
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        wanted = bytes(range(256)) * 5
        sender.sendto(wanted, (RIGHT, PORT))
        assert receiver.recv(2000) == wanted


def wait_for(wanted, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_blocked_udp_and_one_open_tcp_port(lab):
    left, right = pair(lab)
    left.rules({"allow": True, "protocol": "tcp", "host": RIGHT, "port": 443}, {"allow": False})
    program = "import socket,time; a=socket.create_server(('', 443)); b=socket.create_server(('', 444)); time.sleep(60)"
    right.start(sys.executable, "-c", program, log="server")
    wait_for(lambda: connects(left, RIGHT, 443, 0.2))
    assert not connects(left, RIGHT, 444, 0.3)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        sender.sendto(b"x", (RIGHT, PORT))
        assert arrived(receiver) == []
    assert left.seen("out").counts["filtered:udp"] == 1
    left.rules()
    assert connects(left, RIGHT, 444, 1.0)


def connects(host: Host, address: str, port: int, seconds: float) -> bool:
    with namespaces.entered(host.namespace):
        try:
            socket.create_connection((address, port), seconds).close()
        except OSError:
            return False
    return True


def test_a_blackout_ends(lab):
    left, right = pair(lab)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        left.blackout(0.3)
        began = time.monotonic()
        sender.sendto(b"lost", (RIGHT, PORT))
        while not (found := arrived(receiver, 0.02)):
            sender.sendto(b"after", (RIGHT, PORT))
        assert time.monotonic() - began >= 0.3
        assert set(found) == {b"after"}


def test_one_to_one_nat(lab):
    left, right = pair(lab, Nat("1:1", LEFT))
    with udp(left, port=4000) as sender, udp(right, port=PORT) as receiver:
        receiver.sendto(b"unasked", (LEFT, 4000))
        assert sender.recvfrom(100) == (b"unasked", (RIGHT, PORT))
        sender.sendto(b"hello", (RIGHT, PORT))
        assert receiver.recvfrom(100) == (b"hello", (LEFT, 4000))


def test_rebinding_gives_another_port_and_closes_the_old_one(lab):
    left, right = pair(lab, Nat("napt", LEFT))
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        sender.sendto(b"1", (RIGHT, PORT))
        before = receiver.recvfrom(10)[1]
        sender.sendto(b"2", (RIGHT, PORT))
        assert receiver.recvfrom(10)[1] == before
        assert left.rebind() == 1
        receiver.sendto(b"to the old port", before)
        sender.sendto(b"3", (RIGHT, PORT))
        after = receiver.recvfrom(10)[1]
        assert before[0] == after[0] == LEFT
        assert before[1] != after[1]
        receiver.sendto(b"to the new port", after)
        assert arrived(sender) == [b"to the new port"]
    assert left.seen("into").counts["nat:udp"] == 1


def test_a_host_that_moves(lab):
    left, right = pair(lab)
    left.move("198.51.100.77", LEFT6)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        sender.sendto(b"x", (RIGHT, PORT))
        _, address = receiver.recvfrom(10)
        receiver.sendto(b"to the old address", (LEFT, address[1]))
        receiver.sendto(b"to the new address", address)
        assert address[0] == "198.51.100.77"
        assert arrived(sender) == [b"to the new address"]


def test_kinds_and_rtp_gaps_are_counted(lab):
    left, right = pair(lab)
    with udp(left) as sender, udp(right, port=PORT) as receiver:
        for number in (65_533, 65_534, 1, 0, 5):
            sender.sendto(b"\x80\x6f" + number.to_bytes(2, "big") + bytes(4) + b"ssrc" + b"sound", (RIGHT, PORT))
        for first in (b"\x00\x01", b"\x16\xfe", b"\x80\xc8", b"\xff\xff"):
            sender.sendto(first + bytes(20), (RIGHT, PORT))
        assert len(arrived(receiver)) == 9
    seen = right.seen("into")
    assert {kind: seen.passed(kind) for kind in (Kind.STUN, Kind.DTLS, Kind.RTP, Kind.RTCP, Kind.UDP)} == {
        Kind.STUN: 1, Kind.DTLS: 1, Kind.RTP: 5, Kind.RTCP: 1, Kind.UDP: 1,
    }  # fmt: skip
    flow = right.audio("into")
    # 65533 65534 (65535) 0 1 (2 3 4) 5
    assert (flow["packets"], flow["expected"], flow["missing"], flow["longest_gap"], flow["late"]) == (5, 9, 4, 3, 1)


def test_nothing_is_left_and_what_the_dead_left_is_removed():
    program = textwrap.dedent("""
        import time
        from network.lab import Lab
        with Lab() as lab:
            print(lab.host("left", "198.51.100.10").namespace, flush=True)
            time.sleep(60)
    """)
    killed = subprocess.Popen(
        (sys.executable, "-c", program), stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)}
    )
    name = killed.stdout.readline().strip()
    assert Path("/run/netns", name).exists()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    with Lab() as lab:
        assert not Path("/run/netns", name).exists()
        assert not [path for path in lab.directory.parent.glob("rtlab-*") if f"-{killed.pid}-" in path.name]
        host = lab.host("left", LEFT)
        sleeper = host.start("sleep", "60", log="sleep")
        assert Path("/run/netns", host.namespace).exists()
    assert not Path("/run/netns", host.namespace).exists()
    assert not lab.directory.exists()
    assert sleeper.poll() is not None
