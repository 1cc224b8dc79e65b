"""What the relay asks of the service and what can go wrong, as values without a trace of HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from relay.core.lifecycle import Dialect


class Operation(StrEnum):
    """A request of the relay to the service."""

    MINT = "mint"
    CALL = "call"
    HANG_UP = "hangup"


class ServiceRefusal(StrEnum):
    """Why the service gave nothing; the same word is the outcome in metrics."""

    UNAUTHORIZED = "unauthorized"
    NO_DEPLOYMENT = "no_deployment"
    RATE_LIMITED = "rate_limited"
    CONTENT_FILTER = "content_filter"
    BAD_OFFER = "bad_offer"
    REJECTED = "rejected"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    INVALID_ANSWER = "invalid_answer"


class ServiceError(Exception):
    """The service refused or could not be asked.

    `detail` is for the log: bounded, one line, without credentials and without anything the relay sent. `status` and
    `request_id` are None when no answer arrived; `retry_after_ms` lies in 0 to 3,600,000. `call_id` is of a call that
    the service accepted with an answer that is of no use: it lives, and is to be hung up.
    """

    def __init__(
        self,
        refusal: ServiceRefusal,
        operation: Operation,
        detail: str,
        *,
        status: int | None = None,
        retry_after_ms: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{operation.value}: {refusal.value} (status {status}, request {request_id}): {detail}")
        self.refusal = refusal
        self.operation = operation
        self.detail = detail
        self.status = status
        self.retry_after_ms = retry_after_ms
        self.request_id = request_id
        self.call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A minted key, good for starting one session.

    `expires_at` is in seconds since the epoch. `session` is the effective session object in the service's dialect,
    instructions included: neither it nor the key is ever printed. `region` is the Azure region that answered, if told.
    """

    value: str = field(repr=False)
    expires_at: int | None = None
    request_id: str | None = None
    session: dict[str, Any] | None = field(default=None, repr=False)
    region: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """An accepted call: the service's SDP answer and the id that hangs it up (None: the service gave none).

    `member` is the pool's name for who has it.
    """

    answer: str = field(repr=False)
    call_id: str | None = None
    request_id: str | None = None
    region: str | None = None
    member: str = ""


class Upstream(Protocol):
    """The service, whichever of its protocols it speaks. Every method raises ServiceError."""

    @property
    def dialect(self) -> Dialect:
        """The dialect of session objects and events."""
        ...

    @property
    def credential_expires_at(self) -> float | None:
        """When the relay's own credential ends, Unix seconds; None for one without an end, or before the first use."""
        ...

    async def mint(self, session: dict[str, Any]) -> ServiceKey:
        """Obtain a key bound to `session`, a complete session object in the service's dialect, model included."""
        ...

    async def call(self, key: ServiceKey, offer: str, deployment: str) -> ServiceCall:
        """Post an SDP offer with a minted key."""
        ...

    async def hang_up(self, call: ServiceCall) -> None:
        """End a call, within 5 seconds; a call without an id is left to end by itself."""
        ...

    async def close(self) -> None:
        """Close every connection; may be called twice."""
        ...
