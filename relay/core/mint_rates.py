"""How many keys may be minted in a minute: a bucket for each user and tenant. Pure but for what it remembers.

A minute's worth may be minted at once, then one as often as the limit says.
"""

from __future__ import annotations

from collections import OrderedDict

from relay.core.allowance import Bound, Limit, LimitHit, Scope

WINDOW_SECONDS = 60.0


def buckets_of(tenant: str, subject: str, limits: Bound) -> tuple[tuple[Scope, str, float], ...]:
    """What one mint is counted in: `(scope, name, mints a minute)`. Names of different subjects differ."""
    names = {Scope.USER: f"user:{len(tenant)}:{tenant}:{subject}", Scope.TENANT: f"tenant:{tenant}"}
    return tuple((scope, name, limits.of(scope)) for scope, name in names.items() if limits.of(scope))


class MintRates:
    """Buckets of one process. When the table is full, the one unused for longest is dropped, and is full once again."""

    def __init__(self, capacity: int = 50_000) -> None:
        self._capacity = capacity
        # When each bucket will be full again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, tenant: str, subject: str, limits: Bound, now: float) -> LimitHit | None:
        """Count a mint, unless one of its buckets is empty; then it is counted nowhere. `now` in seconds."""
        wanted = buckets_of(tenant, subject, limits)
        after: dict[str, float] = {}
        for scope, name, limit in wanted:
            # A clock that was set back makes nobody wait for longer than a window.
            full_at = min(max(self._full_at.get(name, now), now), now + WINDOW_SECONDS)
            after[name] = full_at + WINDOW_SECONDS / limit
            if (wait := after[name] - now - WINDOW_SECONDS) > 1e-6:  # noqa: PLR2004 - what floats lose
                return LimitHit(Limit.MINTS, scope, wait)
        for name, full_at in after.items():
            self._full_at[name] = full_at
            self._full_at.move_to_end(name)
        while len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)
        return None
