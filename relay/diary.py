"""What is written down of one session: its facts as they come, its record at the end."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from relay.core.allowance import END_REASONS
from relay.core.lifecycle import (
    ClientGone,
    Decided,
    DiaryFact,
    Disconnected,
    Ended,
    LegName,
    MediaSample,
    Phase,
    PolicyTaken,
    Reattached,
    ReattachFailed,
    Reconnected,
    SessionCounters,
    Stage,
    StageDone,
    TransportUsed,
)
from relay.core.live_session import LiveSession, quality
from relay.core.policy import deployments
from relay.core.record import FAILED_STAGES, Governed, SessionRecord
from relay.core.timeline import Entry, Moment, Timeline, entry_of
from relay.core.turn_facts import (
    AnswerBegan,
    Answered,
    Interrupted,
    LimitsTold,
    ServiceErred,
    Tokens,
    Transcribed,
    TurnFact,
)
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason
from relay.telemetry.traces import NOT_TRACED

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.client_stats import ClientStats
    from relay.core.doors import OpenRequest
    from relay.core.policy import EffectivePolicy
    from relay.telemetry import Telemetry
    from relay.telemetry.traces import SessionTrace

# A leg that changes its transport more often than this is named by its last ones.
_MOST_TRANSPORTS = 8
# Ends of a leg whose peer gave no sign of life (RFC 7675).
_CONSENT_LOST = {EndReason.CLIENT_LOST: LegName.DOWNSTREAM, EndReason.SERVICE_LOST: LegName.UPSTREAM}
# Ends that a rule decides without any event.
_ENDED_BY_RULE = {
    EndReason.POLICY_KILLED: Rule.KILL_SWITCH,
    EndReason.POLICY_TIME_LIMIT: Rule.LIMIT_SESSION,
    EndReason.POLICY_IDLE: Rule.LIMIT_IDLE,
    EndReason.POLICY_UNRECORDED: Rule.SINK_FAILURE,
    EndReason.POLICY_REGION: Rule.RESIDENCY,
    **dict.fromkeys(END_REASONS.values(), Rule.QUOTA),
}


class Diary:
    """Follows one session from its admission. `policy` is the one in force, `request` its client's; both may change.

    `member` names what of the upstream's pool serves it; empty until that is known, and where there is no pool.
    """

    def __init__(self, session_id: str, request: OpenRequest, policy: EffectivePolicy, telemetry: Telemetry) -> None:
        self.policy = policy
        self.request = request
        self.member = ""
        self.timeline = Timeline()
        self._session_id = session_id
        self._telemetry = telemetry
        self._began = time.monotonic()
        self._started_at = time.time()
        self._phase = Phase.NEW
        self._samples: dict[str, MediaSample] = {}
        self._dollars = 0.0
        self._stages: dict[str, float] = {}
        self._request_ids: list[str] = []
        self._transports: dict[str, tuple[str, ...]] = {}
        self._reattached = 0
        self._turns: Counter[str] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._client_stats: ClientStats | None = None
        # Who counts tokens and US dollars for the limits of the day.
        self.on_used: Callable[[int, float], None] = lambda _tokens, _dollars: None
        # The client was told of as lost, and is not back.
        self._lost = False
        self._trace: SessionTrace = NOT_TRACED

    def opened(self) -> None:
        """Note that the session was admitted; before anything else of it."""
        request, policy, telemetry = self.request, self.policy, self._telemetry
        self.timeline.add(self._started_at, Entry(Moment.PHASE, Phase.NEW.value))
        telemetry.deployments.add(deployments(policy))
        telemetry.turns.expect(policy.deployment)
        self._trace = telemetry.traces.begin(self._session_id, request.traceparent, policy.deployment)
        telemetry.sessions.opened(self._session_id, request.door, request.dialect, self._trace.trace_id)

    def tell(self, fact: DiaryFact) -> None:
        """Write a fact down."""
        if not isinstance(fact, StageDone) and (entry := entry_of(fact)) is not None:
            self.timeline.add(time.time(), entry)
        match fact:
            case StageDone(leg, stage, seconds):
                self.stage_done(leg, stage, seconds)
            case Decided():
                self._decided(fact)
            case PolicyTaken(revision):
                self._telemetry.policies.policy_taken(self._session_id, self.policy.name, revision)
            case TransportUsed(leg, transport):
                used = (*self._transports.get(leg.value, ()), transport)
                self._transports[leg.value] = used[-_MOST_TRANSPORTS:]
                self._telemetry.clients.transport_used(leg, transport)
            case MediaSample(leg):
                self._samples[leg.value] = fact
                self._telemetry.media.sampled(fact)
            case Disconnected() | Reconnected() | ClientGone() | Reattached() | ReattachFailed():
                self._client(fact)
            case _:
                self._turn(fact)

    def stage_done(self, leg: LegName, stage: Stage, seconds: float) -> None:
        """Note that a stage was reached."""
        self.timeline.add(time.time(), Entry(Moment.STAGE, stage.value, leg, seconds))
        name = f"{leg.value}.{stage.value}"
        self._stages[name] = seconds
        self._telemetry.sessions.stage_done(leg, stage, seconds)
        self._trace.stage(name, seconds)

    def entered(self, phase: Phase) -> None:
        """Note the phase that the session is in from now on."""
        self._phase = phase
        self.timeline.add(time.time(), Entry(Moment.PHASE, phase.value))
        self._telemetry.sessions.phase_changed(self._session_id, phase)

    def noticed(self, reason: EndReason, seconds_left: int) -> None:
        """Note that the client is told of an end to come."""
        self.timeline.add(time.time(), Entry(Moment.NOTICE, reason.value, LegName.DOWNSTREAM, seconds_left))

    def policy_replaced(self, policy: EffectivePolicy) -> None:
        """Note that another policy is being put in force."""
        self.policy = policy
        self.timeline.add(time.time(), Entry(Moment.POLICY_REPLACED, f"{policy.name} {policy.revision}"))
        self._telemetry.policies.policy_replaced(self._session_id, policy.name, policy.revision)

    def view(self, counters: SessionCounters) -> LiveSession:
        """What is known of the session now."""
        identity = self.request.identity
        return LiveSession(
            id=self._session_id,
            tenant=identity.tenant,
            subject=identity.subject_hash,
            policy=self.policy.name,
            revision=self.policy.revision,
            door=self.request.door,
            dialect=self.request.dialect,
            phase=self._phase,
            started_at=self._started_at,
            seconds=time.monotonic() - self._began,
            deployment=self.policy.deployment,
            member=self.member,
            transports={leg: used[-1] for leg, used in self._transports.items()},
            quality=quality(counters, self._samples),
            turns=self._turns,
            tokens=self._tokens.total(),
            dollars=self._dollars,
        )

    def service_asked(self, request_id: str | None) -> None:
        """Keep the service's own id of a request, for a support case."""
        if request_id is not None:
            self._request_ids.append(request_id)

    def client_reported(self, stats: ClientStats) -> None:
        """Keep what the client tells of its own view; the last stands in the record."""
        self._client_stats = stats
        self._telemetry.browsers.reported(stats)

    def ended(self, ended: Ended | None) -> None:
        """Write the record; None for a session whose media side never began."""
        reason = EndReason.SERVICE_REFUSED if ended is None else ended.reason
        if reason in _ENDED_BY_RULE:
            # Ended by a rule and not by an event: the decision is written down here.
            self._decided(Decided(LegName.DOWNSTREAM, "other", Verdict.END.value, _ENDED_BY_RULE[reason]))
        if reason in FAILED_STAGES:
            self._look_whether_set_up(reason)
        if reason in _CONSENT_LOST and not (reason is EndReason.CLIENT_LOST and self._lost):
            self._telemetry.clients.consent_lost(_CONSENT_LOST[reason])
        self._trace.end(reason.side, reason.value, tuple(self._request_ids))
        self._phase = Phase.CLOSED
        self.timeline.add(time.time(), Entry(Moment.ENDED, reason.value))
        self._telemetry.sessions.ended(self._record(reason, ended))

    def _record(self, reason: EndReason, ended: Ended | None) -> SessionRecord:
        counters = SessionCounters() if ended is None else ended.counters
        last = self.view(counters)
        return SessionRecord(
            session_id=self._session_id,
            door=self.request.door,
            dialect=self.request.dialect,
            reason=reason,
            detail="" if ended is None else ended.detail,
            duration_seconds=time.monotonic() - self._began,
            policy=self.policy.name,
            revision=self.policy.revision,
            stages=self._stages,
            counters=counters,
            request_ids=tuple(self._request_ids),
            transports=self._transports,
            reattached=self._reattached,
            trace_id=self._trace.trace_id,
            turns=dict(self._turns),
            tokens=dict(self._tokens),
            client=self._client_stats,
            tenant=last.tenant,
            subject=last.subject,
            started_at=self._started_at,
            timeline=self.timeline.entries(),
            timeline_dropped=self.timeline.dropped,
            last=last,
        )

    def _look_whether_set_up(self, reason: EndReason) -> None:
        leg, stage = FAILED_STAGES[reason]
        # A call is taken, and can still be refused for what its answer says, until the policy is confirmed.
        reached = Stage.POLICY if stage is Stage.CALL else stage
        if f"{leg.value}.{reached.value}" not in self._stages:
            self._telemetry.sessions.setup_failed(leg, stage, reason.value)

    def _decided(self, decided: Decided) -> None:
        identity = self.request.identity
        self._telemetry.decisions.decided(
            self._session_id,
            decided,
            Governed(self.policy.name, self.policy.revision, identity.tenant, identity.subject_hash),
        )

    def _client(self, fact: Disconnected | Reconnected | ClientGone | Reattached | ReattachFailed) -> None:
        clients, session_id = self._telemetry.clients, self._session_id
        match fact:
            case Disconnected(seconds):
                clients.disconnected(session_id, seconds)
            case Reconnected(seconds):
                clients.reconnected(session_id, seconds)
            case ClientGone(reason, detail, seconds):
                clients.gone(session_id, reason, detail, seconds)
                if reason is EndReason.CLIENT_LOST:
                    self._lost = True
                    clients.consent_lost(LegName.DOWNSTREAM)
            case Reattached(seconds):
                self._reattached += 1
                self._lost = False
                clients.reattached(session_id, seconds)
            case ReattachFailed(reason, detail):
                clients.reattach_failed(session_id, reason, detail)

    def _turn(self, fact: TurnFact) -> None:
        turns, deployment = self._telemetry.turns, self.policy.deployment
        match fact:
            case AnswerBegan(seconds):
                turns.answer_began(deployment, seconds)
                self._trace.answer_began(seconds)
            case Answered(status, seconds, tokens):
                self._turns[status] += 1
                turns.answered(deployment, status)
                self._used(deployment, tokens)
                self._trace.answered(status, seconds, tokens)
            case Interrupted():
                self._turns["interrupted"] += 1
                turns.interrupted(deployment)
            case Transcribed(tokens, seconds):
                self._used(self.policy.transcription_deployment or deployment, tokens, seconds)
            case ServiceErred(code):
                self._telemetry.service.erred(deployment, code)
            case LimitsTold(remaining):
                self._telemetry.service.limits_told(deployment, remaining)

    def _used(self, deployment: str, tokens: Tokens, seconds: float = 0.0) -> None:
        self._tokens.update(tokens)
        dollars = self._telemetry.turns.used(deployment, tokens, seconds)
        self._dollars += dollars
        self.on_used(sum(tokens.values()), dollars)
