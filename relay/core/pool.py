"""Which member of the upstream pool a session is set up at, and how long one that failed is left alone. Pure.

Times are monotonic seconds, a draw lies in 0 to 1: both are arguments. A member is known by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """What stands against a member, by what is to be done about it.

    BUSY: its limit is reached, and it says when to come back. FAILING: it fails, is silent or cannot be reached.
    MISCONFIGURED: it refuses the credential or has no such deployment, which no waiting mends.
    """

    BUSY = "busy"
    FAILING = "failing"
    MISCONFIGURED = "misconfigured"


class Condition(StrEnum):
    """READY: it is asked. COOLING: it is left alone for a moment. DOWN: it keeps failing, or is misconfigured."""

    READY = "ready"
    COOLING = "cooling"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Cooldowns:
    """How long a member is left alone, in seconds.

    After a failure for `first`, after each further one for twice as long, `longest` at most; told by the service itself
    (Retry-After) for that time, within `told_least` and `told_most`; misconfigured for `misconfigured`. One that failed
    `down_after` times without a success is down.
    """

    first: float = 2.0
    longest: float = 120.0
    told_least: float = 1.0
    told_most: float = 300.0
    misconfigured: float = 300.0
    down_after: int = 3


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What never changes of a member. `region` None: not told; `deployment` None: it has the names all others have."""

    name: str
    region: str | None = None
    weight: int = 1
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member as an operator sees it. `until`: Unix seconds, from when on it is tried again; `sessions`: its calls."""

    name: str
    region: str | None
    weight: int
    state: Condition
    until: float | None
    last_error: str | None
    sessions: int


@dataclass(slots=True)
class _Health:
    """`until` is 0 for a member that nothing stands against; the one try after a cooldown began at `trial_at`."""

    until: float = 0.0
    failed_at: float = 0.0
    failures: int = 0
    trouble: Trouble | None = None
    last_error: str | None = None
    trial_at: float | None = None

    def is_before_trial(self, began: float) -> bool:
        """Whether an attempt that began then says nothing of the trial that is under way."""
        return self.trial_at is not None and began < self.trial_at


class PoolHealth:
    """What is known of each member's health. Members are judged by set-ups alone: nothing else asks the service."""

    def __init__(self, members: Collection[PoolFacts], cooldowns: Cooldowns | None = None) -> None:
        self._weights = {member.name: member.weight for member in members}
        self._health = {member.name: _Health() for member in members}
        self._cooldowns = cooldowns or Cooldowns()

    def choose(self, allowed: Collection[str], tried: Collection[str], now: float, draw: float) -> str | None:
        """The member to try next of those that are allowed, by weight; None if there is none.

        One whose cooldown is over is tried by one set-up at a time. Where all are cooling, the first try goes to the
        one that is due first: what the service says now is worth more than what it said before. After another member
        was tried, no cooling one is.
        """
        left = [name for name in self._weights if name in allowed and name not in tried]
        able = [name for name in left if self._may_try(self._health[name], now)]
        if able:
            return self._take(_drawn({name: self._weights[name] for name in able}, draw), now)
        if tried or not left:
            return None
        return min(left, key=lambda name: self._health[name].until)

    def succeeded(self, name: str, began: float) -> bool:
        """A member took a call in an attempt that began then; whether that means it is back."""
        health = self._health[name]
        if health.is_before_trial(began):
            return False
        health.trial_at = None
        # An answer to what was asked before it failed says nothing of now.
        if health.trouble is None or began < health.failed_at:
            return False
        self._health[name] = _Health(last_error=health.last_error)
        return True

    def failed(
        self, name: str, trouble: Trouble, error: str, began: float, now: float, retry_after: float | None = None
    ) -> bool:
        """An attempt failed, `error` is the word for it; whether the member's condition changed by that."""
        health = self._health[name]
        if health.is_before_trial(began):
            return False
        before = self.condition(name)
        counts = health.trouble is None or now >= health.until
        health.trial_at = None
        health.failed_at, health.last_error = now, error
        if counts:
            health.failures += 1
        if counts or health.trouble is not Trouble.MISCONFIGURED:
            health.trouble = trouble
        until = now + self._seconds(health, retry_after)
        # Set-ups that were under way at once fail at once: together they are one failure.
        if counts or retry_after is not None:
            health.until = max(health.until, until)
        return self.condition(name) is not before

    def left(self, name: str, began: float) -> None:
        """An attempt came to no end that says anything of the member."""
        health = self._health[name]
        if not health.is_before_trial(began):
            health.trial_at = None

    def condition(self, name: str) -> Condition:
        """How it stands with a member; a cooldown that is over ends with the next success."""
        health = self._health[name]
        match health.trouble:
            case None:
                return Condition.READY
            case Trouble.MISCONFIGURED:
                return Condition.DOWN
            case Trouble.FAILING if health.failures >= self._cooldowns.down_after:
                return Condition.DOWN
        return Condition.COOLING

    def last_error(self, name: str) -> str | None:
        """The word for what went wrong last, also after it went well again; None if nothing ever did."""
        return self._health[name].last_error

    def seconds_left(self, name: str, now: float) -> float | None:
        """How long a member is still left alone, 0 if its cooldown is over; None for one that is ready."""
        health = self._health[name]
        return None if health.trouble is None else max(0.0, health.until - now)

    def _may_try(self, health: _Health, now: float) -> bool:
        return health.trouble is None or (now >= health.until and health.trial_at is None)

    def _take(self, name: str, now: float) -> str:
        health = self._health[name]
        health.trial_at = now if health.trouble is not None and now >= health.until else None
        return name

    def _seconds(self, health: _Health, retry_after: float | None) -> float:
        times = self._cooldowns
        if health.trouble is Trouble.MISCONFIGURED:
            return times.misconfigured
        if retry_after is not None:
            return min(max(retry_after, times.told_least), times.told_most)
        # 2**16 times the first is beyond any longest one, and no large number is computed.
        return float(min(times.first * 2 ** min(max(health.failures, 1) - 1, 16), times.longest))


def _drawn(weights: Mapping[str, int], draw: float) -> str:
    """By weight; those of weight 0 are taken, evenly, where there are no others."""
    heavy = {name: weight for name, weight in weights.items() if weight > 0} or dict.fromkeys(weights, 1)
    point = draw * sum(heavy.values())
    for name, weight in heavy.items():
        point -= weight
        if point < 0:
            return name
    return next(reversed(heavy))
