"""Either forwarder by itself: its sockets, its legs, and callbacks that turn on their caller."""

from __future__ import annotations

import gc
import random
import select
import socket
from collections import Counter
from struct import pack
from weakref import ref

import pytest
from support.srtp import PAYLOAD_TYPE, contexts, peer_session

from relay.core.rtp import DropCause
from relay.rtc import forwarding
from relay.rtc.packet import DATA, READ_BYTES, VIEW, load


class Place:
    """A reader on a socket of its own, and a peer that sends to it."""

    def __init__(self, on_read, reads=16, family=socket.AF_INET) -> None:
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self.ours, self.peer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.ours, self.peer):
            each.bind((host, 0))
            each.setblocking(False)
        self.dropped, self.faults = Counter(), []
        self.reader = forwarding.Reader(
            self.ours, on_read, self.dropped, reads, lambda dropped, error: self.faults.append((dropped, error))
        )
        self.protect = peer_session().protect

    def send(self, *datagrams: bytes) -> None:
        for each in datagrams:
            self.peer.sendto(each, self.ours.getsockname())

    def rtp(self, sequence: int) -> bytes:
        return self.protect(pack("!BBHII", 0x80, PAYLOAD_TYPE, sequence, sequence * 960, 7) + b"opus")

    def close(self) -> None:
        self.reader.close()
        self.ours.close()
        self.peer.close()


@pytest.fixture
def place(forwarder):
    """`place(on_read, …)` makes one; closed at the end."""
    made = []

    def make(*args, **more) -> Place:
        made.append(Place(*args, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def leg(send=lambda _: True):
    made = forwarding.Forwarder(0xA1, send, 10_000, Counter())
    made.start(*contexts(), PAYLOAD_TYPE)
    return made


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_rtp_of_a_known_address_goes_past_everybody(place, family):
    read, moved = [], []
    here = place(lambda size, address: read.append((bytes(VIEW[:size]), address)), family=family)
    send = here.reader.sender(here.peer.getsockname())
    one, other = leg(), leg(send)
    one.forward = other.send
    one.send_datagram = send
    here.reader.direct(here.peer.getsockname(), one, send, lambda: moved.append(1))
    here.send(here.rtp(1), b"\x80\xc8" + bytes(20), b"\x00\x01", b"", bytes(3000), here.rtp(2))
    here.reader.read()
    assert [(len(each), address) for each, address in read] == [
        (size, here.peer.getsockname()) for size in (22, 2, 0, READ_BYTES)
    ]
    assert (one.packets_in, other.packets_out, moved, here.faults) == (2, 2, [], [])
    assert len(here.peer.recv(2048)) == len(here.peer.recv(2048)) == 12 + 4 + 16
    # The leg's own datagrams take another way: each authentic packet says so.
    one.send_datagram = lambda _: True
    here.send(here.rtp(3), b"\x80\x6f" + bytes(40))
    here.reader.read()
    assert (moved, one.dropped) == ([1], {DropCause.NOT_AUTHENTIC: 1})
    here.reader.undirect(here.peer.getsockname())
    here.send(here.rtp(4))
    here.reader.read()
    assert (len(read), one.packets_in) == (5, 3)


def test_a_connected_socket_hears_its_peer_and_who_was_queued_before(place):
    read = []
    here = place(lambda size, address: read.append(address), reads=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(b"\x80\x6f" + bytes(40), here.ours.getsockname())
        here.ours.connect(here.peer.getsockname())
        here.reader.settle(here.peer.getsockname())
        one = leg()
        one.forward = [].append
        here.reader.direct(here.peer.getsockname(), one, here.reader.sender(None), None)
        here.send(here.rtp(1))
        for _ in range(4):
            here.reader.read()
        assert (read, one.packets_in) == ([stranger.getsockname()], 1)
        here.send(here.rtp(2), b"\x00")
        for _ in range(4):
            here.reader.read()
        assert (read[1:], one.packets_in) == ([here.peer.getsockname()], 2)
        assert here.reader.sender(None)(b"back")
        assert here.peer.recv(100) == b"back"
        here.reader.close()
        assert here.reader.sender is not None


def test_many_addresses_are_told_apart(place):
    """More than a table begins with, some given up again: nobody's packets reach another leg."""
    read = []
    here = place(lambda size, address: read.append(address), reads=1000)
    source, routes = random.Random(5), {}
    for _ in range(2000):
        address = (f"127.0.{source.randrange(2)}.{source.randrange(200)}", source.randrange(1, 4))
        if source.random() < 0.5:
            routes[address] = leg()
            here.reader.direct(address, routes[address], None, None)
        else:
            routes.pop(address, None)
            here.reader.undirect(address)
    mine, other = leg(), here.peer.getsockname()
    mine.forward = [].append
    here.reader.direct(other, mine, None, None)
    here.send(here.rtp(1))
    here.reader.read()
    assert (mine.packets_in, sum(each.packets_in for each in routes.values()), read) == (1, 0, [])
    for address in routes:
        here.reader.undirect(address)
    here.reader.undirect(other)
    here.send(here.rtp(2))
    here.reader.read()
    assert (mine.packets_in, read) == (1, [other])


def test_a_bound_on_what_one_socket_takes(place):
    read = []
    here = place(lambda size, address: read.append(size), reads=3)
    here.send(*[b"\x00"] * 5)
    here.reader.read()
    assert len(read) == 3


def test_a_socket_closed_in_the_middle_is_read_no_further(place):
    read = []

    def on_read(size, address):
        read.append(size)
        here.reader.close()
        here.ours.close()

    here = place(on_read)
    send = here.reader.sender(here.peer.getsockname())
    here.send(b"\x00", b"\x00", b"\x00")
    here.reader.read()
    here.reader.read()
    assert read == [1]
    assert send(b"late") is False


def test_a_fault_costs_one_datagram(place):
    def on_read(size, address):
        raise ValueError(size)

    here = place(on_read)
    one = leg()
    one.forward = lambda size: 1 / 0
    here.reader.direct(here.peer.getsockname(), one, None, None)
    here.send(b"\x00", here.rtp(1), b"\x00\x00")
    here.reader.read()
    assert [type(error) for _, error in here.faults] == [ValueError, ZeroDivisionError, ValueError]
    assert all(dropped is here.dropped for dropped, _ in here.faults)


@pytest.fixture
def young():
    """All that is made stays in the youngest generation, which is collected in no time whatever others have made."""
    gc.disable()
    gc.collect(0)
    yield
    gc.enable()


def test_callbacks_may_take_everything_away(place, young):
    """In the midst of a packet: the route, the next forwarder, the sending end, and the last reference to each."""
    here = place(lambda size, address: None)
    address = here.peer.getsockname()

    def build():
        one, other = leg(), leg()

        def vanish(datagram):
            here.reader.undirect(address)
            one.forward = len
            other.send_datagram = len
            return True

        one.forward, other.send_datagram = other.send, vanish
        here.reader.direct(address, one, None, lambda: here.reader.direct(address, leg(), None, None))
        return ref(one), ref(other)

    for round_ in range(20):
        references = build()
        here.send(here.rtp(3 * round_ + 1), here.rtp(3 * round_ + 2), b"\x00")
        here.reader.read()
        here.reader.read()
        here.reader.undirect(address)
        gc.collect(0)
        assert [each() for each in references] == [None, None]
    assert here.faults == []


def test_legs_that_forward_to_each_other_are_collected(forwarder):
    one, other = leg(), leg()
    one.forward, other.forward = other.send, one.send
    gone = [ref(one), ref(other)]
    del one, other
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_a_poller_serves_whoever_is_ready(place):
    read = []
    here, there = (place(lambda size, address, at=at: read.append(at)) for at in (1, 2))
    poller = forwarding.Poller()
    for each in (here, there):
        poller.add(each.ours.fileno(), each.reader)
    assert (len(poller), select.select([poller.fileno()], [], [], 0)[0]) == (2, [])
    there.send(b"\x00")
    assert select.select([poller.fileno()], [], [], 0)[0]
    poller.serve()
    here.send(b"\x00")
    poller.serve()
    assert read == [2, 1]
    poller.remove(here.ours.fileno())
    here.send(b"\x00")
    poller.serve()
    assert (read, len(poller)) == ([2, 1], 1)
    poller.close()


def test_one_socket_closes_another_that_is_ready_too(place):
    """Both are in the batch that the kernel gave when the first one's callback frees the second."""
    poller, read = forwarding.Poller(), []

    def close_all(size, address):
        read.append(size)
        for each in made:
            if each.ours.fileno() >= 0:
                poller.remove(each.ours.fileno())
                each.reader.close()
                each.ours.close()
        made.clear()
        gc.collect()

    made = [place(close_all) for _ in range(3)]
    for each in made:
        poller.add(each.ours.fileno(), each.reader)
        each.send(b"\x00")
    poller.serve()
    assert (read, len(poller)) == ([1], 0)
    poller.close()


def test_random_datagrams(place):
    """Whatever comes from a known address and from a stranger: counted once, and the next good packet goes through."""
    read, source = [], random.Random(9)
    here = place(lambda size, address: read.append(size), reads=64)
    one = leg()
    one.forward = [].append
    here.reader.direct(here.peer.getsockname(), one, None, None)
    thrown = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(3000):
            size = source.choice((0, 1, 2, 11, 12, 13, 28, 100, 1500, 1501, 2048, 2049, 9000))
            datagram = bytes([source.choice((0, 22, 128, 144, 191, 255)), PAYLOAD_TYPE])[:size] + source.randbytes(
                max(0, size - 2)
            )
            source.choice((here.peer, stranger)).sendto(datagram, here.ours.getsockname())
            thrown += 1
            here.reader.read()
    assert len(read) + one.dropped.total() == thrown
    assert set(one.dropped) <= {DropCause.NOT_AUTHENTIC, DropCause.PAYLOAD_TYPE, DropCause.REPLAY}
    here.send(here.rtp(1))
    here.reader.read()
    assert (one.packets_in, here.faults) == (1, [])


def test_what_goes_out_by_python_is_a_piece_of_the_packet_buffer(forwarder):
    pieces = []
    one = leg(lambda piece: pieces.append((piece.obj is DATA, len(piece))) or True)
    one.send(load(pack("!BBHII", 0x80, PAYLOAD_TYPE, 1, 960, 7) + b"opus"))
    assert pieces == [(True, 12 + 4 + 16)]


@pytest.mark.parametrize("arrival", [float("nan"), float("inf"), -float("inf")])
def test_no_time_of_arrival_is_an_error(forwarder, arrival):
    clear = pack("!BBHII", 0x80, PAYLOAD_TYPE, 1, 960, 7)
    with pytest.raises((ValueError, OverflowError)):
        leg().on_packet(load(peer_session().protect(clear)), arrival)
