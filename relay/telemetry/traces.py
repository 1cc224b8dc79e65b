"""The trace of a session, if traces are wanted: what is asked of whoever keeps it, and the one that keeps none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relay.core.traceparent import parse_traceparent
from relay.errors import ConfigError

if TYPE_CHECKING:
    from relay.core.turn_facts import Tokens


class SessionTrace(Protocol):
    """One session's trace; nothing in it is content."""

    @property
    def trace_id(self) -> str | None:
        """The id that joins log lines to the trace; None when there is neither a trace nor a client's header."""
        ...

    def stage(self, name: str, seconds: float) -> None:
        """A stage of set-up (`leg.stage`) was reached just now, after so long."""
        ...

    def answer_began(self, seconds: float) -> None:
        """An answer is heard from now on, so long after the speech before it."""
        ...

    def answered(self, status: str, seconds: float, tokens: Tokens) -> None:
        """An answer is over just now, so long after it was begun."""
        ...

    def end(self, side: str, reason: str, request_ids: tuple[str, ...]) -> None:
        """The session is over; `request_ids` are the service's own."""
        ...


class Traces(Protocol):
    """Where traces go."""

    def begin(self, session_id: str, traceparent: str | None, deployment: str) -> SessionTrace:
        """Begin a session's trace, as part of the client's where it sent a header for that."""
        ...

    def close(self) -> None:
        """Send what is left; this may wait as long as OTEL_EXPORTER_OTLP_TIMEOUT says (10 s)."""
        ...


@dataclass(frozen=True, slots=True)
class _Joined:
    """Keeps the client's own id, for the log."""

    trace_id: str | None

    def stage(self, name: str, seconds: float) -> None:
        """Not kept."""

    def answer_began(self, seconds: float) -> None:
        """Not kept."""

    def answered(self, status: str, seconds: float, tokens: Tokens) -> None:
        """Not kept."""

    def end(self, side: str, reason: str, request_ids: tuple[str, ...]) -> None:
        """Not kept."""


NOT_TRACED: SessionTrace = _Joined(None)


class NoTraces:
    """Traces are off."""

    def begin(self, session_id: str, traceparent: str | None, deployment: str) -> SessionTrace:
        """Keep what the client's header says."""
        del session_id, deployment
        parent = parse_traceparent(traceparent)
        return _Joined(None if parent is None else parent.trace_id)

    def close(self) -> None:
        """Nothing is held."""


def open_traces(*, enabled: bool) -> Traces:
    """Where traces go by the settings. Raises ConfigError when the extra that sends them is not installed."""
    if not enabled:
        return NoTraces()
    try:
        # Imported here: without traces nothing of it is loaded.
        from relay.telemetry.otel import OtelTraces  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"traces.enabled needs OpenTelemetry ({error.name} is missing): pip install 'realtime-relay[otel]'"
        ) from None
    return OtelTraces()
