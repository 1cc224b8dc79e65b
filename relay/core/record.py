"""What remains of a session when it is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relay.core.lifecycle import LegCounters, LegName, SessionCounters, Stage
from relay.core.stored import SessionRow
from relay.errors import EndReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay.core.client_stats import ClientStats
    from relay.core.lifecycle import Dialect
    from relay.core.live_session import LiveSession
    from relay.core.turn_facts import Tokens

# In which stage set-up failed, if a session ended so before that stage was reached.
FAILED_STAGES = {
    EndReason.CLIENT_UNREACHABLE: (LegName.DOWNSTREAM, Stage.ICE),
    EndReason.CLIENT_DTLS_FAILED: (LegName.DOWNSTREAM, Stage.DTLS),
    EndReason.CLIENT_CHANNEL_TIMEOUT: (LegName.DOWNSTREAM, Stage.CHANNEL),
    EndReason.SERVICE_UNREACHABLE: (LegName.UPSTREAM, Stage.ICE),
    EndReason.SERVICE_DTLS_FAILED: (LegName.UPSTREAM, Stage.DTLS),
    EndReason.SERVICE_CHANNEL_TIMEOUT: (LegName.UPSTREAM, Stage.CHANNEL),
    EndReason.SERVICE_REFUSED: (LegName.UPSTREAM, Stage.CALL),
    EndReason.POLICY_REGION: (LegName.UPSTREAM, Stage.CALL),
    EndReason.POLICY_UNCONFIRMED: (LegName.UPSTREAM, Stage.POLICY),
    EndReason.POLICY_NOT_IN_FORCE: (LegName.UPSTREAM, Stage.POLICY),
}


@dataclass(frozen=True, slots=True)
class Governed:
    """Whose session a decision was made in, and under which policy; `subject` and `revision` are hashes."""

    policy: str
    revision: str
    tenant: str
    subject: str


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One finished session; nothing in it is content.

    `door` is the path family it came in by; `stages` holds seconds from the session's start by `leg.stage`;
    `request_ids` are the service's own, for a support case; `policy` and `revision` tell which
    instructions were in force. `transports` names by leg what carried it, in order of use; `reattached`
    counts the peer connections that took over from the one before. `trace_id` joins the record to the client's trace or
    the relay's own; `turns` counts answers by how they ended, `tokens` what they used; `client` is what the client told
    last of its own view. `subject` is a hash, `started_at` Unix seconds; `timeline` is what happened and when,
    without the `timeline_dropped` for which there was no room; `last` is how the session was last seen.
    """

    session_id: str
    door: str
    dialect: Dialect
    reason: EndReason
    detail: str
    duration_seconds: float
    policy: str
    revision: str
    stages: dict[str, float] = field(default_factory=dict)
    counters: SessionCounters = field(default_factory=SessionCounters)
    request_ids: tuple[str, ...] = ()
    transports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reattached: int = 0
    trace_id: str | None = None
    turns: dict[str, int] = field(default_factory=dict)
    tokens: Tokens = field(default_factory=dict)
    client: ClientStats | None = None
    tenant: str = "default"
    subject: str = ""
    started_at: float = 0.0
    timeline: tuple[Mapping[str, Any], ...] = ()
    timeline_dropped: int = 0
    last: LiveSession | None = None


def session_row(record: SessionRecord) -> SessionRow:
    """The record as it is kept in the store."""
    body = as_shown(record) if record.last is None else as_listed(record, record.last)
    body.pop("session_id", None)
    return SessionRow(
        id=record.session_id,
        tenant=record.tenant,
        subject=record.subject,
        policy=record.policy,
        reason=record.reason.value,
        started_at=record.started_at,
        ended_at=record.started_at + record.duration_seconds,
        body=body,
        timeline=record.timeline,
    )


def as_listed(record: SessionRecord, last: LiveSession) -> dict[str, Any]:
    """The record as the admin API shows it: as the live session was, and how it ended."""
    return last.as_json() | {
        "ended_at": round(record.started_at + record.duration_seconds, 3),
        "reason": record.reason.value,
        "detail": record.detail,
        "stages": {name: round(seconds, 4) for name, seconds in record.stages.items()},
        "request_ids": list(record.request_ids),
        "trace_id": record.trace_id,
        "reattached": record.reattached,
        "timeline_dropped": record.timeline_dropped,
    }


def as_shown(record: SessionRecord) -> dict[str, Any]:
    """The record as plain values, for the log and for the store."""
    verdicts: dict[str, int] = {}
    for (leg, _event, verdict), count in record.counters.events.items():
        verdicts[f"{leg}.{verdict}"] = verdicts.get(f"{leg}.{verdict}", 0) + count
    # Only where there is something: most sessions are not traced, and a foreign client sends no figures of its own.
    some = {
        "trace_id": record.trace_id,
        "turns": record.turns,
        # Not "tokens": the log's last defence takes that word for a secret's.
        "usage": {f"{direction}.{kind}": number for (direction, kind), number in sorted(record.tokens.items())},
        "client": None if record.client is None else _figures(record.client),
    }
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
        "downstream": _figures(record.counters.downstream),
        "upstream": _figures(record.counters.upstream),
        "transports": record.transports,
        "reattached": record.reattached,
        "events": verdicts,
        "service_request_ids": record.request_ids,
        **{name: value for name, value in some.items() if value},
    }


def _figures(value: LegCounters | Any) -> dict[str, Any]:
    named = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return {name: round(each, 4) if isinstance(each, float) else each for name, each in named.items() if each}
