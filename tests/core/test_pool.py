"""Which member of the pool is tried, and how long one that failed is left alone; time and draws are arguments."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from relay.core.policy_rules import ResidencyRules
from relay.core.pool import Condition, Cooldowns, PoolFacts, PoolHealth, Trouble

TIMES = Cooldowns(first=2, longest=16, told_least=1, told_most=60, misconfigured=300, down_after=3)


def pool(*weights: int) -> PoolHealth:
    return PoolHealth([PoolFacts(name, weight=weight) for name, weight in zip("abc", weights, strict=False)], TIMES)


def fail(health, name, now, trouble=Trouble.FAILING, retry_after=None, began=None):
    return health.failed(name, trouble, "failed", now if began is None else began, now, retry_after)


def drawn(health, now=0.0, allowed="abc", draws=4_000):
    """How often each member is taken when nothing is ever wrong with it again."""
    chance = random.Random(7)
    found: Counter[str | None] = Counter()
    for _ in range(draws):
        name = health.choose(allowed, (), now, chance.random())
        found[name] += 1
        if name is not None:
            health.left(name, now)
    return found


def test_members_are_taken_by_weight():
    found = drawn(pool(1, 3, 4))
    assert found.keys() == {"a", "b", "c"}
    for name, share in {"a": 1 / 8, "b": 3 / 8, "c": 4 / 8}.items():
        assert abs(found[name] / 4_000 - share) < 0.03, found


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999999, 1.0])
def test_every_draw_takes_a_member(draw):
    assert pool(1, 0, 2).choose("abc", (), 0.0, draw) in {"a", "c"}


def test_a_member_of_weight_zero_stands_in_where_there_is_no_other():
    health = pool(1, 0, 0)
    assert drawn(health).keys() == {"a"}
    fail(health, "a", 0.0)
    found = drawn(health, 1.0)
    assert found.keys() == {"b", "c"}
    assert abs(found["b"] - found["c"]) < 300


def test_nobody_is_taken_who_is_not_allowed_or_was_tried():
    health = pool(1, 1, 1)
    assert drawn(health, allowed="b").keys() == {"b"}
    assert health.choose("b", "b", 0.0, 0.0) is None
    assert health.choose("", (), 0.0, 0.0) is None
    fail(health, "a", 0.0)
    assert health.choose("a", "c", 1.0, 0.0) is None, "one that is cooling is no second try"


def test_the_service_s_own_word_is_held_within_bounds():
    for told, seconds in ((20.0, 20.0), (0.0, 1.0), (3_600.0, 60.0)):
        health = pool(1)
        assert fail(health, "a", 100.0, Trouble.BUSY, told)
        assert health.seconds_left("a", 100.0) == seconds
        assert health.condition("a") is Condition.COOLING


def test_a_member_that_keeps_failing_is_left_alone_longer_and_is_down():
    health, now, waited = pool(1, 1), 0.0, []
    for _ in range(6):
        assert health.choose("a", (), now, 0.0) == "a"
        fail(health, "a", now)
        waited.append(health.seconds_left("a", now))
        now += waited[-1]
    assert waited == [2, 4, 8, 16, 16, 16]
    assert health.condition("a") is Condition.DOWN
    assert (health.last_error("a"), health.last_error("b")) == ("failed", None)
    assert health.choose("a", (), now, 0.0) == "a"
    assert health.succeeded("a", now)
    assert (health.condition("a"), health.seconds_left("a", now)) == (Condition.READY, None)
    assert health.last_error("a") == "failed"


def test_a_limit_that_is_reached_over_and_over_is_no_member_that_is_down():
    health, now = pool(1), 0.0
    for _ in range(6):
        fail(health, "a", now, Trouble.BUSY)
        now += health.seconds_left("a", now)
    assert health.condition("a") is Condition.COOLING


def test_set_ups_that_fail_at_once_are_one_failure():
    health = pool(1)
    assert [fail(health, "a", 10.0 + tenth / 10) for tenth in range(10)] == [True, *[False] * 9]
    assert health.seconds_left("a", 10.0) == 2
    fail(health, "a", 11.0, Trouble.BUSY, 30.0)
    assert health.seconds_left("a", 11.0) == 30, "what the service says itself counts all the same"


def test_an_answer_to_what_was_asked_before_it_failed_says_nothing():
    health = pool(1)
    fail(health, "a", 10.0)
    assert not health.succeeded("a", 9.0)
    assert health.condition("a") is Condition.COOLING
    assert health.succeeded("a", 10.5)


def test_a_misconfigured_member_is_down_and_stays_so_for_long():
    health = pool(1, 1)
    fail(health, "a", 0.0, Trouble.MISCONFIGURED)
    assert (health.condition("a"), health.seconds_left("a", 0.0)) == (Condition.DOWN, 300)
    fail(health, "a", 1.0)  # under way before
    assert (health.condition("a"), health.seconds_left("a", 1.0)) == (Condition.DOWN, 299)


def test_after_a_cooldown_one_set_up_at_a_time_tries():
    health = pool(1, 1)
    fail(health, "a", 0.0)
    assert health.choose("ab", (), 1.9, 0.0) == "b"
    assert health.choose("ab", (), 2.0, 0.0) == "a"
    assert health.choose("ab", (), 2.0, 0.0) == "b"
    health.left("a", 2.0)
    assert health.choose("ab", (), 2.0, 0.0) == "a", "a trial that came to nothing is had again"
    fail(health, "a", 2.1)
    assert health.choose("ab", (), 5.0, 0.0) == "b"
    assert health.choose("ab", (), 6.1, 0.0) == "a"
    assert health.succeeded("a", 6.1)
    assert [health.choose("ab", (), 6.2, 0.0) for _ in range(2)] == ["a", "a"]


def test_what_was_asked_before_a_trial_does_not_end_it():
    health = pool(1, 1)
    fail(health, "a", 0.0)
    assert health.choose("ab", (), 2.0, 0.0) == "a"
    health.left("a", 1.0)
    assert not fail(health, "a", 2.1, began=1.0)
    assert not health.succeeded("a", 1.0)
    assert health.choose("ab", (), 2.2, 0.0) == "b", "one set-up tries"
    assert health.succeeded("a", 2.0)
    assert health.condition("a") is Condition.READY


def test_where_all_are_cooling_the_first_try_goes_to_the_one_that_is_due_first():
    health = pool(1, 1, 1)
    for name, told in zip("abc", (30.0, 10.0, 20.0), strict=True):
        fail(health, name, 0.0, Trouble.BUSY, told)
    assert health.choose("abc", (), 1.0, 0.9) == "b"
    assert health.choose("ac", (), 1.0, 0.0) == "c"
    assert health.choose("abc", "b", 1.0, 0.0) is None
    assert health.succeeded("b", 1.0)
    assert drawn(health, 2.0).keys() == {"b"}


@pytest.mark.parametrize(
    ("regions", "deployments", "allowed"),
    [
        (None, None, {("north", "x"), ("south", "y"), (None, "x")}),
        ({"north"}, None, {("north", "x")}),
        (None, {"x"}, {("north", "x"), (None, "x")}),
        ({"south"}, {"x"}, set()),
        (set(), None, set()),
    ],
)
def test_what_is_not_told_is_in_no_list(regions, deployments, allowed):
    rules = ResidencyRules(*(None if each is None else frozenset(each) for each in (regions, deployments)))
    assert {place for place in (("north", "x"), ("south", "y"), (None, "x")) if rules.allows(*place)} == allowed
    assert rules.limited == (regions is not None or deployments is not None)
