"""How often one address may fail to prove itself: a token bucket an address, in a bounded table."""

from __future__ import annotations

from collections import OrderedDict


class FailureLimit:
    """Failures allowed per address: `burst` at once, then one every `seconds_each`.

    When the table is full, the address that failed longest ago is dropped from it.
    """

    def __init__(self, *, burst: int = 20, seconds_each: float = 3.0, capacity: int = 4096) -> None:
        self._burst = burst
        self._seconds_each = seconds_each
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def blocked_for(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        return max(0.0, (1.0 - self._left(address, now)) * self._seconds_each)

    def count(self, address: str, now: float) -> None:
        """Note a failure."""
        self._buckets[address] = (max(0.0, self._left(address, now) - 1.0), now)
        self._buckets.move_to_end(address)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)

    def _left(self, address: str, now: float) -> float:
        left, at = self._buckets.get(address, (float(self._burst), now))
        if now < at:
            # A clock set back refills nothing, and does not hold anybody until it is where it was.
            at = now
            self._buckets[address] = (left, at)
        return min(float(self._burst), left + (now - at) / self._seconds_each)
