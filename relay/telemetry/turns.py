"""What is told of turns: how soon they are answered, how they end, what they use and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.prices import cost
from relay.core.turn_facts import TokenDirection, TokenKind
from relay.telemetry.words import TURN_STATUSES, Names, fold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay.core.turn_facts import Tokens
    from relay.telemetry.families import Families

_LATENCY_BUCKETS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
_DIRECTIONS = frozenset(TokenDirection)
_KINDS = frozenset(TokenKind)


class TurnTelemetry:
    """The facts of turns, by deployment. `deployments` are the names that labels may hold, `prices` by deployment."""

    def __init__(self, families: Families, deployments: Names, prices: Mapping[str, Mapping[str, float]]) -> None:
        self._deployments = deployments
        self._prices = prices
        self._expected: set[str] = set()
        self._latency = families.histogram(
            "relay_turn_latency_seconds", "From the end of speech to the answer's first packet", _LATENCY_BUCKETS,
            "deployment",
        )  # fmt: skip
        self._turns = families.counter("relay_turns_total", "Answers of the model", "deployment", "status")
        self._interruptions = families.counter("relay_interruptions_total", "Answers cut short", "deployment")
        self._tokens = families.counter(
            "relay_tokens_total", "Tokens that the service counted", "deployment", "direction", "kind"
        )
        self._transcribed = families.counter(
            "relay_transcription_seconds_total", "Seconds of speech billed by time", "deployment"
        )
        self._cost = families.counter("relay_cost_estimate_usd_total", "Estimate by the prices given", "deployment")

    def expect(self, deployment: str) -> None:
        """Have a deployment's counters at 0 before it is heard: Prometheus does not see a first count."""
        label = fold(deployment, self._deployments)
        if label in self._expected:
            return
        self._expected.add(label)
        self._interruptions.labels(label)
        for status in TURN_STATUSES:
            self._turns.labels(label, status)

    def answer_began(self, deployment: str, seconds: float) -> None:
        """Record how soon after speech an answer was heard."""
        self._latency.labels(fold(deployment, self._deployments)).observe(seconds)

    def answered(self, deployment: str, status: str) -> None:
        """Record how an answer ended."""
        self._turns.labels(fold(deployment, self._deployments), fold(status, TURN_STATUSES)).inc()

    def interrupted(self, deployment: str) -> None:
        """Record that an answer was cut short."""
        self._interruptions.labels(fold(deployment, self._deployments)).inc()

    def used(self, deployment: str, tokens: Tokens, seconds: float = 0.0) -> float:
        """Record what the service counted: tokens, or `seconds` of speech where it bills by time.

        Returns what that costs by the prices given, in US dollars; 0 without a price.
        """
        label = fold(deployment, self._deployments)
        for (direction, kind), number in tokens.items():
            self._tokens.labels(label, fold(direction, _DIRECTIONS), fold(kind, _KINDS)).inc(number)
        if seconds:
            self._transcribed.labels(label).inc(seconds)
        dollars = self._prices.get(deployment)
        if dollars is None:
            return 0.0
        estimate = cost(dollars, tokens, seconds)
        self._cost.labels(label).inc(estimate)
        return estimate
