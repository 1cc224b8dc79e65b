"""What is told of room: sessions refused for want of it, and calls at the service that are to be hung up still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.core.headroom import Resource
from relay.telemetry.words import RESOURCES, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from structlog.typing import FilteringBoundLogger

    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget


class RoomTelemetry:
    """The facts of capacity and of late hang-ups."""

    def __init__(self, families: Families, log: FilteringBoundLogger, refusal_lines: LineBudget) -> None:
        self._log = log
        self._refusal_lines = refusal_lines
        self._ratios = _Ratios()
        families.registry.register(self._ratios)
        self._refusals = families.counter(
            "relay_capacity_refusals_total",
            "Sessions refused for want of room",
            "resource",
            each=[[resource.value] for resource in Resource],
        )
        self._late = families.counter(
            "relay_late_hang_ups_total",
            "Calls not hung up at the first try",
            "result",
            each=[["done"], ["given_up"]],
        )
        self._waiting = families.gauge("relay_late_hang_ups_waiting", "Calls to be hung up still")

    def watch(self, capacity: Callable[[], Mapping[Resource, float]]) -> None:
        """Say where a scrape finds how much of each resource is in use."""
        self._ratios.capacity = capacity

    def short(self, resource: Resource, sessions: int) -> None:
        """Record that a session was refused because this resource is short; so many were there."""
        self._refusals.labels(fold(resource, RESOURCES)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            self._log.warning("capacity_short", resource=resource, sessions=sessions, **suppressed)

    def hung_up_late(self, call_id: str, attempts: int) -> None:
        """Record that a call which could not be hung up at once, or was left by a relay before, is hung up."""
        self._late.labels("done").inc()
        self._log.info("hang_up_late", call_id=call_id, attempts=attempts)

    def hang_up_given_up(self, call_id: str, attempts: int, detail: str) -> None:
        """Record that a call is not tried to be hung up any more; the service ends it by its own limit."""
        self._late.labels("given_up").inc()
        self._log.warning("hang_up_given_up", call_id=call_id, attempts=attempts, detail=detail)

    def hang_ups_waiting(self, calls: Callable[[], int]) -> None:
        """Say where a scrape finds how many calls are to be hung up still."""
        self._waiting.set_function(calls)


class _Ratios(Collector):
    """What is used of each resource, read when scraped."""

    def __init__(self) -> None:
        self.capacity: Callable[[], Mapping[Resource, float]] = dict

    def collect(self) -> Iterator[Metric]:
        """Yield the family (prometheus_client's protocol)."""
        ratios = self.capacity()
        family = GaugeMetricFamily("relay_capacity_ratio", "Use; at 1 sessions are refused", labels=["resource"])
        for resource in Resource:
            family.add_metric([resource], ratios.get(resource, 0.0))
        yield family
