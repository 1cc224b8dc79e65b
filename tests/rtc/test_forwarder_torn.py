"""Both forwarders while callbacks do what they like: close, free, replace, raise, serve again, at random by a seed.

The script follows from what they call and in which order, so that a difference between the two shows.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
from collections import Counter
from struct import pack

import pytest
from support.srtp import PAYLOAD_TYPE, contexts, peer_session

from relay.rtc import forwarding

PLACES = 4


class Torn:
    """A poller, sockets and legs; every callback of theirs may do anything to any of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.poller = forwarding.Poller()
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.setblocking(False)
        self.places: list[tuple[socket.socket, forwarding.Reader]] = []
        self.legs: list[forwarding.Forwarder] = []
        self.log: list[object] = []
        self.depth = 0

    def act(self, *heard: object) -> bool:
        """What every callback does: now and then one thing, or one after another."""
        self.log.append((self.depth, [each if isinstance(each, int) else len(each) for each in heard]))
        if self.depth > 3:
            return True
        self.depth += 1
        try:
            while self.random.random() < 0.4:
                name = self.random.choice(ACTIONS)
                self.log.append(name)
                getattr(self, name)()
        finally:
            self.depth -= 1
        return self.random.random() < 0.8

    def fault(self, dropped: object, error: Exception) -> None:
        self.log.append(type(error))
        self.act()

    def open(self) -> None:
        if len(self.places) >= PLACES:
            return
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        reader = forwarding.Reader(ours, self.act, Counter(), self.random.choice((1, 16)), self.fault)
        self.places.append((ours, reader))
        with contextlib.suppress(OSError, ValueError):
            self.poller.add(ours.fileno(), reader)  # the poller may be a closed one

    def close(self) -> None:
        if self.places:
            ours, reader = self.places.pop(self.random.randrange(len(self.places)))
            steps = [reader.close, lambda: self.poller.remove(ours.fileno())]
            self.random.shuffle(steps)
            for step in steps:
                step()
            ours.close()

    def leg(self) -> None:
        made = forwarding.Forwarder(self.random.randrange(1 << 32), self.act, 10_000, Counter())
        if self.random.random() < 0.9:
            made.start(*contexts(), PAYLOAD_TYPE)
        self.legs = [*self.legs[-5:], made]

    def begin_again(self) -> None:
        if self.legs:
            self.random.choice(self.legs).start(*contexts(), PAYLOAD_TYPE)

    def forward(self) -> None:
        if self.legs:
            other = self.random.choice(self.legs)
            self.random.choice(self.legs).forward = self.random.choice((other.send, other.send, self.act))

    def route_out(self) -> None:
        if self.legs and self.places:
            _, reader = self.random.choice(self.places)
            ways = (reader.sender(self.peer.getsockname()), self.act)
            self.random.choice(self.legs).send_datagram = self.random.choice(ways)

    def cut(self) -> None:
        if self.legs:
            with contextlib.suppress(AttributeError):
                del self.random.choice(self.legs).send_datagram

    def direct(self) -> None:
        if self.legs and self.places:
            _, reader = self.random.choice(self.places)
            reader.direct(self.peer.getsockname(), self.random.choice(self.legs), self.act, self.act)

    def undirect(self) -> None:
        if self.places:
            self.random.choice(self.places)[1].undirect(self.peer.getsockname())

    def forget_legs(self) -> None:
        self.legs.clear()

    def renew_poller(self) -> None:
        self.poller.close()
        self.poller = forwarding.Poller()
        for ours, reader in self.places:
            self.poller.add(ours.fileno(), reader)

    def collect(self) -> None:
        gc.collect(0)

    def fail(self) -> None:
        raise ZeroDivisionError

    def serve(self) -> None:
        self.poller.serve()

    def read(self) -> None:
        if self.places:
            self.random.choice(self.places)[1].read()

    def sent(self) -> int:
        """How many datagrams have come to the peer since the last call."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self.peer.recv(2048):
                count += 1
        return count

    def end(self) -> None:
        self.poller.close()
        self.peer.close()
        for ours, reader in self.places:
            reader.close()
            ours.close()


# What builds up comes more often than what tears down, so that packets do get through.
ACTIONS = (
    *(("open", "leg", "forward", "route_out", "direct") * 3),
    *("close", "begin_again", "cut", "undirect", "forget_legs", "renew_poller", "collect", "fail", "serve", "read"),
)


def torn_log(seed: int) -> list[object]:
    """All that happened, and what was counted after each step."""
    torn = Torn(seed)
    protect = peer_session().protect
    for step in range(400):
        with contextlib.suppress(ZeroDivisionError):
            torn.act()
        for ours, _ in torn.places:
            for number in range(3):
                clear = pack("!BBHII", 0x80, PAYLOAD_TYPE, (3 * step + number) & 0xFFFF, step * 960, 7) + b"opus"
                datagram = torn.random.choice((protect(clear), b"\x00", b"\x80\x6f" + bytes(30)))
                torn.peer.sendto(datagram, ours.getsockname())
        # What a fault handler raises ends the call, and no more than the call.
        with contextlib.suppress(ZeroDivisionError):
            torn.poller.serve()
        counted = [(each.packets_in, each.packets_out, dict(each.dropped)) for each in torn.legs]
        torn.log.append(("sent", torn.sent(), counted))
    torn.end()
    return torn.log


@pytest.mark.parametrize("seed", range(4))
def test_callbacks_that_tear_everything_down(forwarder, seed):
    log = torn_log(seed)
    # The script reached what it is for.
    assert set(ACTIONS) <= {each for each in log if isinstance(each, str)}
    assert log.count(ZeroDivisionError) > 10
    assert sum(each[1] for each in log if isinstance(each, tuple) and each[0] == "sent") > 5
    try:
        forwarding.choose("python")
        assert torn_log(seed) == log
    finally:
        forwarding.choose(forwarder)
