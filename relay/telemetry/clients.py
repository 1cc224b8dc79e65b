"""What is told of a client's way to its session, and of its coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.core.lifecycle import LegName
from relay.telemetry.families import STAGE_BUCKETS
from relay.telemetry.words import LEGS, REASONS, TRANSPORTS, fold

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from relay.errors import EndReason
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget


class ClientTelemetry:
    """The facts of ways, gaps and returns; strangers decide how often they happen, so that their lines are limited."""

    def __init__(self, families: Families, log: FilteringBoundLogger, lines: LineBudget) -> None:
        self._log = log
        self._lines = lines
        self._pairs = families.counter(
            "relay_ice_pairs_total", "Times a leg began to run over a transport", "leg", "transport"
        )
        self._gaps = families.counter(
            "relay_ice_gaps_total", "Times a peer's checks stopped for a while", "leg", each=[[LegName.DOWNSTREAM]]
        )
        self._consent_lost = families.counter(
            "relay_ice_consent_lost_total",
            "Legs whose peer gave no sign of life for too long",
            "leg",
            each=[[leg] for leg in LegName],
        )
        self._restarts = families.counter(
            "relay_ice_restarts_total", "ICE restarts answered", "leg", each=[[LegName.DOWNSTREAM]]
        )
        self._waits = families.counter("relay_session_waits_total", "Times a session waited for its client", "reason")
        self._reattached = families.counter(
            "relay_session_reattached_total", "New peer connections offered", "result", each=[["done"], ["failed"]]
        )
        self._reattach_seconds = families.histogram(
            "relay_session_reattach_seconds", "From the new offer to the open channel", STAGE_BUCKETS
        )

    def transport_used(self, leg: LegName, transport: str) -> None:
        """Record what a leg runs over from now on."""
        self._pairs.labels(fold(leg, LEGS), fold(transport, TRANSPORTS)).inc()

    def disconnected(self, session_id: str, seconds: float) -> None:
        """Record that the client's checks have stopped for a while."""
        self._gaps.labels(LegName.DOWNSTREAM).inc()
        self._line("client_disconnected", session_id, seconds=round(seconds, 1))

    def reconnected(self, session_id: str, seconds: float) -> None:
        """Record that they are back after so long."""
        self._line("client_reconnected", session_id, seconds=round(seconds, 1))

    def gone(self, session_id: str, reason: EndReason, detail: str, seconds: float) -> None:
        """Record that the client is gone, and how long its session waits for it."""
        self._waits.labels(fold(reason, REASONS)).inc()
        self._line("client_gone", session_id, reason=reason, detail=detail, waits_seconds=seconds)

    def consent_lost(self, leg: LegName) -> None:
        """Record that a leg's peer gave no sign of life for so long that it counts as lost (RFC 7675)."""
        self._consent_lost.labels(fold(leg, LEGS)).inc()

    def ice_restarted(self, session_id: str) -> None:
        """Record that an ICE restart of the client was answered."""
        self._restarts.labels(LegName.DOWNSTREAM).inc()
        self._line("ice_restarted", session_id)

    def reattached(self, session_id: str, seconds: float) -> None:
        """Record that a new peer connection of the client took over, so long after its offer."""
        self._reattached.labels("done").inc()
        self._reattach_seconds.observe(seconds)
        self._line("client_reattached", session_id, seconds=round(seconds, 3))

    def reattach_failed(self, session_id: str, reason: EndReason, detail: str) -> None:
        """Record that one did not come up."""
        self._reattached.labels("failed").inc()
        self._line("reattach_failed", session_id, reason=reason, detail=detail)

    def _line(self, event: str, session_id: str, **fields: Any) -> None:
        if (suppressed := self._lines.spend()) is not None:
            self._log.info(event, session_id=session_id, **fields, **suppressed)
