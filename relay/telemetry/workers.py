"""The metric families of media workers, read when scraped; in one process there are none to tell of."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric


class WorkerState(StrEnum):
    """Where a worker is in its life; only a ready one is given sessions, `down` waits to be started again."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What is known of one worker: restarts and processor time over all its lives, the rest of the present one.

    `loop_lag_seconds` is how late its event loop ran timers on average within the last second.
    """

    index: int
    state: WorkerState
    sessions: int
    restarts: int
    cpu_seconds: float
    resident_bytes: int
    loop_lag_seconds: float


class WorkerMetrics(Collector):
    """`figures` gives one entry for each worker; the label `worker` is its number, from 1 to `workers.count`."""

    def __init__(self, figures: Callable[[], Sequence[WorkerFigures]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield the families (prometheus_client's protocol)."""
        figures = self._figures()
        states = Tally(each.state for each in figures)
        workers = GaugeMetricFamily("relay_workers", "Worker processes by state", labels=["state"])
        for state in WorkerState:
            workers.add_metric([state], states[state])
        yield workers
        restarts = sum(each.restarts for each in figures)
        yield CounterMetricFamily("relay_worker_restarts", "Workers started again", value=restarts)
        sessions = GaugeMetricFamily("relay_worker_sessions", "Sessions of a worker", labels=["worker"])
        cpu = CounterMetricFamily("relay_worker_cpu_seconds", "User and system time of a worker", labels=["worker"])
        memory = GaugeMetricFamily("relay_worker_resident_memory_bytes", "Memory of a worker", labels=["worker"])
        lag = GaugeMetricFamily("relay_worker_loop_lag_seconds", "How late timers ran, on average", labels=["worker"])
        for each in figures:
            lag.add_metric([str(each.index)], each.loop_lag_seconds)
            sessions.add_metric([str(each.index)], each.sessions)
            cpu.add_metric([str(each.index)], each.cpu_seconds)
            memory.add_metric([str(each.index)], each.resident_bytes)
        yield from (sessions, cpu, memory, lag)
