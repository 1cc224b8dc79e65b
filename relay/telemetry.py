"""What is told of the relay's work: one method per fact, which writes a log line, moves a metric, or both."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from relay.core.decision_chain import DecisionRecord
from relay.core.lifecycle import LegName, Phase
from relay.core.verdicts import Rule
from relay.telemetry_log import configure_logging
from relay.telemetry_metrics import (
    AUDIT_FAILURES,
    AUTH_METHODS,
    DOORS,
    LEGS,
    MODES,
    MOST_POLICIES,
    OPERATIONS,
    OUTCOMES,
    REASONS,
    REFUSALS,
    RESOURCES,
    RULES,
    STAGES,
    TRANSPORTS,
    UNRESOLVED,
    VERDICTS,
    Metrics,
    SessionTotals,
    fold,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import CollectorRegistry

    from relay.core.doors import EarlyOutcome
    from relay.core.headroom import Resource
    from relay.core.kill_switch import KillSwitch
    from relay.core.lifecycle import Decided, Dialect, LegCounters, SessionCounters, Stage
    from relay.core.record import Governed, SessionRecord
    from relay.errors import EndReason

__all__ = ["Telemetry", "configure_logging", "render_metrics"]

LINES_PER_SECOND = 20
LAG_INTERVAL_SECONDS = 0.5
_MOST_LINES = 20


def render_metrics(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return the body and the content type of a scrape."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


class Telemetry:
    """The facts. `clock` gives monotonic seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.get_logger("relay")
        self._metrics = Metrics(registry)
        self._totals = SessionTotals()
        self._policies: set[str] = set()
        self._record: Callable[[DecisionRecord], None] | None = None
        # Strangers decide how often these happen: their lines are limited, their metrics are not.
        self._refusal_lines = _LineBudget(clock)
        self._decision_lines = _LineBudget(clock)
        self._audit_lines = _LineBudget(clock)
        self._client_lines = _LineBudget(clock)
        registry.register(self._totals)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def attach(
        self,
        live: Callable[[], Mapping[str, SessionCounters]],
        *,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        endpoint_drops: Callable[[], Mapping[str, int]] = dict,
        capacity: Callable[[], Mapping[Resource, float]] = dict,
    ) -> None:
        """Say where scrapes find what is current: counters by session id, state, drops before any session, room."""
        self._totals.live = live
        self._totals.ready = ready
        self._totals.draining = draining
        self._totals.endpoint_drops = endpoint_drops
        self._totals.capacity = capacity

    def keep_decisions(self, record: Callable[[DecisionRecord], None], queue_depth: Callable[[], int]) -> None:
        """Say where decisions are written down, and where a scrape finds how many wait."""
        self._record = record
        self._metrics.audit_depth.set_function(queue_depth)

    def started(self, public_url: str, operations_url: str, media_addresses: Sequence[str], forwarder: str) -> None:
        """Record that the relay serves, where, and whether packets go through compiled code."""
        self._log.info(
            "started",
            public_url=public_url,
            operations_url=operations_url,
            media_addresses=list(media_addresses),
            forwarder=forwarder,
        )

    def session_opened(self, session_id: str, door: str, dialect: Dialect) -> None:
        """Record that a session was admitted; `session_ended` must follow once."""
        self._totals.opened(session_id)
        self._metrics.sessions_started.labels(fold(door, DOORS)).inc()
        self._metrics.admission.labels("admitted", "none").inc()
        self._log.info("session_opened", session_id=session_id, door=door, dialect=dialect)

    def session_ended(self, record: SessionRecord) -> None:
        """Record the end of a session that was opened; a second end is reported and not counted."""
        if not self._totals.ended(record.session_id, record.counters):
            self.warn("session_ended_unopened", session_id=record.session_id, reason=record.reason)
            return
        side = record.reason.side
        self._metrics.sessions_ended.labels(side, record.reason.value).inc()
        self._metrics.session_duration.labels(side).observe(record.duration_seconds)
        for leg, figures in (("downstream", record.counters.downstream), ("upstream", record.counters.upstream)):
            if figures.jitter_seconds is not None:
                self._metrics.jitter.labels(leg).observe(figures.jitter_seconds)
            if figures.rtt_seconds is not None:
                self._metrics.rtt.labels(leg).observe(figures.rtt_seconds)
        self._log.info("session_ended", **_line(record))

    def early_session(self, outcome: EarlyOutcome, session_id: str = "") -> None:
        """Record what becomes of a session begun when a key was minted; without an id none was begun."""
        self._metrics.early_sessions.labels(outcome.value).inc()
        if session_id:
            self._log.info("early_session", session_id=session_id, outcome=outcome)

    def phase_changed(self, session_id: str, phase: Phase) -> None:
        """Record where a session is in its life."""
        self._totals.entered(session_id, phase)

    def stage_done(self, leg: LegName, stage: Stage, seconds: float) -> None:
        """Record how long a stage of set-up took."""
        self._metrics.setup_stage.labels(fold(leg, LEGS), fold(stage, STAGES)).observe(seconds)

    def setup_failed(self, leg: LegName, stage: Stage, reason: str) -> None:
        """Record that set-up failed in a stage, for an end reason or an error code."""
        self._metrics.setup_failures.labels(fold(leg, LEGS), fold(stage, STAGES), fold(reason, REASONS)).inc()

    # --- the client's way --------------------------------------------------------------------------------------------

    def transport_used(self, leg: LegName, transport: str) -> None:
        """Record what a leg runs over from now on."""
        self._metrics.pairs.labels(fold(leg, LEGS), fold(transport, TRANSPORTS)).inc()

    def client_disconnected(self, session_id: str, seconds: float) -> None:
        """Record that the client's checks have stopped for a while."""
        self._metrics.gaps.labels(LegName.DOWNSTREAM).inc()
        self._client_line("client_disconnected", session_id, seconds=round(seconds, 1))

    def client_reconnected(self, session_id: str, seconds: float) -> None:
        """Record that they are back after so long."""
        self._client_line("client_reconnected", session_id, seconds=round(seconds, 1))

    def client_gone(self, session_id: str, reason: EndReason, detail: str, seconds: float) -> None:
        """Record that the client is gone, and how long its session waits for it."""
        self._metrics.clients_gone.labels(fold(reason, REASONS)).inc()
        self._client_line("client_gone", session_id, reason=reason, detail=detail, waits_seconds=seconds)

    def ice_restarted(self, session_id: str) -> None:
        """Record that an ICE restart of the client was answered."""
        self._metrics.restarts.labels(LegName.DOWNSTREAM).inc()
        self._client_line("ice_restarted", session_id)

    def client_reattached(self, session_id: str, seconds: float) -> None:
        """Record that a new peer connection of the client took over, so long after its offer."""
        self._metrics.reattached.labels("done").inc()
        self._metrics.reattach_seconds.observe(seconds)
        self._client_line("client_reattached", session_id, seconds=round(seconds, 3))

    def reattach_failed(self, session_id: str, reason: EndReason, detail: str) -> None:
        """Record that one did not come up."""
        self._metrics.reattached.labels("failed").inc()
        self._client_line("reattach_failed", session_id, reason=reason, detail=detail)

    def _client_line(self, event: str, session_id: str, **fields: Any) -> None:
        if (suppressed := self._client_lines.spend()) is not None:
            self._log.info(event, session_id=session_id, **fields, **suppressed)

    # --- what a policy decides ---------------------------------------------------------------------------------------

    def decided(self, session_id: str, decision: Decided, governed: Governed) -> None:
        """Record what the policy made of an event, when that was not a plain forward."""
        verdict = fold(decision.would_be or decision.verdict, VERDICTS)
        policy, rule, mode = (
            fold(governed.policy, self._policies),
            fold(decision.rule, RULES),
            fold(decision.mode, MODES),
        )
        self._metrics.decisions.labels(policy, rule, verdict, mode).inc()
        if decision.rule == Rule.SESSION_IN_FORCE:
            self._metrics.drift.inc()
        if self._record is not None:
            self._record(_decision_record(session_id, decision, governed))
        if (suppressed := self._decision_lines.spend()) is not None:
            fields = {"leg": decision.leg, "event_type": decision.event_type, "verdict": verdict, "rule": decision.rule,
                      "mode": decision.mode, "policy": governed.policy}  # fmt: skip
            self._log.info("policy_decided", session_id=session_id, **fields, **suppressed)

    # --- policies ----------------------------------------------------------------------------------------------------

    def policies_loaded(self, revisions: Mapping[str, str], warnings: Sequence[str]) -> None:
        """Record which policies are in force, and what their administrator should know of."""
        self._policies |= set(sorted(set(revisions) - self._policies)[: MOST_POLICIES - len(self._policies)])
        self._metrics.reloads.labels("loaded").inc()
        self._metrics.policies_loaded_at.set_to_current_time()
        self._metrics.policy_info.clear()
        for name in sorted(revisions)[:MOST_POLICIES]:
            self._metrics.policy_info.labels(name, revisions[name][:12]).set(1)
        self._log.info("policies_loaded", policies={name: found[:12] for name, found in sorted(revisions.items())})
        for warning in warnings[:_MOST_LINES]:
            self.warn("policy_warning", message=warning)

    def policies_refused(self, problems: str) -> None:
        """Record that changed policies cannot be put in force, and why; the last good ones stay."""
        self._metrics.reloads.labels("refused").inc()
        lines = problems.splitlines()
        self._log.error("policies_refused", problems=lines[:_MOST_LINES], problems_in_all=len(lines))

    def kill_switch_changed(self, switch: KillSwitch, unknown: tuple[str, ...] = ()) -> None:
        """Record whom the kill switch stops from now on; `unknown` are names in it that no policy knows."""
        self._metrics.kill_switch.set(switch.active)
        self._log.warning(
            "kill_switch_changed",
            everybody=switch.everybody,
            tenants=sorted(switch.tenants),
            policies=sorted(switch.policies),
        )
        for name in unknown[:_MOST_LINES]:
            self.warn("kill_switch_unknown", name=name)

    def policy_unresolved(self, reason: str, detail: str) -> None:
        """Record that a session or key was refused because there is no policy for it."""
        self._metrics.unresolved.labels(fold(reason, UNRESOLVED)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            self._log.info("policy_unresolved", reason=reason, detail=detail, **suppressed)

    def policy_replaced(self, session_id: str, policy: str, revision: str) -> None:
        """Record that a running session was given another policy."""
        self._metrics.live_policies.labels("sent").inc()
        self._log.info("policy_replaced", session_id=session_id, policy=policy, revision=revision[:12])

    def policy_taken(self, session_id: str, policy: str, revision: str) -> None:
        """Record that the service confirmed the policy a running session was given."""
        self._metrics.live_policies.labels("confirmed").inc()
        self._log.info("policy_taken", session_id=session_id, policy=policy, revision=revision[:12])

    # --- the decision log --------------------------------------------------------------------------------------------

    def decision_log_written(self, records: int) -> None:
        """Record that so many more records are in the decision log."""
        self._metrics.audit_records.inc(records)

    def decision_log_failed(self, reason: str, detail: str) -> None:
        """Record that the decision log could not be written (`write`), or a record of it is lost (`overflow`)."""
        self._metrics.audit_failures.labels(fold(reason, AUDIT_FAILURES)).inc()
        if (suppressed := self._audit_lines.spend()) is not None:
            self._log.error("decision_log_failed", reason=reason, detail=detail, **suppressed)

    def decision_log_recovered(self) -> None:
        """Record that the decision log is written again."""
        self._log.warning("decision_log_recovered")

    def decision_log_head(self, chain: str, records: int, head: str) -> None:
        """Keep, where the decision log's own files cannot be changed with it, how far it came."""
        self._log.info("decision_log_head", chain=chain, records=records, head=head)

    def door_refused(self, door: str, status: int, code: str) -> None:
        """Record that a door refused a request with this status and error code."""
        self._metrics.admission.labels("refused", fold(code, REFUSALS)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            write = self._log.warning if status >= 500 else self._log.info  # noqa: PLR2004 - HTTP's own boundary
            write("door_refused", door=door, status=status, code=code, **suppressed)

    def auth_failed(self, method: str) -> None:
        """Record a credential that was refused."""
        self._metrics.auth_failures.labels(fold(method, AUTH_METHODS)).inc()

    def service_request(self, operation: str, outcome: str, seconds: float) -> None:
        """Record a request to the service: `ok` or the refusal, and the seconds it took."""
        self._metrics.upstream_requests.labels(fold(operation, OPERATIONS), fold(outcome, OUTCOMES)).inc()
        self._metrics.upstream_seconds.labels(fold(operation, OPERATIONS)).observe(seconds)

    # --- room, and calls to hang up ----------------------------------------------------------------------------------

    def capacity_short(self, resource: Resource, sessions: int) -> None:
        """Record that a session was refused because this resource is short; so many were there."""
        self._metrics.shortages.labels(fold(resource, RESOURCES)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            self._log.warning("capacity_short", resource=resource, sessions=sessions, **suppressed)

    def hang_up_late(self, call_id: str, attempts: int) -> None:
        """Record that a call which could not be hung up at once, or was left by a relay before, is hung up."""
        self._metrics.hang_ups_late.labels("done").inc()
        self._log.info("hang_up_late", call_id=call_id, attempts=attempts)

    def hang_up_given_up(self, call_id: str, attempts: int, detail: str) -> None:
        """Record that a call is not tried to be hung up any more; the service ends it by its own limit."""
        self._metrics.hang_ups_late.labels("given_up").inc()
        self.warn("hang_up_given_up", call_id=call_id, attempts=attempts, detail=detail)

    def hang_ups_waiting(self, calls: Callable[[], int]) -> None:
        """Say where a scrape finds how many calls are to be hung up still."""
        self._metrics.hang_ups_waiting.set_function(calls)

    def warn(self, event: str, **fields: Any) -> None:
        """Write a warning; `event` is a fixed word, what varies goes into the fields."""
        self._log.warning(event, **fields)

    async def watch_loop(self) -> NoReturn:
        """Measure for ever how late the event loop runs its timers."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_SECONDS
            await asyncio.sleep(LAG_INTERVAL_SECONDS)
            self._metrics.loop_lag.observe(max(0.0, loop.time() - due))


class _LineBudget:
    """At most LINES_PER_SECOND lines in any second; says how many were left out before one that is written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._written = 0
        self._left_out = 0

    def spend(self) -> dict[str, int] | None:
        """Return the fields to add to the line, None if it must not be written."""
        if (second := int(self._clock())) != self._second:
            self._second, self._written = second, 0
        if self._written >= LINES_PER_SECOND:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return {"lines_left_out": left_out} if left_out else {}


def _decision_record(session_id: str, decision: Decided, governed: Governed) -> DecisionRecord:
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


def _line(record: SessionRecord) -> dict[str, Any]:
    verdicts: dict[str, int] = {}
    for (leg, _event, verdict), count in record.counters.events.items():
        verdicts[f"{leg}.{verdict}"] = verdicts.get(f"{leg}.{verdict}", 0) + count
    return {
        "session_id": record.session_id,
        "door": record.door,
        "dialect": record.dialect,
        "side": record.reason.side,
        "reason": record.reason,
        "detail": record.detail,
        "duration_seconds": round(record.duration_seconds, 3),
        "policy": record.policy,
        "revision": record.revision[:12],
        "stages": {stage: round(seconds, 4) for stage, seconds in record.stages.items()},
        "downstream": _leg_line(record.counters.downstream),
        "upstream": _leg_line(record.counters.upstream),
        "transports": record.transports,
        "reattached": record.reattached,
        "events": verdicts,
        "service_request_ids": record.request_ids,
    }


def _leg_line(figures: LegCounters) -> dict[str, Any]:
    named = {each.name: getattr(figures, each.name) for each in dataclasses.fields(figures)}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in named.items() if value}
