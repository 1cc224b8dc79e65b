"""What is written down of one session: its facts as they come, its record at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from relay.core.lifecycle import (
    ClientFact,
    ClientGone,
    Decided,
    Disconnected,
    Ended,
    LegName,
    PolicyTaken,
    Reattached,
    ReattachFailed,
    Reconnected,
    SessionCounters,
    Stage,
    StageDone,
    TransportUsed,
)
from relay.core.record import Governed, SessionRecord
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason

if TYPE_CHECKING:
    from relay.core.doors import OpenRequest
    from relay.core.policy import EffectivePolicy
    from relay.telemetry import Telemetry

# A leg that changes its transport more often than this is named by its last ones.
_MOST_TRANSPORTS = 8
# In which stage a session failed that ended before it was active.
_FAILED_STAGE = {
    EndReason.CLIENT_UNREACHABLE: (LegName.DOWNSTREAM, Stage.ICE),
    EndReason.CLIENT_DTLS_FAILED: (LegName.DOWNSTREAM, Stage.DTLS),
    EndReason.CLIENT_CHANNEL_TIMEOUT: (LegName.DOWNSTREAM, Stage.CHANNEL),
    EndReason.SERVICE_UNREACHABLE: (LegName.UPSTREAM, Stage.ICE),
    EndReason.SERVICE_DTLS_FAILED: (LegName.UPSTREAM, Stage.DTLS),
    EndReason.SERVICE_CHANNEL_TIMEOUT: (LegName.UPSTREAM, Stage.CHANNEL),
    EndReason.SERVICE_REFUSED: (LegName.UPSTREAM, Stage.CALL),
    EndReason.POLICY_UNCONFIRMED: (LegName.UPSTREAM, Stage.POLICY),
    EndReason.POLICY_NOT_IN_FORCE: (LegName.UPSTREAM, Stage.POLICY),
}
# Ends that a rule decides without any event.
_ENDED_BY_RULE = {
    EndReason.POLICY_KILLED: Rule.KILL_SWITCH,
    EndReason.POLICY_TIME_LIMIT: Rule.LIMIT_SESSION,
    EndReason.POLICY_IDLE: Rule.LIMIT_IDLE,
    EndReason.POLICY_UNRECORDED: Rule.SINK_FAILURE,
}


class Diary:
    """Follows one session from its admission. `policy` is the one in force, `request` its client's; both may change."""

    def __init__(self, session_id: str, request: OpenRequest, policy: EffectivePolicy, telemetry: Telemetry) -> None:
        self.policy = policy
        self.request = request
        self._session_id = session_id
        self._telemetry = telemetry
        self._began = time.monotonic()
        self._stages: dict[str, float] = {}
        self._request_ids: list[str] = []
        self._transports: dict[str, tuple[str, ...]] = {}
        self._reattached = 0

    def tell(self, fact: StageDone | Decided | PolicyTaken | ClientFact) -> None:
        """Write a fact down."""
        match fact:
            case StageDone(leg, stage, seconds):
                self.stage_done(leg, stage, seconds)
            case Decided():
                self._decided(fact)
            case PolicyTaken(revision):
                self._telemetry.policy_taken(self._session_id, self.policy.name, revision)
            case TransportUsed(leg, transport):
                used = (*self._transports.get(leg.value, ()), transport)
                self._transports[leg.value] = used[-_MOST_TRANSPORTS:]
                self._telemetry.transport_used(leg, transport)
            case _:
                self._client(fact)

    def stage_done(self, leg: LegName, stage: Stage, seconds: float) -> None:
        """Note that a stage was reached."""
        self._stages[f"{leg.value}.{stage.value}"] = seconds
        self._telemetry.stage_done(leg, stage, seconds)

    def service_asked(self, request_id: str | None) -> None:
        """Keep the service's own id of a request, for a support case."""
        if request_id is not None:
            self._request_ids.append(request_id)

    def ended(self, ended: Ended | None) -> None:
        """Write the record; None for a session whose media side never began."""
        reason = EndReason.SERVICE_REFUSED if ended is None else ended.reason
        if reason in _ENDED_BY_RULE:
            # Ended by a rule and not by an event: the decision is written down here.
            self._decided(Decided(LegName.DOWNSTREAM, "other", Verdict.END.value, _ENDED_BY_RULE[reason]))
        if Stage.POLICY.value not in {name.partition(".")[2] for name in self._stages} and reason in _FAILED_STAGE:
            self._telemetry.setup_failed(*_FAILED_STAGE[reason], reason.value)
        self._telemetry.session_ended(
            SessionRecord(
                session_id=self._session_id,
                door=self.request.door,
                dialect=self.request.dialect,
                reason=reason,
                detail="" if ended is None else ended.detail,
                duration_seconds=time.monotonic() - self._began,
                policy=self.policy.name,
                revision=self.policy.revision,
                stages=self._stages,
                counters=SessionCounters() if ended is None else ended.counters,
                request_ids=tuple(self._request_ids),
                transports=self._transports,
                reattached=self._reattached,
            )
        )

    def _decided(self, decided: Decided) -> None:
        identity = self.request.identity
        self._telemetry.decided(
            self._session_id,
            decided,
            Governed(self.policy.name, self.policy.revision, identity.tenant, identity.subject_hash),
        )

    def _client(self, fact: Disconnected | Reconnected | ClientGone | Reattached | ReattachFailed) -> None:
        telemetry, session_id = self._telemetry, self._session_id
        match fact:
            case Disconnected(seconds):
                telemetry.client_disconnected(session_id, seconds)
            case Reconnected(seconds):
                telemetry.client_reconnected(session_id, seconds)
            case ClientGone(reason, detail, seconds):
                telemetry.client_gone(session_id, reason, detail, seconds)
            case Reattached(seconds):
                self._reattached += 1
                telemetry.client_reattached(session_id, seconds)
            case ReattachFailed(reason, detail):
                telemetry.reattach_failed(session_id, reason, detail)
