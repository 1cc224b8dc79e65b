"""What is told of quotas: refusals, ends, and a store that could not be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.allowance import DAILY, Limit, Scope

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from relay.core.allowance import LimitHit
    from relay.core.stored import StoreError
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget

# What cannot be counted while the store is away: sessions at one time, usage of the day, mints a minute.
STORED = ("sessions", "usage", "mints")


class QuotaTelemetry:
    """The facts of quotas; how often they happen is decided by clients, so that their lines are limited."""

    def __init__(self, families: Families, log: FilteringBoundLogger, lines: LineBudget) -> None:
        self._log = log
        self._lines = lines
        self._refused = families.counter(
            "relay_quota_refused_total",
            "Sessions and keys refused because a quota is used up",
            "scope",
            "limit",
            each=[(scope, limit) for scope in Scope for limit in Limit],
        )
        self._ended = families.counter(
            "relay_quota_ended_total",
            "Sessions ended because a quota was used up",
            "limit",
            each=[[limit] for limit in (Limit.SESSIONS, *DAILY)],
        )
        self._failures = families.counter(
            "relay_quota_store_failures_total",
            "Times quotas could not be counted where they are shared",
            "what",
            each=[[what] for what in STORED],
        )

    def refused(self, hit: LimitHit, tenant: str) -> None:
        """Record that nothing is left of a limit for another session or key."""
        self._refused.labels(hit.scope, hit.limit).inc()
        if (suppressed := self._lines.spend()) is not None:
            self._log.info("quota_refused", scope=hit.scope, limit=hit.limit, tenant=tenant, **suppressed)

    def ended(self, hit: LimitHit, session_id: str) -> None:
        """Record that a session is ended for what was used."""
        self._ended.labels(hit.limit).inc()
        if (suppressed := self._lines.spend()) is not None:
            self._log.info("quota_ended", scope=hit.scope, limit=hit.limit, session_id=session_id, **suppressed)

    def store_failed(self, what: str, error: StoreError, *, then: str) -> None:
        """Record that the store could not be asked, and what holds instead."""
        self._failures.labels(what).inc()
        if (suppressed := self._lines.spend()) is not None:
            self._log.warning("quota_store_failed", what=what, error=str(error), then=then, **suppressed)

    def lease_lost(self, session_id: str, outcome: str) -> None:
        """Record that a running session's place was gone, and whether it has one again."""
        if (suppressed := self._lines.spend()) is not None:
            self._log.warning("lease_lost", session_id=session_id, outcome=outcome, **suppressed)

    def look_failed(self, error: Exception) -> None:
        """Record that running sessions could not be compared with their limits."""
        self._log.error("quota_look_failed", error=type(error).__name__)
