"""What is told of the relay's work: one method per fact, which writes a log line, moves a metric, or both.

A subject has a class of its own; to tell of something new, add a family and a method to its subject.
"""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import relay
from relay.telemetry.admin import AdminTelemetry
from relay.telemetry.browsers import BrowserTelemetry
from relay.telemetry.clients import ClientTelemetry
from relay.telemetry.decisions import DecisionTelemetry
from relay.telemetry.doors import DoorTelemetry
from relay.telemetry.families import Families
from relay.telemetry.identity import IdentityTelemetry
from relay.telemetry.lines import LineBudget
from relay.telemetry.log import configure_logging
from relay.telemetry.media import MediaTelemetry
from relay.telemetry.members import MemberTelemetry
from relay.telemetry.policies import PolicyTelemetry
from relay.telemetry.quotas import QuotaTelemetry
from relay.telemetry.room import RoomTelemetry
from relay.telemetry.service import ServiceTelemetry
from relay.telemetry.sessions import SessionTelemetry
from relay.telemetry.store import StoreTelemetry
from relay.telemetry.traces import NoTraces, Traces, open_traces
from relay.telemetry.turns import TurnTelemetry
from relay.telemetry.words import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import CollectorRegistry


__all__ = ["Telemetry", "configure_logging", "open_traces", "render_metrics"]

_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_MOST_DEPLOYMENTS = 20


def render_metrics(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return the body and the content type of a scrape."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


class Telemetry:
    """The facts, by subject. `clock` gives monotonic seconds; `prices` are dollars by deployment and kind.

    `deployments` holds the names that labels may hold; only configuration puts names there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._log = structlog.get_logger("relay")
        families = Families(registry)
        refusal_lines = LineBudget(clock)
        self.traces = traces or NoTraces()
        self.deployments = Names(_MOST_DEPLOYMENTS)
        self.policies = PolicyTelemetry(families, self._log, refusal_lines)
        self.decisions = DecisionTelemetry(
            families, self._log, self.policies.names, LineBudget(clock), LineBudget(clock)
        )
        self.browsers = BrowserTelemetry(families)
        self.admin = AdminTelemetry(families, self._log)
        self.doors = DoorTelemetry(families, self._log, refusal_lines, self.decisions, self.browsers)
        self.identity = IdentityTelemetry(families, self._log)
        self.sessions = SessionTelemetry(families, self._log, self.doors)
        self.clients = ClientTelemetry(families, self._log, LineBudget(clock))
        self.media = MediaTelemetry(families)
        self.turns = TurnTelemetry(families, self.deployments, prices or {})
        self.service = ServiceTelemetry(families, self.deployments)
        self.members = MemberTelemetry(families, self._log)
        self.room = RoomTelemetry(families, self._log, refusal_lines)
        self.store = StoreTelemetry(families, self._log, LineBudget(clock))
        self.quotas = QuotaTelemetry(families, self._log, LineBudget(clock))
        self._loop_lag = families.histogram("relay_event_loop_lag_seconds", "How late a timer ran", _LAG_BUCKETS)
        build = families.gauge("relay_build_info", "Versions in use", "version", "python", "aiortc")
        build.labels(relay.__version__, platform.python_version(), version("aiortc")).set(1)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def started(self, public_url: str, operations_url: str, media_addresses: Sequence[str], forwarder: str) -> None:
        """Record that the relay serves, where, and whether packets go through compiled code."""
        self._log.info(
            "started",
            public_url=public_url,
            operations_url=operations_url,
            media_addresses=list(media_addresses),
            forwarder=forwarder,
        )

    def drain_asked(self, seconds: float) -> None:
        """Record that an operator had the relay drained."""
        self._log.warning("drain_asked", seconds=seconds)

    def warn(self, event: str, **fields: Any) -> None:
        """Write a warning; `event` is a fixed word, what varies goes into the fields."""
        self._log.warning(event, **fields)

    def timer_late(self, seconds: float) -> None:
        """Record by how much the event loop ran a timer late."""
        self._loop_lag.observe(seconds)
