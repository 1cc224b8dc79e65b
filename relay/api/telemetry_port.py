"""What the doors report, as they ask it of the program's telemetry."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from relay.core.lifecycle import Decided
    from relay.core.record import Governed


class AuthMethod(StrEnum):
    """With what a request failed to prove itself."""

    MISSING = "missing"
    QUERY = "query"
    CLIENT_KEY = "client_key"
    TENANT_KEY = "tenant_key"
    TOKEN = "token"  # noqa: S105 - a word
    EPHEMERAL_KEY = "ephemeral_key"
    ADMIN = "admin"


class DoorTelemetry(Protocol):
    """The facts of the doors; none of them carries content, credentials, queries or addresses."""

    def door_refused(self, door: str, status: int, code: str) -> None:
        """A request was refused with this status and error code."""
        ...

    def auth_failed(self, method: str) -> None:
        """A credential was absent or wrong."""
        ...

    def decided(self, session_id: str, decision: Decided, governed: Governed) -> None:
        """A policy decided about the configuration of a session to come; `session_id` is empty then."""
        ...

    def warn(self, event: str, **fields: Any) -> None:
        """Something an operator should see in the log."""
        ...
