"""What an opened way to the service is, whatever carries it: a UDP socket, a TCP connection, a TURN allocation."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from relay.config_network import PortRange
from relay.core.ice_check_pairs import Way
from relay.core.rtp import DropCause, is_media
from relay.core.stun import Address
from relay.rtc.forwarding_python import Forwarder
from relay.rtc.packet import Datagram

_LOG = logging.getLogger(__name__)
# Bytes that may wait in a stream that is not taken: old sound is worth nothing, the rest is repeated by its sender.
_MEDIA_WAITING = 8_192
_MOST_WAITING = 262_144
_LOGGED_FAILURES = 10


class Line(Protocol):
    """An opened way. `UdpSocket` is one."""

    def send(self, datagram: Datagram, address: Address) -> bool:
        """Send at once; False if it cannot go now: a datagram may be lost, it never waits for us."""
        ...

    def connect(self, address: Address, forwarder: Forwarder | None = None) -> Callable[[Datagram], bool]:
        """Talk to one address only from now on; returns the sending end.

        A line that reads into the packet buffer gives the peer's RTP to the forwarder at once.
        """
        ...

    def close(self) -> None:
        """Free what it holds; nothing is heard of it after this."""
        ...


class WayOwner(Protocol):
    """Who hears of the ways that are opened; each is called synchronously."""

    def on_opened(self, way: Way, line: Line) -> None:
        """Take a way that can be used now."""
        ...

    def on_datagram(self, number: int, datagram: bytes, address: Address) -> None:
        """Take one datagram that came on a way."""
        ...

    def on_broken(self, number: int) -> None:
        """Hear that a way is of no more use."""
        ...

    def on_settled(self) -> None:
        """Hear that fewer ways are still to be opened."""
        ...


class Feed:
    """What a line tells its owner, under the number of its way."""

    def __init__(self, number: int, owner: WayOwner, dropped: Counter[DropCause]) -> None:
        self.number = number
        self._owner = owner
        self._dropped = dropped

    def take(self, datagram: bytes, address: Address) -> None:
        """Hand one datagram on; a fault in its handling must not end the stream that brought it."""
        try:
            self._owner.on_datagram(self.number, datagram, address)
        except Exception:  # noqa: BLE001
            self._dropped[DropCause.INTERNAL] += 1
            if self._dropped[DropCause.INTERNAL] <= _LOGGED_FAILURES:
                _LOG.exception("datagram handler failed")

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that nobody takes."""
        self._dropped[cause] += 1

    def broken(self) -> None:
        """Say that the line is of no more use."""
        self._owner.on_broken(self.number)


def fits(datagram: Datagram, waiting: Callable[[], int]) -> bool:
    """Whether a stream with so many bytes waiting takes one more datagram: media less readily than the rest."""
    return waiting() <= (_MEDIA_WAITING if is_media(datagram) else _MOST_WAITING)


def local_ports(ports: PortRange | None) -> Iterator[int]:
    """Local ports to try, one after the other from anywhere in the range; 0, any, without a range."""
    if ports is None:
        yield 0
        return
    size = ports.last - ports.first + 1
    start = secrets.randbelow(size)
    for at in range(size):
        yield ports.first + (start + at) % size
