"""What a door asks of the sessions behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from relay.core.policy_resolve import Identity

if TYPE_CHECKING:
    from relay.core.lifecycle import Dialect


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A browser's wish for a session.

    `client_session` is the session configuration the client sent with its mint or its offer, in its door's dialect and
    not yet judged; `model` the name it is to be shown; `owner` names the credential that may hang the session up;
    `door` is the door's name in metrics and logs. `identity` and `model_asked`, None when none was, choose the policy.
    """

    offer: str
    dialect: Dialect
    webrtc_filter: bool
    model: str
    client_session: dict[str, Any] | None
    owner: str
    door: str = "other"
    identity: Identity = field(default_factory=Identity)
    model_asked: str | None = None


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

    async def open(self, request: OpenRequest) -> Opened:
        """Admit and set up a session; return once the service accepted it. Raises ApiError."""
        ...

    def hang_up(self, session_id: str, owner: str) -> bool:
        """End a session on its owner's wish; False if this owner has no such session."""
        ...

    async def reoffer(self, session_id: str, owner: str, offer: str) -> str:
        """The answer to an offer to a running session, for an ICE restart or a re-attach. Raises ApiError."""
        ...

    def readiness(self) -> dict[str, str]:
        """Why no session can be opened now, as `{check: reason}`; empty when ready."""
        ...
