"""What remains of a session when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.core.lifecycle import LegName, SessionCounters, Stage
from relay.errors import EndReason

if TYPE_CHECKING:
    from relay.core.client_stats import ClientStats
    from relay.core.lifecycle import Dialect
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
    last of its own view.
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
