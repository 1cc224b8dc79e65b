"""The forwarder in Python and the compiled one: same packets in, same bytes, counters and drop causes out."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from struct import pack
from types import ModuleType

import pylibsrtp
import pytest
from support.srtp import PAYLOAD_TYPE, contexts, peer_session

from relay.config_sources import FORWARDER_ENV
from relay.core.rtp import DropCause
from relay.rtc import forwarding, forwarding_python
from relay.rtc import packet as packet_buffer
from relay.rtc.packet import READ_BYTES, load


@pytest.fixture(scope="module")
def native():
    try:
        return forwarding.load_native()
    except ImportError:
        pytest.skip("the compiled forwarder was not built")


class Run:
    """Two legs of one implementation, the first forwarding to the second; keys and answers of the network are given."""

    def __init__(self, implementation, rate=10_000, fails=0.0) -> None:
        self.dropped, self.sent = (Counter(), Counter()), []
        self._network = random.Random(3)
        self._fails = fails
        first, second = (implementation.Forwarder(0xA1 + at, self._send, rate, self.dropped[at]) for at in (0, 1))
        for leg in (first, second):
            leg.start(*contexts(), PAYLOAD_TYPE)
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
    source, protect = random.Random(seed), peer_session().protect
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
                    seen.append(protect(clear))
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


def test_sizes_that_cannot_be_are_refused(native):
    run = Run(native)
    for size in (-1, 0, 11, READ_BYTES + 1, 1 << 40):
        with pytest.raises((ValueError, OverflowError)):
            run.first.on_packet(size)
        with pytest.raises((ValueError, OverflowError)):
            run.first.send(size)


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
