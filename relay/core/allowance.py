"""How much may be used: at one time, in a minute, in a day; by a user, a tenant, the whole relay. Pure.

A day is one of UTC. 0 stands for no limit wherever a limit is a number. What a policy allows is added by `tightened`:
of two limits the smaller holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum

from relay.errors import EndReason

DAY_SECONDS = 86_400


class Scope(StrEnum):
    """Whom a limit is for; a user is a subject of a tenant."""

    USER = "user"
    TENANT = "tenant"
    RELAY = "relay"


class Limit(StrEnum):
    """What is limited; the last three in a day."""

    SESSIONS = "sessions"
    MINTS = "mints"
    MINUTES = "minutes"
    TOKENS = "tokens"
    DOLLARS = "dollars"


DAILY = (Limit.MINUTES, Limit.TOKENS, Limit.DOLLARS)
END_REASONS = {
    Limit.SESSIONS: EndReason.QUOTA_SESSIONS,
    Limit.MINUTES: EndReason.QUOTA_TIME,
    Limit.TOKENS: EndReason.QUOTA_TOKENS,
    Limit.DOLLARS: EndReason.QUOTA_COST,
}


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit that lets nothing more through; after `retry_seconds` it may be worth another try."""

    limit: Limit
    scope: Scope
    retry_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit for each scope; 0: none."""

    user: float = 0
    tenant: float = 0
    relay: float = 0

    def of(self, scope: Scope) -> float:
        """The limit of one scope."""
        bound: float = getattr(self, scope)
        return bound

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes that have a limit."""
        return tuple(scope for scope in Scope if self.of(scope))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one session may use with all others of its user, its tenant and the relay; `dollars` are US dollars."""

    sessions: Bound = field(default_factory=Bound)
    minutes: Bound = field(default_factory=Bound)
    tokens: Bound = field(default_factory=Bound)
    dollars: Bound = field(default_factory=Bound)

    def of(self, limit: Limit) -> Bound:
        """The bounds of one limit of a day."""
        bound: Bound = getattr(self, limit)
        return bound

    @property
    def daily_scopes(self) -> tuple[Scope, ...]:
        """The scopes that have a limit of any kind in a day."""
        return tuple(scope for scope in Scope if any(self.of(limit).of(scope) for limit in DAILY))


def tightened(one: Allowance, other: Allowance) -> Allowance:
    """Both at once: of each limit the smaller, where both have it."""
    return Allowance(
        **{each.name: _smaller(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)}
    )


def _smaller(one: Bound, other: Bound) -> Bound:
    least = {scope.value: _least(one.of(scope), other.of(scope)) for scope in Scope}
    return Bound(**least)


def _least(one: float, other: float) -> float:
    return min(one, other) if one and other else one or other


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used in a day; `dollars` is the estimate by the configured prices."""

    seconds: float = 0.0
    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.tokens + other.tokens, self.dollars + other.dollars)

    def of(self, limit: Limit) -> float:
        """So much of one limit, in its unit."""
        return {Limit.MINUTES: self.seconds / 60, Limit.TOKENS: self.tokens, Limit.DOLLARS: self.dollars}[limit]


@dataclass(frozen=True, slots=True)
class Account:
    """What one scope used today, and in how many sessions it uses more at this moment."""

    spent: Spent
    running: int = 0


Accounts = Mapping[Scope, Account]


def used_up(allowance: Allowance, accounts: Accounts, now: float) -> LimitHit | None:
    """The first limit of the day that leaves nothing; `now` in Unix seconds."""
    for limit in DAILY:
        bound = allowance.of(limit)
        for scope in bound.scopes:
            if scope in accounts and accounts[scope].spent.of(limit) >= bound.of(scope):
                return LimitHit(limit, scope, seconds_to_midnight(now))
    return None


@dataclass(frozen=True, slots=True)
class RunningOut:
    """The end that comes first at the present rate: which limit, and in how many seconds (0: it is reached)."""

    hit: LimitHit
    seconds: float


def running_out(allowance: Allowance, accounts: Accounts, now: float) -> RunningOut | None:
    """What ends a session today at the present rate; tokens and dollars are foreseen only when they are reached."""
    if (hit := used_up(allowance, accounts, now)) is not None:
        return RunningOut(hit, 0.0)
    soonest: RunningOut | None = None
    for scope in allowance.minutes.scopes:
        account = accounts.get(scope)
        if account is None or not account.running:
            continue
        left = (allowance.minutes.of(scope) * 60 - account.spent.seconds) / account.running
        if left < seconds_to_midnight(now) and (soonest is None or left < soonest.seconds):
            soonest = RunningOut(LimitHit(Limit.MINUTES, scope), left)
    return soonest


@dataclass(frozen=True, slots=True)
class QuotaNotice:
    """Tell the client that its session ends in so many seconds (at least 1)."""

    hit: LimitHit
    seconds_left: int


@dataclass(frozen=True, slots=True)
class QuotaEnd:
    """The session is to end now."""

    hit: LimitHit


# An end that comes so much sooner than was told, because others talk too, is told again.
_SOONER_SECONDS = 5.0


class Countdown:
    """Follows one session towards the limits of its day. Times are monotonic seconds, but for `now_unix`.

    Time that runs out is announced ahead; what is found used up without having been announced ends the session
    `grace_seconds` after it was told.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._limit: Limit | None = None
        self._told_at = math.inf
        self._ends_at = math.inf

    def look(
        self, allowance: Allowance, accounts: Accounts, warn_seconds: float, now: float, now_unix: float
    ) -> QuotaNotice | QuotaEnd | None:
        """Look at what was used; `warn_seconds` 0: time is not announced ahead."""
        coming = running_out(allowance, accounts, now_unix)
        if coming is None:
            # The day is over, or more is allowed now.
            self._limit, self._told_at, self._ends_at = None, math.inf, math.inf
            return None
        if coming.seconds > 0:
            if self._ends_at is not math.inf:
                # More is allowed than when the end was told.
                self._told_at = self._ends_at = math.inf
            due = now + coming.seconds
            is_near = coming.seconds <= warn_seconds
            if is_near and due < self._told_at - _SOONER_SECONDS:
                self._limit, self._told_at = coming.hit.limit, due
                return QuotaNotice(coming.hit, max(1, math.ceil(coming.seconds)))
            return None
        announced = self._limit is coming.hit.limit and self._told_at <= now + self._grace
        if self._ends_at is math.inf:
            self._ends_at = now if announced else now + self._grace
            if now < self._ends_at:
                self._limit, self._told_at = coming.hit.limit, self._ends_at
                return QuotaNotice(coming.hit, max(1, math.ceil(self._grace)))
        return QuotaEnd(coming.hit) if now >= self._ends_at else None


def day_of(unix: float) -> str:
    """The day of UTC, `2026-11-22`."""
    return datetime.fromtimestamp(unix, UTC).date().isoformat()


def seconds_to_midnight(unix: float) -> float:
    """How long the day of UTC lasts still."""
    return DAY_SECONDS - unix % DAY_SECONDS
