"""What is told of decisions, and of the log in which they are kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from relay.core.decision_chain import DecisionRecord
from relay.core.verdicts import Rule
from relay.telemetry.words import AUDIT_FAILURES, MODES, RULES, VERDICTS, Names, fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from relay.core.lifecycle import Decided
    from relay.core.record import Governed
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget


class DecisionTelemetry:
    """The facts of decisions and of the decision log. `policies` are the names that labels may hold."""

    def __init__(
        self,
        families: Families,
        log: FilteringBoundLogger,
        policies: Names,
        lines: LineBudget,
        log_lines: LineBudget,
    ) -> None:
        self._log = log
        self._policies = policies
        self._lines = lines
        self._log_lines = log_lines
        self._keepers: list[Callable[[DecisionRecord], None]] = []
        self._decisions = families.counter(
            "relay_policy_decisions_total", "Events not simply forwarded", "policy", "rule", "verdict", "mode"
        )
        self._drift = families.counter(
            "relay_policy_drift_total", "Times the service ran something else than the policy"
        )
        self._written = families.counter("relay_audit_records_total", "Records written to the decision log")
        self._failures = families.counter(
            "relay_audit_failures_total",
            "Records that could not be written",
            "reason",
            each=[[reason] for reason in sorted(AUDIT_FAILURES)],
        )
        self._depth = families.gauge("relay_audit_queue_depth", "Records that wait to be written")

    def keep(self, record: Callable[[DecisionRecord], None], queue_depth: Callable[[], int] | None = None) -> None:
        """Say where decisions are written down too, and of the decision log where a scrape finds how many wait."""
        self._keepers.append(record)
        if queue_depth is not None:
            self._depth.set_function(queue_depth)

    def decided(self, session_id: str, decision: Decided, governed: Governed) -> None:
        """Record what the policy made of an event, when that was not a plain forward."""
        verdict = fold(decision.would_be or decision.verdict, VERDICTS)
        policy, rule, mode = (
            fold(governed.policy, self._policies),
            fold(decision.rule, RULES),
            fold(decision.mode, MODES),
        )
        self._decisions.labels(policy, rule, verdict, mode).inc()
        if decision.rule == Rule.SESSION_IN_FORCE:
            self._drift.inc()
        if self._keepers:
            record = _record_of(session_id, decision, governed)
            for keep in self._keepers:
                keep(record)
        if (suppressed := self._lines.spend()) is not None:
            fields = {"leg": decision.leg, "event_type": decision.event_type, "verdict": verdict, "rule": decision.rule,
                      "mode": decision.mode, "policy": governed.policy}  # fmt: skip
            self._log.info("policy_decided", session_id=session_id, **fields, **suppressed)

    def decision_log_written(self, records: int) -> None:
        """Record that so many more records are in the decision log."""
        self._written.inc(records)

    def decision_log_failed(self, reason: str, detail: str) -> None:
        """Record that the decision log could not be written (`write`), or a record of it is lost (`overflow`)."""
        self._failures.labels(fold(reason, AUDIT_FAILURES)).inc()
        if (suppressed := self._log_lines.spend()) is not None:
            self._log.error("decision_log_failed", reason=reason, detail=detail, **suppressed)

    def decision_log_recovered(self) -> None:
        """Record that the decision log is written again."""
        self._log.warning("decision_log_recovered")

    def decision_log_head(self, chain: str, records: int, head: str) -> None:
        """Keep, where the decision log's own files cannot be changed with it, how far it came."""
        self._log.info("decision_log_head", chain=chain, records=records, head=head)


def _record_of(session_id: str, decision: Decided, governed: Governed) -> DecisionRecord:
    return DecisionRecord(
        at=time.time(),
        session=session_id,
        tenant=governed.tenant,
        subject=governed.subject,
        policy=governed.policy,
        revision=governed.revision,
        leg=decision.leg,
        event_type=decision.event_type,
        rule=decision.rule,
        verdict=decision.verdict,
        mode=decision.mode,
        would_be=decision.would_be,
        content_sha256=decision.content_sha256,
    )
