"""What is told of the sound's way: loss, jitter and round trip of both legs, and the delay that the relay adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.telemetry.families import JITTER_BUCKETS, LOSS_BUCKETS, RTT_BUCKETS
from relay.telemetry.words import LEGS, fold

if TYPE_CHECKING:
    from relay.core.lifecycle import MediaSample
    from relay.telemetry.families import Families

_FORWARD_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)


class MediaTelemetry:
    """The facts of media."""

    def __init__(self, families: Families) -> None:
        self._loss = families.histogram(
            "relay_media_loss_ratio", "Share of packets lost in some seconds of a session", LOSS_BUCKETS, "leg",
            "direction",
        )  # fmt: skip
        self._jitter = families.histogram(
            "relay_media_jitter_seconds", "Jitter, every few seconds of a session", JITTER_BUCKETS, "leg"
        )
        self._rtt = families.histogram(
            "relay_media_rtt_seconds", "Round trip, every few seconds of a session", RTT_BUCKETS, "leg"
        )
        self._forward = families.histogram(
            "relay_media_forward_seconds", "Delay that the relay adds to a packet, sampled", _FORWARD_BUCKETS, "leg"
        )

    def sampled(self, sample: MediaSample) -> None:
        """Record what one leg's media was like for some seconds."""
        leg = fold(sample.leg, LEGS)
        if sample.loss_in is not None:
            self._loss.labels(leg, "in").observe(sample.loss_in)
        if sample.loss_out is not None:
            self._loss.labels(leg, "out").observe(sample.loss_out)
        if sample.jitter_seconds is not None:
            self._jitter.labels(leg).observe(sample.jitter_seconds)
        if sample.rtt_seconds is not None:
            self._rtt.labels(leg).observe(sample.rtt_seconds)
        for seconds in sample.forward_seconds:
            self._forward.labels(leg).observe(seconds)
