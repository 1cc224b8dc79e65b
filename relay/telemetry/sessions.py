"""What is told of sessions: their beginning, the stages of their set-up, their end and the one line it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.doors import EarlyOutcome
from relay.core.record import as_shown
from relay.errors import EndReason
from relay.telemetry.families import STAGE_BUCKETS
from relay.telemetry.totals import SessionTotals
from relay.telemetry.words import CALL_DOORS, DOORS, LEGS, REASONS, SETUP_FAILURES, STAGES, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import Histogram
    from structlog.typing import FilteringBoundLogger

    from relay.core.lifecycle import Dialect, LegName, Phase, SessionCounters, Stage
    from relay.core.record import SessionRecord
    from relay.telemetry.doors import DoorTelemetry
    from relay.telemetry.families import Families

_DURATION_BUCKETS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)


class SessionTelemetry:
    """The facts of sessions."""

    def __init__(self, families: Families, log: FilteringBoundLogger, doors: DoorTelemetry) -> None:
        self._log = log
        self._doors = doors
        self._keep: Callable[[SessionRecord], None] = lambda _record: None
        self._totals = SessionTotals()
        families.registry.register(self._totals)
        self._started = families.counter(
            "relay_sessions_started_total", "Sessions admitted", "door", each=[[door] for door in sorted(CALL_DOORS)]
        )
        self._ended = families.counter(
            "relay_sessions_ended_total", "Sessions ended", "side", "reason",
            each=[(reason.side, reason.value) for reason in EndReason],
        )  # fmt: skip
        self._duration = families.histogram(
            "relay_session_duration_seconds", "From admission to end", _DURATION_BUCKETS, "side"
        )
        self._setup_stage = families.histogram(
            "relay_setup_stage_seconds", "Time to reach a stage of set-up", STAGE_BUCKETS, "leg", "stage"
        )
        # Looked up once: nine stages are told of each session.
        self._stages: dict[tuple[LegName, Stage], Histogram] = {}
        self._early = families.counter(
            "relay_early_sessions_total",
            "Sessions begun when a key is minted",
            "outcome",
            each=[[outcome.value] for outcome in EarlyOutcome],
        )
        self._setup_failures = families.counter(
            "relay_setup_failures_total", "Set-ups that failed", "leg", "stage", "reason", each=SETUP_FAILURES
        )

    def attach(
        self,
        live: Callable[[], Mapping[str, SessionCounters]],
        *,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        endpoint_drops: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Say where scrapes find what is current: counters by session id, state, drops before any session."""
        self._totals.live = live
        self._totals.ready = ready
        self._totals.draining = draining
        self._totals.endpoint_drops = endpoint_drops

    def keep(self, record: Callable[[SessionRecord], None]) -> None:
        """Say who keeps the records of sessions that ended."""
        self._keep = record

    def opened(self, session_id: str, door: str, dialect: Dialect, trace_id: str | None = None) -> None:
        """Record that a session was admitted; `ended` must follow once."""
        self._totals.opened(session_id)
        self._started.labels(fold(door, DOORS)).inc()
        self._doors.admitted()
        traced = {} if trace_id is None else {"trace_id": trace_id}
        self._log.info("session_opened", session_id=session_id, door=door, dialect=dialect, **traced)

    def ended(self, record: SessionRecord) -> None:
        """Record the end of a session that was opened; a second end is reported and not counted."""
        if not self._totals.ended(record.session_id, record.counters):
            self._log.warning("session_ended_unopened", session_id=record.session_id, reason=record.reason)
            return
        side = record.reason.side
        self._ended.labels(side, record.reason.value).inc()
        self._duration.labels(side).observe(record.duration_seconds)
        self._log.info("session_ended", **as_shown(record))
        self._keep(record)

    def early(self, outcome: EarlyOutcome, session_id: str = "") -> None:
        """Record what becomes of a session begun when a key was minted; without an id none was begun."""
        self._early.labels(outcome.value).inc()
        if session_id:
            self._log.info("early_session", session_id=session_id, outcome=outcome)

    def phase_changed(self, session_id: str, phase: Phase) -> None:
        """Record where a session is in its life."""
        self._totals.entered(session_id, phase)

    def stage_done(self, leg: LegName, stage: Stage, seconds: float) -> None:
        """Record how long a stage of set-up took."""
        observed = self._stages.get((leg, stage))
        if observed is None:
            observed = self._setup_stage.labels(fold(leg, LEGS), fold(stage, STAGES))
            self._stages[leg, stage] = observed
        observed.observe(seconds)

    def setup_failed(self, leg: LegName, stage: Stage, reason: str) -> None:
        """Record that set-up failed in a stage, for an end reason or an error code."""
        self._setup_failures.labels(fold(leg, LEGS), fold(stage, STAGES), fold(reason, REASONS)).inc()
