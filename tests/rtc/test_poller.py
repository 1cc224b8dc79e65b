"""The poller of either forwarder: sockets that come, leave and change their number while it serves them."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections import Counter
from pathlib import Path

import pytest

from relay.rtc import forwarding
from relay.rtc.udp import UdpSocket


@pytest.fixture
def poller(forwarder):
    made = forwarding.Poller()
    yield made
    made.close()


@pytest.fixture
def bound():
    """`bound()` is a UDP socket of ours, `bound(on_read)` its reader too; closed at the end."""
    sockets = []

    def make(on_read=None, reads=16):
        sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sockets[-1].bind(("127.0.0.1", 0))
        sockets[-1].setblocking(False)
        if on_read is None:
            return sockets[-1]
        return sockets[-1], reader_of(sockets[-1], on_read, reads)

    yield make
    for each in sockets:
        each.close()


def descriptors():
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def reader_of(sock, on_read, reads=16):
    def fault(dropped, error):
        raise error

    return forwarding.Reader(sock, on_read, Counter(), reads, fault)


def test_a_socket_added_twice_keeps_its_reader(poller, bound):
    read = []
    ours, reader = bound(lambda size, address: read.append("first"))
    poller.add(ours.fileno(), reader)
    del reader
    with pytest.raises(FileExistsError):
        poller.add(ours.fileno(), reader_of(ours, lambda size, address: read.append("second")))
    gc.collect()
    bound().sendto(b"\x00", ours.getsockname())
    poller.serve()
    assert (read, len(poller)) == (["first"], 1)


def test_what_is_no_socket_is_refused(poller, bound):
    _, reader = bound(lambda size, address: None)
    for number in (-1, 1 << 20):
        with pytest.raises((OSError, ValueError)):
            poller.add(number, reader)
        poller.remove(number)
    assert len(poller) == 0


def test_a_socket_that_lives_on_elsewhere_is_nobodys(poller, bound):
    """Another process may have it too: the kernel then tells of it under a number that is not ours any more."""
    read = []
    ours, reader = bound(lambda size, address: read.append(size))
    number, address = ours.fileno(), ours.getsockname()
    poller.add(number, reader)
    with ours.dup():
        reader.close()
        ours.close()
        poller.remove(number)
        del reader, ours
        gc.collect()
        bound().sendto(b"\x00", address)
        poller.serve()
    assert (read, len(poller)) == ([], 0)


def test_a_number_that_was_given_away_is_its_new_owners(poller, bound):
    """The first socket was closed without a word to the poller."""
    read = []
    first, reader = bound(lambda size, address: read.append("first"))
    number = first.fileno()
    poller.add(number, reader)
    first.close()
    second, reader = bound(lambda size, address: read.append("second"))
    assert second.fileno() == number
    poller.add(number, reader)
    bound().sendto(b"\x00", second.getsockname())
    poller.serve()
    assert (read, len(poller)) == (["second"], 1)


def test_a_socket_taken_out_in_the_middle_is_not_read(poller, bound):
    read, made = [], []

    def take_out_the_others(size, address):
        read.append(size)
        for ours, _ in made:
            poller.remove(ours.fileno())

    made += [bound(take_out_the_others) for _ in range(3)]
    for ours, reader in made:
        poller.add(ours.fileno(), reader)
        bound().sendto(b"\x00", ours.getsockname())
    poller.serve()
    assert (read, len(poller)) == ([1], 0)


def test_the_poller_may_be_closed_in_the_middle(poller, bound):
    read, made = [], []

    def close_all(size, address):
        read.append(size)
        poller.close()

    made += [bound(close_all) for _ in range(3)]
    for ours, reader in made:
        poller.add(ours.fileno(), reader)
    bound().sendto(b"\x00", made[0][0].getsockname())
    poller.serve()
    poller.serve()
    assert (read, len(poller)) == ([1], 0)


def test_a_closed_reader_reads_nothing(forwarder, bound):
    read = []
    ours, reader = bound(lambda size, address: read.append(size))
    bound().sendto(b"\x00", ours.getsockname())
    reader.close()
    reader.read()
    assert read == []


def test_a_flood_leaves_everybody_a_turn(poller, bound):
    """More sockets than one batch, one of them never empty: a call ends, and each of the others was read."""
    read = Counter()

    def flooded(size, address):
        read["flooded"] += 1
        for _ in range(2):
            flood.sendto(b"\x00", noisy.getsockname())

    flood = bound()
    noisy, reader = bound(flooded, reads=3)
    poller.add(noisy.fileno(), reader)
    quiet = [bound(lambda size, address, at=at: read.update([at])) for at in range(100)]
    for ours, reader in quiet:
        poller.add(ours.fileno(), reader)
        flood.sendto(b"\x00", ours.getsockname())
    flood.sendto(b"\x00", noisy.getsockname())
    poller.serve()
    assert all(read[at] == 1 for at in range(100))
    assert 1 <= read["flooded"] <= 4 * 3


def test_a_poller_in_a_cycle_is_collected(forwarder, bound):
    before = descriptors()
    for _ in range(20):
        made = forwarding.Poller()
        ours = bound()
        made.add(ours.fileno(), reader_of(ours, lambda size, address, made=made: None))
        ours.close()
        del made
    gc.collect()
    assert descriptors() <= before


async def test_a_socket_that_cannot_be_watched_is_closed(forwarder):
    """The system gives a descriptor for the socket and none for the poller."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, hard))
    try:
        with pytest.raises(OSError, match=r"UDP 127\.0\.0\.1 port 0: Too many open files"):
            UdpSocket("127.0.0.1", 0, lambda size, address: None, Counter())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before


async def test_the_last_socket_may_close_itself(forwarder):
    """Its poller goes with it while it serves; the event loop hears of no exception, and the next socket is served."""
    faults, heard, lines = [], asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(2):
            heard.clear()
            lines.append(UdpSocket("127.0.0.1", 0, lambda size, address: (heard.set(), lines[-1].close()), Counter()))
            peer.sendto(b"\x00", ("127.0.0.1", lines[-1].port))
            await heard.wait()
            await asyncio.sleep(0)
    assert faults == []


def test_a_socket_connected_anew_tells_its_new_peer(forwarder, bound):
    read = []
    ours, reader = bound(lambda size, address: read.append(address))
    for _ in range(2):
        peer = bound()
        ours.connect(peer.getsockname())
        reader.settle(peer.getsockname())
        peer.sendto(b"\x00", ours.getsockname())
        reader.read()
        assert read.pop() == peer.getsockname()


def test_a_send_that_fails_is_told_and_costs_nothing_else(forwarder, bound):
    """Nobody there (ECONNREFUSED), too long (EMSGSIZE), no way (EINVAL), the other family, closed (EBADF)."""
    read = []
    ours, reader = bound(lambda size, address: read.append(size))
    gone = bound()
    nowhere = gone.getsockname()
    gone.close()
    assert reader.sender(bound().getsockname())(bytes(1 << 16)) is False
    for address in (("192.0.2.1", 9), ("127.0.0.1", 0), ("::1", 9)):
        assert reader.sender(address)(b"lost") is False
    ours.connect(nowhere)
    reader.settle(nowhere)
    to_peer = reader.sender(None)
    assert [to_peer(b"refused"), to_peer(b"tells of it")] == [True, False]
    to_peer(b"refused again")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(nowhere)
        back.sendto(b"\x00", ours.getsockname())
        # The first read takes the error, the second the datagram.
        reader.read()
        reader.read()
        assert read == [1]
        assert to_peer(b"here")
        assert back.recv(10) == b"here"
    reader.close()
    ours.close()
    assert to_peer(b"closed") is False
