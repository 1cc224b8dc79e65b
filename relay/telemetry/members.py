"""What is told of the members of the upstream pool: how it stands with each, what they were asked, who stood in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.core.pool import Condition
from relay.telemetry.words import OPERATIONS, OUTCOMES, Names, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric
    from structlog.typing import FilteringBoundLogger

    from relay.core.pool import MemberState
    from relay.telemetry.families import Families

_MOST_MEMBERS = 32
_CONDITIONS = {Condition.READY: 0, Condition.COOLING: 1, Condition.DOWN: 2}


class MemberTelemetry:
    """The facts of the pool's members; labels hold the names of the settings."""

    def __init__(self, families: Families, log: FilteringBoundLogger) -> None:
        self._log = log
        self._names = Names(_MOST_MEMBERS)
        self._states = _States()
        families.registry.register(self._states)
        self._requests = families.counter(
            "relay_upstream_member_requests_total", "Requests to a member", "member", "operation", "outcome"
        )
        self._failovers = families.counter(
            "relay_upstream_failovers_total", "Set-ups that went on to another member", "member", "reason"
        )

    def watch(self, state: Callable[[], Sequence[MemberState]]) -> None:
        """Say where a scrape finds how it stands with the members; their names are what labels may hold."""
        self._names.add(each.name for each in state())
        self._states.state = state

    def requested(self, member: str, operation: str, outcome: str) -> None:
        """Record a request to a member: `ok` or the refusal."""
        self._requests.labels(fold(member, self._names), fold(operation, OPERATIONS), fold(outcome, OUTCOMES)).inc()

    def failed_over(self, session_id: str, member: str, to: str, reason: str) -> None:
        """Record that a set-up went on at `to`, because `member` gave no call."""
        self._failovers.labels(fold(member, self._names), fold(reason, OUTCOMES)).inc()
        self._log.info("failed_over", session_id=session_id, member=member, to=to, reason=reason)

    def member_changed(self, member: str, condition: Condition, error: str | None, seconds: float | None) -> None:
        """Record that a member is left alone from now on, for so long, or is back."""
        if condition is Condition.READY:
            self._log.info("member_ready", member=member)
        else:
            left = None if seconds is None else round(seconds, 1)
            self._log.warning("member_away", member=member, state=condition, reason=error, seconds=left)


class _States(Collector):
    """How it stands with each member, read when scraped."""

    def __init__(self) -> None:
        self.state: Callable[[], Sequence[MemberState]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Yield the families (prometheus_client's protocol)."""
        states = GaugeMetricFamily("relay_upstream_member_state", "0 ready, 1 cooling down, 2 down", labels=["member"])
        sessions = GaugeMetricFamily("relay_upstream_member_sessions", "Calls that a member has", labels=["member"])
        for each in self.state():
            states.add_metric([each.name], _CONDITIONS[each.state])
            sessions.add_metric([each.name], each.sessions)
        yield states
        yield sessions
