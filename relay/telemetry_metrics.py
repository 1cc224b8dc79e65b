"""Every metric family of the relay, and the closed sets its labels come from: what is in no set counts as `other`."""

from __future__ import annotations

import platform
from collections import Counter as Tally
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

import relay
from relay.core.events import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES
from relay.core.headroom import Resource
from relay.core.lifecycle import LegName, Phase, SessionCounters, Stage
from relay.core.policy_resolve import UnresolvedReason
from relay.core.policy_rules import Mode
from relay.core.rtp import DropCause
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from relay.core.lifecycle import LegCounters

OTHER = "other"
# The words of layers above, repeated because imports point down; a test holds them equal.
DOORS = frozenset({
    "ga", "preview", "ga_client_secrets", "ga_calls", "ga_hangup", "ga_reoffer", "preview_sessions", "preview_call",
    "beta_sessions", "beta_call", "ice_servers", "connection_check",
})  # fmt: skip
OPERATIONS = frozenset({"mint", "call", "hangup"})
AUTH_METHODS = frozenset({"missing", "query", "client_key", "ephemeral_key"})
MODES = frozenset(Mode)
UNRESOLVED = frozenset({*UnresolvedReason, "no_deployment"})
AUDIT_FAILURES = frozenset({"write", "overflow"})
MOST_POLICIES = 50
OUTCOMES = frozenset({
    "ok", "unauthorized", "no_deployment", "rate_limited", "content_filter", "bad_offer", "rejected", "failed",
    "timeout", "unreachable", "invalid_answer",
})  # fmt: skip
EVENT_TYPES = CLIENT_EVENT_TYPES | SERVER_EVENT_TYPES
LEGS = frozenset(LegName)
TRANSPORTS = frozenset({"udp", "tcp", "relay"})
STAGES = frozenset(Stage)
SIDES = frozenset(reason.side for reason in EndReason)
VERDICTS = frozenset(Verdict)
RULES = frozenset(Rule)
DROP_CAUSES = frozenset(DropCause)
REFUSALS = frozenset(ErrorCode)
RESOURCES = frozenset(Resource)
REASONS = frozenset(EndReason) | REFUSALS

_STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_JITTER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
_RTT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
_DURATION_BUCKETS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def fold(word: str, closed: Iterable[str]) -> str:
    """Return `word` if it is in the closed set, else `other`."""
    return str(word) if word in closed else OTHER


class Metrics:
    """The families that are counted as things happen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        build = Gauge("relay_build_info", "Versions in use", ("version", "python", "aiortc"), registry=registry)
        build.labels(relay.__version__, platform.python_version(), version("aiortc")).set(1)
        self.sessions_started = counter("relay_sessions_started_total", "Sessions admitted", "door")
        self.sessions_ended = counter("relay_sessions_ended_total", "Sessions ended", "side", "reason")
        self.session_duration = histogram(
            "relay_session_duration_seconds", "From admission to end", _DURATION_BUCKETS, "side"
        )
        self.early_sessions = counter("relay_early_sessions_total", "Sessions begun when a key is minted", "outcome")
        self.admission = counter("relay_admission_total", "Requests for a session or a key judged", "result", "reason")
        self.setup_stage = histogram(
            "relay_setup_stage_seconds", "Time to reach a stage of set-up", _STAGE_BUCKETS, "leg", "stage"
        )
        self.setup_failures = counter("relay_setup_failures_total", "Set-ups that failed", "leg", "stage", "reason")
        self.pairs = counter("relay_ice_pairs_total", "Times a leg began to run over a transport", "leg", "transport")
        self.gaps = counter("relay_ice_gaps_total", "Times a peer's checks stopped for a while", "leg")
        self.restarts = counter("relay_ice_restarts_total", "ICE restarts answered", "leg")
        self.clients_gone = counter("relay_session_waits_total", "Times a session waited for its client", "reason")
        self.reattached = counter("relay_session_reattached_total", "New peer connections offered", "result")
        self.reattach_seconds = histogram(
            "relay_session_reattach_seconds", "From the new offer to the open channel", _STAGE_BUCKETS
        )
        self.jitter = histogram("relay_media_jitter_seconds", "Jitter when a session ended", _JITTER_BUCKETS, "leg")
        self.rtt = histogram("relay_media_rtt_seconds", "Round trip when a session ended", _RTT_BUCKETS, "leg")
        self.decisions = counter(
            "relay_policy_decisions_total", "Events not simply forwarded", "policy", "rule", "verdict", "mode"
        )
        self.drift = counter("relay_policy_drift_total", "Instructions found that are not the policy's")
        self.reloads = counter("relay_policy_reload_total", "Policies loaded or refused", "result")
        self.policies_loaded_at = Gauge(
            "relay_policy_loaded_timestamp_seconds", "When the policies in force were loaded", registry=registry
        )
        self.policy_info = Gauge("relay_policy_info", "Policies in force", ("policy", "hash12"), registry=registry)
        self.kill_switch = Gauge("relay_policy_kill_switch", "1 while it stops somebody", registry=registry)
        self.live_policies = counter("relay_policy_live_total", "Policies replaced in running sessions", "result")
        self.unresolved = counter("relay_policy_unresolved_total", "Sessions without a policy", "reason")
        self.audit_records = counter("relay_audit_records_total", "Records written to the decision log")
        self.audit_failures = counter("relay_audit_failures_total", "Records that could not be written", "reason")
        self.audit_depth = Gauge("relay_audit_queue_depth", "Records that wait to be written", registry=registry)
        self.upstream_requests = counter(
            "relay_upstream_requests_total", "HTTP requests to the service", "operation", "outcome"
        )
        self.upstream_seconds = histogram(
            "relay_upstream_request_seconds", "Time the service took", _STAGE_BUCKETS, "operation"
        )
        self.shortages = counter("relay_capacity_refusals_total", "Sessions refused for want of room", "resource")
        self.hang_ups_late = counter("relay_late_hang_ups_total", "Calls not hung up at the first try", "result")
        self.hang_ups_waiting = Gauge("relay_late_hang_ups_waiting", "Calls to be hung up still", registry=registry)
        self.auth_failures = counter("relay_auth_failures_total", "Credentials refused at a door", "method")
        self.loop_lag = histogram("relay_event_loop_lag_seconds", "How late a timer ran", _LAG_BUCKETS)


class SessionTotals(Collector):
    """What sessions counted, live and ended together, read when scraped.

    Live counters are taken for sessions that were opened here and not yet ended, so that one which leaves the registry
    a moment before or after its record arrives is neither lost nor counted twice.
    """

    def __init__(self) -> None:
        self.live: Callable[[], Mapping[str, SessionCounters]] = dict
        self.endpoint_drops: Callable[[], Mapping[str, int]] = dict
        self.ready: Callable[[], bool] = bool
        self.draining: Callable[[], bool] = bool
        self.capacity: Callable[[], Mapping[Resource, float]] = dict
        self._phases: dict[str, Phase] = {}
        self._last_seen: dict[str, SessionCounters] = {}
        self._ended: Tally[tuple[str, ...]] = Tally()

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
        """Yield the families that are read rather than counted (prometheus_client's protocol)."""
        yield GaugeMetricFamily("relay_ready", "1 if a session can be opened", value=float(self.ready()))
        yield GaugeMetricFamily("relay_draining", "1 while no session is admitted", value=float(self.draining()))
        ratios = self.capacity()
        capacity = GaugeMetricFamily("relay_capacity_ratio", "Use; at 1 sessions are refused", labels=["resource"])
        for resource in Resource:
            capacity.add_metric([resource], ratios.get(resource, 0.0))
        yield capacity
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
    "events": ("relay_channel_events", "Data channel events judged", ("leg", "event", "verdict")),
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
        }
    )
    for cause, count in figures.dropped.items():
        flat["dropped", leg, fold(cause, DROP_CAUSES)] += count
    return flat
