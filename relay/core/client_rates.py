"""How much one client may send: events and bytes in a second, and what becomes of what is above that."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from relay.core.quota import TokenBucket

if TYPE_CHECKING:
    from relay.core.lifecycle import SessionLimits

# A client this many times over its event rate is ended; below that it is refused, and at some point answered no more.
_FLOOD_FACTOR = 10


class OverRate(Enum):
    """What becomes of an event above the rate: its sender is told, it is dropped, or the session ends."""

    TOLD = 1
    DROPPED = 2
    FLOOD = 3


class ClientRates:
    """The rates of one session's client; `now` is in seconds."""

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._most_events = limits.events_per_second
        # Reading an event costs by its length: the bytes of many long ones would take a core for themselves.
        self._bytes = TokenBucket(limits.client_bytes_per_second, limits.client_burst_bytes, now)
        self._over = 0
        self.limit(None, now)

    def limit(self, events_per_second: int | None, now: float) -> None:
        """Take at most so many events in a second, and never more than the relay's own limit."""
        self._rate = self._most_events if events_per_second is None else min(events_per_second, self._most_events)
        self._events = TokenBucket(self._rate, self._rate * 2, now)

    def take(self, size: int, now: float) -> OverRate | None:
        """Count one event of so many characters, or bytes where it is binary; None if it is within both rates."""
        if self._events.take(now) and self._bytes.take(now, size):
            return None
        self._over += 1
        if self._over > self._rate * _FLOOD_FACTOR:
            return OverRate.FLOOD
        return OverRate.TOLD if self._over <= self._rate else OverRate.DROPPED

    def tick(self) -> None:
        """Once a second: a second within the rate makes up for one above it."""
        self._over = max(0, self._over - self._rate)
