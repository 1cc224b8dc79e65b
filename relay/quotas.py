"""What users, tenants and the whole relay may use, held to: at the doors, and while sessions run.

A session's place is taken before anything is begun for it at the service; its time, tokens and dollars are compared
with the limits of the day once a second. Where the limits are counted is the business of `Slots` and `Metering`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, Protocol

from relay.config import OnStoreFailure
from relay.core.allowance import (
    END_REASONS,
    Allowance,
    Bound,
    Countdown,
    Limit,
    LimitHit,
    QuotaEnd,
    QuotaNotice,
    Scope,
    tightened,
    used_up,
)
from relay.core.leases import Claim
from relay.core.policy_resolve import Identity
from relay.core.policy_rules import LimitRules
from relay.core.stored import StoreError
from relay.errors import ApiError, EndReason, ErrorCode
from relay.metering import FLUSH_SECONDS, Metering, Who
from relay.slots import Slots
from relay.telemetry.quotas import QuotaTelemetry

LOOK_SECONDS = 1.0
# How long a request at a door waits to hear what was used today.
_ASK_SECONDS = 5.0
_RETRY_SECONDS = 5
# The longest names that the store has room for.
_TENANT_MOST = 200
_SUBJECT_MOST = 128
_WHOSE = {
    Scope.USER: "you may have",
    Scope.TENANT: "your organisation may have",
    Scope.RELAY: "this server may have",
}
_WORDS = {
    Limit.SESSIONS: "All sessions that {whose} at the same time are running.",
    Limit.MINTS: "All keys that {whose} in a minute were made.",
    Limit.MINUTES: "All minutes of sessions that {whose} today are used up.",
    Limit.TOKENS: "All tokens that {whose} today are used up.",
    Limit.DOLLARS: "All that {whose} today of the allowed cost is used up.",
}

TakeMint = Callable[[str, str, Bound], Awaitable[LimitHit | None]]
"""Counts one mint of a tenant and subject. Raises StoreError."""


class Limited(Protocol):
    """A running session, as far as limits touch it."""

    @property
    def rules(self) -> LimitRules:
        """The policy's limits that hold now."""
        ...

    def warn_ending(self, reason: EndReason, seconds_left: int) -> None:
        """Tell the client that its session will end."""
        ...

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session."""
        ...


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """What the settings allow, beside what policies do; `mints` are keys a minute; how failures of the store count."""

    allowance: Allowance
    mints: Bound
    grace_seconds: float
    on_usage_failure: OnStoreFailure
    on_mint_failure: OnStoreFailure


@dataclass(slots=True)
class _Followed:
    session: Limited
    who: Who
    countdown: Countdown
    counted: bool = False


class Quotas:
    """The limits of one node. `clock` gives Unix seconds, `monotonic` those that durations are measured in."""

    def __init__(
        self,
        rules: QuotaRules,
        slots: Slots,
        metering: Metering,
        take_mint: TakeMint,
        telemetry: QuotaTelemetry,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._slots = slots
        self._metering = metering
        self._take_mint = take_mint
        self._telemetry = telemetry
        self._clock = clock
        self._monotonic = monotonic
        self._followed: dict[str, _Followed] = {}
        self._flush = asyncio.Event()
        self._settled_at = -math.inf
        slots.on_lost = self._end

    async def may_mint(self, identity: Identity) -> None:
        """Count a key that is about to be minted. Raises ApiError."""
        who = _who(identity)
        try:
            hit = await self._take_mint(who.tenant, who.subject, self.rules.mints)
        except StoreError as error:
            self._unknown("mints", error, self.rules.on_mint_failure)
            return
        if hit is not None:
            raise self._refusal(hit, identity)

    async def admit(self, session: str, identity: Identity, rules: LimitRules) -> None:
        """Take the place of a session that is about to begin; `leave` gives it back. Raises ApiError: it has none."""
        allowance = _both(self.rules.allowance, rules.allowance)
        hit = await self._used_up(identity, allowance)
        if hit is None:
            who = _who(identity)
            claim = Claim(session, who.tenant, who.subject)
            try:
                hit = await self._slots.take(claim, allowance.sessions)
            except StoreError:
                raise _unavailable() from None
        if hit is not None:
            raise self._refusal(hit, identity)

    def follow(self, session: str, identity: Identity, followed: Limited) -> None:
        """Hold a session that has a place to its limits until it leaves; its time is not counted yet."""
        who = _who(identity)
        self._followed[session] = _Followed(followed, who, Countdown(self.rules.grace_seconds))

    def count(self, session: str) -> None:
        """Count a session's time from now on: the service accepted it, and its client is there."""
        if (found := self._followed.get(session)) is not None and not found.counted:
            found.counted = True
            self._metering.start(session, found.who)

    def used(self, identity: Identity, tokens: int, dollars: float) -> None:
        """Count what the service counted in a session."""
        self._metering.used(_who(identity), tokens, dollars)

    def stop(self, session: str) -> None:
        """Count a session's time no longer: its end is decided."""
        if self._followed.pop(session, None) is not None and self._metering.stop(session):
            self._flush.set()

    def leave(self, session: str, *, at_once: bool = False) -> asyncio.Task[None]:
        """Give the place of a session back: it is over, or was not begun; done when the task is.

        Whoever waits for that says `at_once`.
        """
        self.stop(session)
        return self._slots.release(session, at_once=at_once)

    def _look(self) -> None:
        """Compare every session with its limits of the day: warn its client, or end it."""
        self._metering.accrue()
        now, unix = self._monotonic(), self._clock()
        for session_id, each in list(self._followed.items()):
            if not each.counted:
                continue
            try:
                self._look_at(session_id, each, now, unix)
            except Exception as error:  # noqa: BLE001 - one session's fault must not free all others of their limits
                self._telemetry.look_failed(error)

    def _look_at(self, session_id: str, each: _Followed, now: float, unix: float) -> None:
        rules = each.session.rules
        allowance = _both(self.rules.allowance, rules.allowance)
        if not (scopes := allowance.daily_scopes):
            return
        accounts = self._metering.accounts(each.who, scopes)
        match each.countdown.look(allowance, accounts, rules.warn_seconds, now, unix):
            case QuotaNotice(hit, seconds_left):
                each.session.warn_ending(END_REASONS[hit.limit], seconds_left)
            case QuotaEnd(hit):
                self._end(session_id, hit)

    def watches(self) -> dict[str, Callable[[], Awaitable[NoReturn]]]:
        """What has to run for as long as the relay, by name: sessions looked at, places renewed, usage written."""
        return {"quotas": self._watch, "leases": self._slots.watch, "usage": self._keep}

    async def settle(self) -> None:
        """Have what was used up to a second ago in the store, if it answers: however often this is asked."""
        if self._monotonic() - self._settled_at >= LOOK_SECONDS:
            self._settled_at = self._monotonic()
            await self._sync()

    async def close(self) -> None:
        """Give back every place and write down what was used."""
        await self._slots.close()
        await self._sync()

    async def _watch(self) -> NoReturn:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - without the watch no limit of the day would hold any more
                self._telemetry.look_failed(error)

    async def _keep(self) -> NoReturn:
        """Have the usage written down, and other nodes' read: every few seconds, and when a session ended."""
        while True:
            # Sessions that end within a second are written together.
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS - LOOK_SECONDS):
                    await self._flush.wait()
            self._flush.clear()
            await self._sync()

    async def _sync(self) -> None:
        try:
            await self._metering.sync()
        except StoreError as error:
            self._telemetry.store_failed("usage", error, then="kept in memory")

    async def _used_up(self, identity: Identity, allowance: Allowance) -> LimitHit | None:
        if not (scopes := allowance.daily_scopes):
            return None
        who = _who(identity)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._metering.know(who, scopes)
        except (StoreError, TimeoutError) as error:
            failure = error if isinstance(error, StoreError) else StoreError(f"no answer within {_ASK_SECONDS:g} s")
            self._unknown("usage", failure, self.rules.on_usage_failure)
        self._metering.accrue()
        return used_up(allowance, self._metering.accounts(who, scopes), self._clock())

    def _end(self, session_id: str, hit: LimitHit) -> None:
        found = self._followed.get(session_id)
        if found is not None:
            self._telemetry.ended(hit, session_id)
            found.session.end(END_REASONS[hit.limit], hit.scope.value)

    def _refusal(self, hit: LimitHit, identity: Identity) -> ApiError:
        self._telemetry.refused(hit, identity.tenant)
        seconds = max(1, math.ceil(hit.retry_seconds))
        retry = {"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)}
        message = _WORDS[hit.limit].format(whose=_WHOSE[hit.scope])
        return ApiError(429, ErrorCode.QUOTA_EXCEEDED, message, headers=retry)

    def _unknown(self, what: str, error: StoreError, on_failure: OnStoreFailure) -> None:
        """Go on or, where limits are to fail closed, raise ApiError."""
        is_open = on_failure is OnStoreFailure.FAIL_OPEN
        self._telemetry.store_failed(what, error, then="admitted" if is_open else "refused")
        if not is_open:
            raise _unavailable()


def _unavailable() -> ApiError:
    retry = {"retry-after": str(_RETRY_SECONDS), "retry-after-ms": str(_RETRY_SECONDS * 1000)}
    message = "What is used cannot be counted at this moment; try again."
    return ApiError(503, ErrorCode.QUOTA_UNAVAILABLE, message, headers=retry)


def _who(identity: Identity) -> Who:
    """Whose usage it is, by names that every store takes."""
    return Who(_fitting(identity.tenant, _TENANT_MOST), _fitting(identity.subject_hash, _SUBJECT_MOST))


def _fitting(name: str, most: int) -> str:
    if len(name) <= most and name.isprintable():
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


_both = lru_cache(maxsize=1_024)(tightened)
