"""What is told of the admin API: requests by route, and refused changes that could not be written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from relay.telemetry.families import Families


class AdminTelemetry:
    """The facts of the admin API. Only the table's own routes come in here, so the labels are closed."""

    def __init__(self, families: Families, log: FilteringBoundLogger) -> None:
        self._log = log
        self._requests = families.counter("relay_admin_requests_total", "Requests at the admin API", "route", "status")

    def requested(self, route: str, status: int) -> None:
        """Record a request and the status of its answer."""
        self._requests.labels(route, str(status)).inc()

    def refused_unwritten(self, action: str) -> None:
        """Record that a refused change could not be written to the audit log."""
        self._log.warning("admin_refusal_unwritten", action=action)
