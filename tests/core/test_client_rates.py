"""A client's rates: what is within them, who is told of more, who is ended for much more."""

from __future__ import annotations

from dataclasses import replace

from relay.core.client_rates import ClientRates, OverRate
from relay.core.lifecycle import SessionLimits

LIMITS = replace(SessionLimits(), events_per_second=10, client_bytes_per_second=1000, client_burst_bytes=2000)


def taken(rates: ClientRates, count: int, now: float, size: int = 1) -> list[OverRate | None]:
    return [rates.take(size, now) for _ in range(count)]


def test_a_burst_of_two_seconds_passes_then_one_second_of_errors_then_silence_then_the_end():
    rates = ClientRates(LIMITS, 0.0)
    assert taken(rates, 20, 0.0) == [None] * 20
    assert taken(rates, 10, 0.0) == [OverRate.TOLD] * 10
    assert taken(rates, 90, 0.0) == [OverRate.DROPPED] * 90
    assert rates.take(1, 0.0) is OverRate.FLOOD


def test_each_second_forgives_a_seconds_worth():
    rates = ClientRates(LIMITS, 0.0)
    taken(rates, 20 + 20, 0.0)
    assert rates.take(1, 0.0) is OverRate.DROPPED
    rates.tick()
    rates.tick()
    assert rates.take(1, 0.0) is OverRate.TOLD
    # The rate itself is what the clock gives back.
    assert taken(rates, 11, 1.0) == [None] * 10 + [OverRate.TOLD]


def test_the_bytes_of_long_events_count_apart():
    rates = ClientRates(LIMITS, 0.0)
    assert taken(rates, 3, 0.0, size=1000) == [None, None, OverRate.TOLD]
    assert rates.take(500, 0.5) is None


def test_a_policy_lowers_the_rate_and_never_raises_it():
    rates = ClientRates(LIMITS, 0.0)
    rates.limit(2, 0.0)
    assert taken(rates, 5, 0.0) == [None] * 4 + [OverRate.TOLD]
    rates.limit(1000, 0.0)
    assert taken(rates, 21, 0.0).count(None) == 20
    rates.limit(None, 0.0)
    assert taken(rates, 21, 0.0).count(None) == 20
