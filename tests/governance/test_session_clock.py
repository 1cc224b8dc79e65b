"""The time a policy gives a session: warned once, ended on time, changed on the way."""

from __future__ import annotations

import pytest

from relay.core.policy_rules import LimitRules
from relay.core.session_clock import SessionClock, TimeShort, TimeUp
from relay.errors import EndReason


def told(clock: SessionClock, seconds: range, last_event: float = 1e9) -> list[tuple[int, object]]:
    return [(now, found) for now in seconds if (found := clock.tick(float(now), last_event)) is not None]


def test_without_limits_nothing_is_ever_said():
    assert told(SessionClock(LimitRules(), 0.0), range(0, 100_000, 100), last_event=0.0) == []


def test_a_time_limit_warns_once_and_then_ends():
    clock = SessionClock(LimitRules(session_seconds=100, warn_seconds=10), 0.0)
    assert told(clock, range(101)) == [
        (90, TimeShort(EndReason.POLICY_TIME_LIMIT, 10)),
        (100, TimeUp(EndReason.POLICY_TIME_LIMIT)),
    ]


@pytest.mark.parametrize("rules", [LimitRules(session_seconds=30), LimitRules(session_seconds=30, warn_seconds=0)])
def test_a_warning_longer_than_the_session_or_none_is_not_given(rules):
    assert told(SessionClock(rules, 0.0), range(31)) == [(30, TimeUp(EndReason.POLICY_TIME_LIMIT))]


def test_idleness_counts_from_the_last_event_and_warns_again_after_a_new_one():
    clock = SessionClock(LimitRules(idle_seconds=60, warn_seconds=10), 0.0)
    assert told(clock, range(56), last_event=0.0) == [(50, TimeShort(EndReason.POLICY_IDLE, 10))]
    assert told(clock, range(56, 110), last_event=55.0) == [(105, TimeShort(EndReason.POLICY_IDLE, 10))]
    assert clock.tick(115.0, 55.0) == TimeUp(EndReason.POLICY_IDLE)


def test_a_changed_limit_counts_from_the_beginning_and_is_warned_about_anew():
    clock = SessionClock(LimitRules(session_seconds=1_000, warn_seconds=100), 0.0)
    assert clock.tick(950.0, 1e9) == TimeShort(EndReason.POLICY_TIME_LIMIT, 50)
    clock.rules = LimitRules(session_seconds=1_010, warn_seconds=100)
    assert clock.tick(951.0, 1e9) == TimeShort(EndReason.POLICY_TIME_LIMIT, 59)
    clock.rules = LimitRules(session_seconds=60)
    assert clock.tick(952.0, 1e9) == TimeUp(EndReason.POLICY_TIME_LIMIT)
