"""What is told of the doors: admissions, refusals, credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.errors import ErrorCode
from relay.telemetry.words import AUTH_METHODS, REFUSALS, fold

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from relay.core.lifecycle import Decided
    from relay.core.record import Governed
    from relay.telemetry.browsers import BrowserTelemetry
    from relay.telemetry.decisions import DecisionTelemetry
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget


# The door at which nobody asks to be admitted.
_STATS = "ga_stats"


class DoorTelemetry:
    """The facts of requests."""

    def __init__(
        self,
        families: Families,
        log: FilteringBoundLogger,
        refusal_lines: LineBudget,
        decisions: DecisionTelemetry,
        browsers: BrowserTelemetry,
    ) -> None:
        self._log = log
        self._decisions = decisions
        self._browsers = browsers
        self._refusal_lines = refusal_lines
        self._admission = families.counter(
            "relay_admission_total",
            "Requests for a session or a key judged",
            "result",
            "reason",
            each=[("admitted", "none"), *(("refused", code.value) for code in ErrorCode)],
        )
        self._auth_failures = families.counter(
            "relay_auth_failures_total",
            "Credentials refused at a door",
            "method",
            each=[[method] for method in sorted(AUTH_METHODS)],
        )

    def admitted(self) -> None:
        """Record that a session was admitted."""
        self._admission.labels("admitted", "none").inc()

    def door_refused(self, door: str, status: int, code: str) -> None:
        """Record that a door refused a request with this status and error code."""
        if door == _STATS:
            self._browsers.refused()
        else:
            self._admission.labels("refused", fold(code, REFUSALS)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            write = self._log.warning if status >= 500 else self._log.info  # noqa: PLR2004 - HTTP's own boundary
            write("door_refused", door=door, status=status, code=code, **suppressed)

    def auth_failed(self, method: str) -> None:
        """Record a credential that was refused."""
        self._auth_failures.labels(fold(method, AUTH_METHODS)).inc()

    def decided(self, session_id: str, decision: Decided, governed: Governed) -> None:
        """Record what the policy made of a configuration, as of any event."""
        self._decisions.decided(session_id, decision, governed)

    def warn(self, event: str, **fields: Any) -> None:
        """Write a warning; `event` is a fixed word, what varies goes into the fields."""
        self._log.warning(event, **fields)
