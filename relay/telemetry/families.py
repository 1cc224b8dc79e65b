"""How metric families are made, in one registry; their buckets, where several families share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry

STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JITTER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
RTT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
LOSS_BUCKETS = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


class Families:
    """Declares families; a name declared twice is an error of prometheus_client's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def counter(self, name: str, text: str, *labels: str, each: Iterable[Sequence[str]] = ()) -> Counter:
        """A family that only grows; its name ends in `_total`. `each` are label values whose series begin at 0.

        Prometheus does not see the first count of a series that is born with it: what alerts are on must be there.
        """
        family = Counter(name, text, labels, registry=self.registry)
        for values in each:
            family.labels(*values)
        return family

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A family that goes both ways."""
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """A family of observations, in the base unit that its name ends in."""
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
