"""The forwarder in Python and the compiled one: same packets in, same bytes, counters and drop causes out."""

from __future__ import annotations

import gc
import random
import select
import socket
import subprocess
import sys
from collections import Counter
from struct import pack
from types import ModuleType
from weakref import ref

import pylibsrtp
import pytest

from relay.config_sources import FORWARDER_ENV
from relay.core.rtp import DropCause
from relay.rtc import forwarding, forwarding_python
from relay.rtc import packet as packet_buffer
from relay.rtc.packet import DATA, READ_BYTES, VIEW, SrtpContext, load

INBOUND, OUTBOUND = pylibsrtp.Policy.SSRC_ANY_INBOUND, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
PAYLOAD_TYPE = 111


@pytest.fixture(scope="module")
def native():
    try:
        return forwarding.load_native()
    except ImportError:
        pytest.skip("the compiled forwarder was not built")


def srtp(key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    policy.window_size = 128
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)


class Run:
    """Two legs of one implementation, the first forwarding to the second; keys and answers of the network are given."""

    def __init__(self, implementation, rate=10_000, fails=0.0) -> None:
        self.dropped, self.sent = (Counter(), Counter()), []
        self._network = random.Random(3)
        self._fails = fails
        first, second = (implementation.Forwarder(0xA1 + at, self._send, rate, self.dropped[at]) for at in (0, 1))
        for leg in (first, second):
            leg.start(SrtpContext(srtp(b"i" * 28, INBOUND)), SrtpContext(srtp(b"o" * 28, OUTBOUND)), PAYLOAD_TYPE)
        first.forward = second.send
        self.first, self.second = first, second

    def _send(self, datagram) -> bool:
        self.sent.append(bytes(datagram))
        return self._network.random() >= self._fails

    def told(self):
        """Everything that can be seen from outside."""
        return [
            (leg.packets_in, leg.bytes_in, leg.packets_out, leg.bytes_out, leg.source, leg.lost, leg.newest_timestamp)
            for leg in (self.first, self.second)
        ] + [self.first.jitter_seconds, *self.dropped]


def packet(source: random.Random, sequence: int, ssrc: int) -> bytes:
    """A packet that a peer may send, in all its forms, some of them malformed."""
    first, payload = 0x80, source.randbytes(source.choice((0, 3, 20, 90, 1200)))
    if source.random() < 0.2:
        first |= source.randrange(16)
        payload = source.randbytes(4 * (first & 15)) + payload
    if source.random() < 0.2:
        first |= 0x10
        words = source.choice((0, 1, 3, 300))
        payload = payload[: 4 * (first & 15)] + pack("!HH", 0xBEDE, words) + source.randbytes(12) + payload
    if source.random() < 0.05:
        first |= 0x20
    second = PAYLOAD_TYPE if source.random() < 0.95 else source.randrange(128)
    timestamp = sequence * 960 + source.choice((0, 0, 0, 48_000, 2**31))
    header = pack("!BBHII", first, second | source.choice((0, 0x80)), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return header + payload[:1400]


def script(seed: int):
    """What a leg meets: packets in and out of order, repeated, bent, of several sources; other peers, other seconds."""
    source, peer = random.Random(seed), srtp(b"i" * 28, OUTBOUND)
    sequence, seen = source.randrange(1 << 16), [b"\x80\x6f" + bytes(30)]
    ssrcs = [source.randrange(1 << 32) for _ in range(4)]
    ssrc = ssrcs[0]
    for _ in range(600):
        sequence += source.choice((1, 1, 1, 1, 2, -1, 5, -3, 40, 30_000 if source.random() < 0.02 else 1))
        if source.random() < 0.01:
            ssrc = source.choice(ssrcs)
        match source.randrange(20):
            case 0:
                yield "datagram", source.choice(seen)
            case 1:
                bent = bytearray(source.choice(seen))
                bent[source.randrange(len(bent))] ^= 1 << source.randrange(8)
                yield "datagram", bytes(bent)
            case 2:
                yield "datagram", source.randbytes(source.randrange(12, 1500))
            case 3:
                yield source.choice(("expect_other_source", "open_window", "within_rate", "take_report")), None
            case 4:
                yield "datagram", source.choice(seen)[: source.randrange(12, 60)]
            case 5:
                yield "clear", packet(source, sequence, ssrc)
            case _:
                clear = packet(source, sequence, ssrc)
                try:
                    seen.append(peer.protect(clear))
                except pylibsrtp.Error:
                    seen.append(clear)  # lengths that do not add up, or too old
                yield "datagram", seen[-1]


def compared(native, seed) -> Run:
    """Run one script through both, and compare all that can be seen after each step."""
    rate, fails = (200, 0.1) if seed % 2 else (10_000, 0.0)
    runs = Run(forwarding_python, rate, fails), Run(native, rate, fails)
    arrival, clock = 1000.0, random.Random(seed)
    for step, (kind, datagram) in enumerate(script(seed)):
        arrival += clock.choice((0.02, 0.02, 0.0, 0.11))
        answers = []
        for run in runs:
            if kind == "datagram":
                answers.append(run.first.on_packet(load(datagram), arrival))
            elif kind == "clear":
                answers.append(run.second.send(load(datagram)))
            elif kind == "expect_other_source":
                answers.append(run.second.expect_other_source())
            else:
                answers.append(getattr(run.first, kind)())
        assert answers[0] == answers[1], (step, kind)
        assert runs[0].sent == runs[1].sent, step
        assert runs[0].told() == runs[1].told(), (step, kind)
    return runs[0]


@pytest.mark.parametrize("seed", range(25))
def test_both_do_the_same(native, seed):
    run = compared(native, seed)
    # The script reaches what it is for.
    told = run.dropped[0] | run.dropped[1]
    assert {DropCause.PAYLOAD_TYPE, DropCause.REPLAY, DropCause.NOT_AUTHENTIC, DropCause.MALFORMED} <= set(told)
    assert len(run.sent) > 30


# --- each by itself: sockets, and callbacks that turn on their caller -------------------------------------------------


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
        self.protect = srtp(b"i" * 28, OUTBOUND).protect

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
    made.start(SrtpContext(srtp(b"i" * 28, INBOUND)), SrtpContext(srtp(b"o" * 28, OUTBOUND)), PAYLOAD_TYPE)
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


def test_sizes_that_cannot_be_are_refused(native):
    run = Run(native)
    for size in (-1, 0, 11, READ_BYTES + 1, 1 << 40):
        with pytest.raises((ValueError, OverflowError)):
            run.first.on_packet(size)
        with pytest.raises((ValueError, OverflowError)):
            run.first.send(size)


def test_what_goes_out_by_python_is_a_piece_of_the_packet_buffer(forwarder):
    pieces = []
    one = leg(lambda piece: pieces.append((piece.obj is DATA, len(piece))) or True)
    one.send(load(pack("!BBHII", 0x80, PAYLOAD_TYPE, 1, 960, 7) + b"opus"))
    assert pieces == [(True, 12 + 4 + 16)]


def test_the_environment_chooses(native):
    assert forwarding.choose("python") == "python"
    assert forwarding.Forwarder is forwarding_python.Forwarder
    assert forwarding.choose("native") == forwarding.choose("auto") == "native"
    forwarding.choose(forwarding.NAME)


def test_a_wish_that_cannot_be_met_is_an_error(monkeypatch):
    def absent():
        raise ModuleNotFoundError("no such module")

    monkeypatch.setattr(forwarding, "load_native", absent)
    with pytest.raises(ImportError, match=f"{FORWARDER_ENV}=native: no compiled forwarder: no such module"):
        forwarding.choose("native")
    assert forwarding.choose("auto") == "python"
    monkeypatch.undo()
    forwarding.choose(forwarding.NAME)


@pytest.mark.parametrize("interface", [None, 0, 1 << 20])
def test_a_library_of_another_version_is_left_alone_with_a_warning(monkeypatch, caplog, interface):
    """Left behind by an earlier build: nothing of it is called."""
    stale = ModuleType("relay.rtc._forwarding")
    if interface is not None:
        stale.INTERFACE = interface
    monkeypatch.setitem(sys.modules, stale.__name__, stale)
    with pytest.raises(ImportError, match=f"{FORWARDER_ENV}=native: .*interface {interface}, .*build it again"):
        forwarding.choose("native")
    assert forwarding.choose("auto") == "python"
    assert [each.getMessage() for each in caplog.records if "build it again" in each.getMessage()]
    monkeypatch.undo()
    forwarding.choose(forwarding.NAME)


def test_a_libsrtp_that_takes_other_arguments_is_not_called(native, monkeypatch):
    monkeypatch.setattr(packet_buffer, "_SIGNATURE", "int(*)(void *, size_t)")
    with pytest.raises(ImportError, match="another libsrtp"):
        forwarding.load_native()


def test_a_buffer_without_room_for_what_protecting_adds_is_refused(native):
    """In a process of its own: the buffer is taken once."""
    asked = (
        "from relay.rtc import _forwarding, packet; from relay.core.rtp import DropCause as D\n"
        "few, causes = bytearray(2048), {each.name: each for each in D}\n"
        "_forwarding.configure(few, memoryview(few), 2048, *packet.srtp_functions(), causes)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert "ValueError: the packet buffer is too small" in done.stderr


@pytest.mark.parametrize("arrival", [float("nan"), float("inf"), -float("inf")])
def test_no_time_of_arrival_is_an_error(forwarder, arrival):
    clear = pack("!BBHII", 0x80, PAYLOAD_TYPE, 1, 960, 7)
    with pytest.raises((ValueError, OverflowError)):
        leg().on_packet(load(srtp(b"i" * 28, OUTBOUND).protect(clear)), arrival)
