"""What a door asks of the sessions behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from relay.core.policy_resolve import Identity

if TYPE_CHECKING:
    from relay.core.client_stats import ClientStats
    from relay.core.lifecycle import Dialect


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A browser's wish for a session; without an `offer` it is not there yet, and a key was minted for it.

    `client_session` is the session configuration the client sent with its mint or its offer, in its door's dialect and
    not yet judged; `model` the name it is to be shown; `owner` names the credential that may hang the session up;
    `door` is the door's name in metrics and logs, `key_id` the ephemeral key's, if one is used. `identity` and
    `model_asked`, None when none was, choose the policy. `traceparent` is the W3C header as the client sent it.
    """

    offer: str | None
    dialect: Dialect
    webrtc_filter: bool
    model: str
    client_session: dict[str, Any] | None
    owner: str
    door: str = "other"
    identity: Identity = field(default_factory=Identity)
    model_asked: str | None = None
    key_id: str | None = None
    traceparent: str | None = None


class EarlyOutcome(StrEnum):
    """What becomes of the sessions that are begun when a key is minted.

    `full`: none was begun, for want of room; `used`: its client came; `expired`: it did not; `failed`: it ended by
    itself; `other_request`, `other_policy`: its client asked for something else, or is under another policy; `stopped`:
    by a drain or the kill switch.
    """

    STARTED = "started"
    FULL = "full"
    USED = "used"
    EXPIRED = "expired"
    FAILED = "failed"
    OTHER_REQUEST = "other_request"
    OTHER_POLICY = "other_policy"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Opened:
    """An accepted session: its id (`rs_…`) and the SDP answer for the browser."""

    session_id: str
    answer: str


class Sessions(Protocol):
    """The sessions as the doors see them."""

    @property
    def draining(self) -> bool:
        """Whether new sessions are refused because the relay is about to stop."""
        ...

    def prepare(self, request: OpenRequest, seconds: float) -> None:
        """A key was minted that lives so long: begin its session, where that is wanted and there is room for it.

        Waits for nothing and raises nothing; `open` finds the session by the id of the key.
        """
        ...

    async def open(self, request: OpenRequest) -> Opened:
        """Admit and set up a session; return once the service accepted it. Raises ApiError.

        The session that `prepare` began for the key is met at once, if it is the one that is asked for now.
        """
        ...

    def hang_up(self, session_id: str, owner: str) -> bool:
        """End a session on its owner's wish; False if this owner has no such session."""
        ...

    async def reoffer(self, session_id: str, owner: str, offer: str) -> str:
        """The answer to an offer to a running session, for an ICE restart or a re-attach. Raises ApiError."""
        ...

    def report_stats(self, session_id: str, owner: str, stats: ClientStats) -> None:
        """Take what a client tells of its view of its running session. Raises ApiError."""
        ...

    def readiness(self) -> dict[str, str]:
        """Why no session can be opened now, as `{check: reason}`; empty when ready."""
        ...
