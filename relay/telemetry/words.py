"""The closed sets that labels come from: what is in no set counts as `other`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.claims import TokenRefusal
from relay.core.error_words import KNOWN_CODES
from relay.core.events import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES
from relay.core.headroom import Resource
from relay.core.lifecycle import LegName, Stage
from relay.core.policy_resolve import UnresolvedReason
from relay.core.policy_rules import Mode
from relay.core.record import FAILED_STAGES
from relay.core.rtp import DropCause
from relay.core.turn_facts import Limit, TurnStatus
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

OTHER = "other"
# The words of layers above, repeated because imports point down; a test holds them equal.
DOORS = frozenset({
    "ga", "preview", "ga_client_secrets", "ga_calls", "ga_hangup", "ga_reoffer", "ga_stats", "preview_sessions",
    "preview_call", "beta_sessions", "beta_call", "ice_servers", "connection_check",
})  # fmt: skip
CALL_DOORS = frozenset({"ga_calls", "preview_call", "beta_call"})
OPERATIONS = frozenset({"mint", "call", "hangup"})
AUTH_METHODS = frozenset({"missing", "query", "client_key", "tenant_key", "token", "ephemeral_key", "admin"})
OUTCOMES = frozenset({
    "ok", "unauthorized", "no_deployment", "rate_limited", "content_filter", "bad_offer", "rejected", "failed",
    "timeout", "unreachable", "invalid_answer",
})  # fmt: skip
TRANSPORTS = frozenset({"udp", "tcp", "relay"})
AUDIT_FAILURES = frozenset({"write", "overflow"})
MODES = frozenset(Mode)
UNRESOLVED = frozenset({*UnresolvedReason, "no_deployment"})
EVENT_TYPES = CLIENT_EVENT_TYPES | SERVER_EVENT_TYPES
LEGS = frozenset(LegName)
STAGES = frozenset(Stage)
VERDICTS = frozenset(Verdict)
RULES = frozenset(Rule)
DROP_CAUSES = frozenset(DropCause)
REFUSALS = frozenset(ErrorCode)
REASONS = frozenset(EndReason) | REFUSALS
RESOURCES = frozenset(Resource)
SETUP_FAILURES = tuple((leg, stage, reason) for reason, (leg, stage) in FAILED_STAGES.items())
TURN_STATUSES = frozenset(TurnStatus)
LIMITS = frozenset(Limit)
ERROR_CODES = KNOWN_CODES
TOKEN_REFUSALS = frozenset(TokenRefusal)
# The sections of the settings that name an issuer of tokens.
ISSUERS = ("oidc", "admin_oidc")
CREDENTIALS = ("tls_cert", "entra")


def fold(word: str, closed: Container[str]) -> str:
    """Return `word` if it is in the closed set, else `other`."""
    return str(word) if word in closed else OTHER


class Names:
    """Names that an administrator gives: the first `most` are kept, so that changing them for ever adds no series."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Take names, as long as there is room."""
        self._known |= set(sorted(set(names) - self._known)[: self._most - len(self._known)])

    def __contains__(self, name: object) -> bool:
        return name in self._known
