"""Rates, with time as an argument."""

from __future__ import annotations


class TokenBucket:
    """Allows `rate` takes a second on average and bursts of `burst`; `now` is in seconds.

    A clock that is set back gives nothing and takes nothing.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def take(self, now: float, amount: float = 1) -> bool:
        """Take so many tokens; False, and none is taken, if there are fewer."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True
