"""What sessions count themselves, live and ended together: read when scraped."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.core.lifecycle import LegName, Phase, SessionCounters
from relay.telemetry.words import DROP_CAUSES, EVENT_TYPES, LEGS, VERDICTS, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from relay.core.lifecycle import LegCounters


class SessionTotals(Collector):
    """Families that are read rather than counted.

    Live counters are taken for sessions that were opened here and not yet ended, so that one which leaves the registry
    a moment before or after its record arrives is neither lost nor counted twice.
    """

    def __init__(self) -> None:
        self.live: Callable[[], Mapping[str, SessionCounters]] = dict
        self.endpoint_drops: Callable[[], Mapping[str, int]] = dict
        self.ready: Callable[[], bool] = bool
        self.draining: Callable[[], bool] = bool
        self._phases: dict[str, Phase] = {}
        self._last_seen: dict[str, SessionCounters] = {}
        # From 0 on: Prometheus does not see the first count of a series that is born with it.
        self._ended = _flat(SessionCounters())

    def opened(self, session_id: str) -> None:
        """Begin to count a session."""
        self._phases[session_id] = Phase.NEW

    def entered(self, session_id: str, phase: Phase) -> None:
        """Note the phase of a session that was opened and has not ended."""
        if session_id in self._phases:
            self._phases[session_id] = phase

    def ended(self, session_id: str, counters: SessionCounters) -> bool:
        """Keep a session's final counters; False if no such session is open."""
        self._last_seen.pop(session_id, None)
        if self._phases.pop(session_id, None) is None:
            return False
        self._ended.update(_flat(counters))
        return True

    def collect(self) -> Iterator[Metric]:
        """Yield the families (prometheus_client's protocol)."""
        yield GaugeMetricFamily("relay_ready", "1 if a session can be opened", value=float(self.ready()))
        yield GaugeMetricFamily("relay_draining", "1 while no session is admitted", value=float(self.draining()))
        phases = Tally(self._phases.values())
        active = GaugeMetricFamily("relay_sessions_active", "Sessions by phase", labels=["phase"])
        for phase in Phase:
            if phase is not Phase.CLOSED:
                active.add_metric([phase], phases[phase])
        yield active
        yield from self._counters()

    def _counters(self) -> Iterator[Metric]:
        for session_id, counters in self.live().items():
            if session_id in self._phases:
                self._last_seen[session_id] = counters
        totals = self._ended.copy()
        for counters in self._last_seen.values():
            totals.update(_flat(counters))
        for cause, count in self.endpoint_drops().items():
            totals["dropped", LegName.DOWNSTREAM, fold(cause, DROP_CAUSES)] += count
        for key, (name, text, labels) in _FAMILIES.items():
            family = CounterMetricFamily(name, text, labels=labels)
            for (first, *values), count in totals.items():
                if first == key:
                    family.add_metric(values, count)
            yield family


_FAMILIES = {
    "packets": ("relay_media_packets", "RTP packets", ("leg", "direction")),
    "bytes": ("relay_media_bytes", "RTP bytes", ("leg", "direction")),
    "lost": ("relay_media_packets_lost", "RTP packets that never arrived", ("leg",)),
    "dropped": ("relay_media_packets_dropped", "Datagrams not sent on", ("leg", "cause")),
    "one_way": ("relay_media_one_way_seconds", "Seconds without a packet while the other leg's came", ("leg",)),
    "events": ("relay_channel_events", "Data channel events judged", ("leg", "event", "verdict")),
    "channel": ("relay_channel_bytes", "Bytes of data channel text", ("leg", "direction")),
    "backpressure": ("relay_channel_backpressure_seconds", "Seconds in which text waited for a peer", ("leg",)),
}


def _flat(counters: SessionCounters) -> Tally[tuple[str, ...]]:
    """`{(family key, *labels): count}` of one session."""
    flat: Tally[tuple[str, ...]] = Tally()
    for side, figures in ((LegName.DOWNSTREAM, counters.downstream), (LegName.UPSTREAM, counters.upstream)):
        flat.update(_flat_leg(side, figures))
    for (leg, event, verdict), count in counters.events.items():
        flat["events", fold(leg, LEGS), fold(event, EVENT_TYPES), fold(verdict, VERDICTS)] += count
    return flat


def _flat_leg(leg: str, figures: LegCounters) -> Tally[tuple[str, ...]]:
    flat: Tally[tuple[str, ...]] = Tally(
        {
            ("packets", leg, "in"): figures.packets_in,
            ("packets", leg, "out"): figures.packets_out,
            ("bytes", leg, "in"): figures.bytes_in,
            ("bytes", leg, "out"): figures.bytes_out,
            ("lost", leg): max(0, figures.packets_lost),
            ("one_way", leg): figures.one_way_seconds,
            ("channel", leg, "in"): figures.channel_bytes_in,
            ("channel", leg, "out"): figures.channel_bytes_out,
            ("backpressure", leg): figures.backpressure_seconds,
        }
    )
    for cause, count in figures.dropped.items():
        flat["dropped", leg, fold(cause, DROP_CAUSES)] += count
    return flat
