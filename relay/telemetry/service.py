"""What is told of the service: requests to it, its errors and limits, and the credentials that reach it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.telemetry.families import STAGE_BUCKETS
from relay.telemetry.words import CREDENTIALS, ERROR_CODES, LIMITS, OPERATIONS, OUTCOMES, Names, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from relay.telemetry.families import Families


class ServiceTelemetry:
    """The facts of the service. `deployments` are the names that labels may hold."""

    def __init__(self, families: Families, deployments: Names) -> None:
        self._deployments = deployments
        self._requests = families.counter(
            "relay_upstream_requests_total",
            "HTTP requests to the service",
            "operation",
            "outcome",
            each=product(sorted(OPERATIONS), sorted(OUTCOMES)),
        )
        self._seconds = families.histogram(
            "relay_upstream_request_seconds", "Time the service took", STAGE_BUCKETS, "operation"
        )
        self._errors = families.counter(
            "relay_upstream_errors_total", "Errors that the service told of in sessions", "deployment", "code"
        )
        self._remaining = families.gauge(
            "relay_upstream_limit_remaining_ratio", "Share of a rate limit that is left, as last told", "deployment",
            "limit",
        )  # fmt: skip
        self._expiries = _Expiries()
        families.registry.register(self._expiries)

    def requested(self, operation: str, outcome: str, seconds: float) -> None:
        """Record a request to the service: `ok` or the refusal, and the seconds it took."""
        self._requests.labels(fold(operation, OPERATIONS), fold(outcome, OUTCOMES)).inc()
        self._seconds.labels(fold(operation, OPERATIONS)).observe(seconds)

    def erred(self, deployment: str, code: str) -> None:
        """Record an error that the service told of in a session."""
        self._errors.labels(fold(deployment, self._deployments), fold(code, ERROR_CODES)).inc()

    def limits_told(self, deployment: str, remaining: Mapping[str, float]) -> None:
        """Record what is left of the service's rate limits, 0 to 1."""
        for limit, ratio in remaining.items():
            self._remaining.labels(fold(deployment, self._deployments), fold(limit, LIMITS)).set(ratio)

    def watch_expiry(self, credential: str, expires_at: Callable[[], float | None]) -> None:
        """Say where a scrape finds when a credential of CREDENTIALS ends, in Unix seconds; None while it has no end."""
        self._expiries.found[fold(credential, CREDENTIALS)] = expires_at


class _Expiries(Collector):
    """When credentials end, read when scraped; one that has no end is left out: zero would look like long ago."""

    def __init__(self) -> None:
        self.found: dict[str, Callable[[], float | None]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the family (prometheus_client's protocol)."""
        family = GaugeMetricFamily(
            "relay_credential_expiry_timestamp_seconds", "When a credential ends", labels=["credential"]
        )
        for credential, expires_at in self.found.items():
            if (at := expires_at()) is not None:
                family.add_metric([credential], at)
        yield family
