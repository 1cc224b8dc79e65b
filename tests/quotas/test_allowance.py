"""Limits as values: which holds, what is used up, what is told before the end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.allowance import (
    Account,
    Allowance,
    Bound,
    Countdown,
    Limit,
    LimitHit,
    QuotaEnd,
    QuotaNotice,
    Scope,
    Spent,
    day_of,
    seconds_to_midnight,
    tightened,
    used_up,
)
from relay.core.mint_rates import MintRates

NOON = 1_800_014_400.0
numbers = st.integers(0, 3)
bounds = st.builds(Bound, numbers, numbers, numbers)
allowances = st.builds(Allowance, bounds, bounds, bounds, bounds)


@given(allowances, allowances, st.sampled_from(Scope))
def test_of_two_allowances_the_tighter_holds_whoever_says_it(one, other, scope):
    both = tightened(one, other)
    assert both == tightened(other, one)
    for name in ("sessions", "minutes", "tokens", "dollars"):
        said = {getattr(each, name).of(scope) for each in (one, other)} - {0}
        assert getattr(both, name).of(scope) == min(said, default=0)


def account(seconds: float = 0, tokens: int = 0, dollars: float = 0, running: int = 1) -> Account:
    return Account(Spent(seconds, tokens, dollars), running)


def test_what_is_used_up_is_so_until_midnight_of_utc():
    allowance = Allowance(minutes=Bound(tenant=10), tokens=Bound(user=100), dollars=Bound(relay=0.5))
    fresh = dict.fromkeys(Scope, account())
    assert used_up(allowance, fresh, NOON) is None
    for scope, spent, limit in [
        (Scope.TENANT, account(seconds=600), Limit.MINUTES),
        (Scope.USER, account(tokens=100), Limit.TOKENS),
        (Scope.RELAY, account(dollars=0.5), Limit.DOLLARS),
    ]:
        assert used_up(allowance, fresh | {scope: spent}, NOON) == LimitHit(limit, scope, 43_200)
    assert used_up(allowance, fresh | {Scope.USER: account(seconds=9_999)}, NOON) is None
    assert (day_of(NOON), seconds_to_midnight(NOON)) == ("2027-01-15", 43_200)


def follow(countdown: Countdown, limit_minutes: float, spent: list[float], running: int = 1, warn: float = 60.0):
    """What is told second by second: `(second, seconds left or end)`."""
    allowance, told = Allowance(minutes=Bound(user=limit_minutes)), []
    for second, seconds in enumerate(spent):
        accounts = {Scope.USER: account(seconds, running=running)}
        match countdown.look(allowance, accounts, warn, float(second), NOON + second):
            case QuotaNotice(_, left):
                told.append((second, left))
            case QuotaEnd():
                told.append((second, "end"))
                break
    return told


def test_time_that_runs_out_is_told_once_ahead_and_ends_when_it_is_over():
    assert follow(Countdown(10), 2, [float(second) for second in range(200)]) == [(60, 60), (120, "end")]


def test_two_who_share_are_told_at_the_rate_at_which_it_goes():
    assert follow(Countdown(10), 2, [2.0 * second for second in range(200)], running=2) == [(0, 60), (60, "end")]


def test_what_was_used_elsewhere_meanwhile_is_told_before_the_end_too():
    """Warned of 60 s; then another node tells that nothing is left."""
    spent = [float(second) for second in range(70)] + [500.0] * 30
    assert follow(Countdown(10), 2, spent) == [(60, 60), (70, 10), (80, "end")]


def test_an_end_that_comes_sooner_is_told_again_and_one_that_comes_later_is_not():
    spent = [float(second) for second in range(62)] + [80.0 + second for second in range(100)]
    assert follow(Countdown(10), 2, spent) == [(60, 60), (62, 40), (102, "end")]


def test_without_a_warning_ahead_there_is_the_grace_and_without_grace_there_is_nothing():
    spent = [float(second) for second in range(200)]
    assert follow(Countdown(10), 2, spent, warn=0) == [(120, 10), (130, "end")]
    assert follow(Countdown(0), 2, spent, warn=0) == [(120, "end")]


def test_more_that_is_allowed_and_a_new_day_take_an_end_back():
    countdown = Countdown(10)
    look = [(2, 130.0, 0.0), (3, 130.0, 1.0), (3, 175.0, 46.0), (3, 181.0, 52.0)]
    outcomes = [
        countdown.look(Allowance(minutes=Bound(user=limit)), {Scope.USER: account(spent)}, 60, at, NOON + at)
        for limit, spent, at in look
    ]
    assert [type(each).__name__ for each in outcomes] == ["QuotaNotice", "QuotaNotice", "NoneType", "QuotaEnd"]
    assert countdown.look(Allowance(minutes=Bound(user=3)), {Scope.USER: account(0)}, 60, 70.0, NOON) is None


def test_the_end_of_the_day_comes_before_the_end_of_the_time():
    late = NOON + 43_200 - 30
    assert Countdown(10).look(Allowance(minutes=Bound(user=1)), {Scope.USER: account(25)}, 60, 0.0, late) is None


@pytest.mark.parametrize(("spent", "limit"), [(account(tokens=5), Limit.TOKENS), (account(dollars=2), Limit.DOLLARS)])
def test_tokens_and_money_end_a_session_after_the_grace(spent, limit):
    allowance = Allowance(tokens=Bound(tenant=5), dollars=Bound(tenant=2))
    countdown = Countdown(4)
    told = [countdown.look(allowance, {Scope.TENANT: spent}, 60, now, NOON) for now in (0.0, 1.0, 3.9, 4.0)]
    assert [type(each).__name__ for each in told] == ["QuotaNotice", "NoneType", "NoneType", "QuotaEnd"]
    assert (told[0].seconds_left, told[3].hit.limit) == (4, limit)


def test_mints_come_in_bursts_of_a_minute_and_then_one_by_one():
    rates, limits = MintRates(), Bound(user=3, tenant=4)
    told = [rates.take("t", "u", limits, 100.0) for _ in range(4)]
    assert told[:3] == [None] * 3
    assert (told[3].scope, told[3].retry_seconds) == (Scope.USER, pytest.approx(20))
    assert rates.take("t", "v", limits, 100.0) is None
    # The tenant's is empty too; refused mints were counted nowhere.
    assert rates.take("t", "w", limits, 100.0).scope is Scope.TENANT
    assert rates.take("t", "u", limits, 114.9).scope is Scope.USER
    assert rates.take("t", "u", limits, 120.0) is None
    assert rates.take("other", "u", limits, 120.0) is None
    assert rates.take("t", "u", Bound(), 120.0) is None


def test_mints_of_any_minute_are_never_more_than_twice_the_limit():
    rates = MintRates()
    let_in = [now / 10 for now in range(6_000) if rates.take("t", "u", Bound(user=5), now / 10) is None]
    assert max(sum(at <= each < at + 60 for each in let_in) for at in let_in) <= 10
    assert all(later - before >= 11.9 for before, later in pairwise(let_in[5:]))
