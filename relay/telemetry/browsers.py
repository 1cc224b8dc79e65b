"""What browsers tell of their own view of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.telemetry.families import JITTER_BUCKETS, LOSS_BUCKETS, RTT_BUCKETS

if TYPE_CHECKING:
    from relay.core.client_stats import ClientStats
    from relay.telemetry.families import Families

_BUFFER_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


class BrowserTelemetry:
    """The figures of browsers: what a client says is believed within bounds, and kept apart from the relay's own."""

    def __init__(self, families: Families) -> None:
        self._reports = families.counter("relay_client_reports_total", "Reports of clients", "result")
        self._rtt = families.histogram("relay_client_rtt_seconds", "Round trip as clients see it", RTT_BUCKETS)
        self._jitter = families.histogram("relay_client_jitter_seconds", "Jitter as clients see it", JITTER_BUCKETS)
        self._buffer = families.histogram(
            "relay_client_buffer_seconds", "Mean wait of sound in clients' playback buffers", _BUFFER_BUCKETS
        )
        self._loss = families.histogram(
            "relay_client_loss_ratio", "Share of packets lost as clients see it", LOSS_BUCKETS, "direction"
        )
        for direction in ("in", "out"):
            self._loss.labels(direction)  # from 0 on, as counters that alerts are on
        self._concealed = families.histogram(
            "relay_client_concealed_ratio", "Share of sound that clients had to make up", LOSS_BUCKETS
        )

    def reported(self, stats: ClientStats) -> None:
        """Record one report."""
        self._reports.labels("taken").inc()
        for family, value in (
            (self._rtt, stats.rtt_seconds),
            (self._jitter, stats.jitter_seconds),
            (self._buffer, stats.buffer_seconds),
            (self._loss.labels("in"), stats.loss_in),
            (self._loss.labels("out"), stats.loss_out),
            (self._concealed, stats.concealed),
        ):
            if value is not None:
                family.observe(value)

    def refused(self) -> None:
        """Record a report that was not taken: unreadable, too often, or of no session of the sender's."""
        self._reports.labels("refused").inc()
