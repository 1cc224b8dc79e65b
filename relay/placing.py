"""One session's call at the service: placed at one member of the pool after the other, until one takes it.

The offer is the same at every member: no answer was applied to it yet. A member that failed is not asked twice, and a
request that is itself at fault is not carried from one to the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relay.core.kept_errors import without_frames
from relay.core.lifecycle import LegName, Stage
from relay.core.policy_rules import ResidencyRules
from relay.diary import Diary
from relay.errors import ApiError, ErrorCode
from relay.hang_up_list import HangUpList
from relay.telemetry import Telemetry
from relay.upstream import Member, ServiceCall, ServiceError, ServiceKey, fails_over, retry_after_seconds

T = TypeVar("T")

MOST_MEMBERS = 3
# No further member is begun with later than this after the first, in times of `upstream.timeout_seconds`; a member
# takes two of them at most, one for each request.
BEGIN_WITHIN = 2.0
_NOT_FOUND = 404


class NoRegion(ApiError):  # noqa: N818 - a refusal of a door
    """Where the policy lets the session be served nobody serves it now, or nobody ever does (`retry_after` None)."""

    def __init__(self, retry_after: int | None) -> None:
        told = {"x-should-retry": "false"} if retry_after is None else {"retry-after": str(retry_after)}
        message = "The service is not available where this session may be served."
        super().__init__(503, ErrorCode.REGION_UNAVAILABLE, message, headers=told)


@dataclass(frozen=True, slots=True)
class CallWish:
    """What is asked of whichever member: a whole session, the relay's offer, the deployment by the settings' name."""

    session: dict[str, Any] = field(repr=False)
    offer: str = field(repr=False)
    deployment: str


class Placing:
    """Places and hangs up the call of one session. `ended` tells whether the session is over already.

    `unless_ended` waits for a key, or raises as soon as the session ends.
    """

    def __init__(
        self,
        session_id: str,
        upstream: HangUpList,
        diary: Diary,
        telemetry: Telemetry,
        ended: Callable[[], bool],
        unless_ended: Callable[[asyncio.Future[ServiceKey]], Awaitable[ServiceKey]],
    ) -> None:
        self._session_id = session_id
        self._upstream = upstream
        self._diary = diary
        self._telemetry = telemetry
        self._ended = ended
        self._unless_ended = unless_ended

    async def place(self, wish: CallWish, residency: Callable[[], ResidencyRules]) -> ServiceCall:
        """The call, at the first member that takes it; `residency` is asked anew for each.

        Raises ServiceError, what the last member said; NoRegion; and what `unless_ended` raises.
        """
        pool, tried, began = self._upstream.pool, list[str](), self._upstream.pool.now()
        failure: ServiceError | None = None
        while len(tried) < MOST_MEMBERS and pool.now() - began < BEGIN_WITHIN * pool.request_seconds:
            member = pool.choose(residency(), wish.deployment, tried)
            if member is None:
                break
            if failure is not None:
                self._telemetry.members.failed_over(self._session_id, tried[-1], member.name, failure.refusal.value)
            tried.append(member.name)
            try:
                with pool.trying(member):
                    return await self._attempt(member, wish)
            except ServiceError as error:
                self._refused(member, error)
                if self._ended() or not fails_over(error):
                    raise
                failure = without_frames(error)
        if failure is None or residency().limited:
            raise self._nowhere(residency(), wish.deployment) from None
        raise failure

    async def hang_up(self, call: ServiceCall) -> None:
        """End the call at the member that has it; a failure is told, and tried again by the list of calls."""
        began, outcome = time.monotonic(), "ok"
        try:
            await self._upstream.hang_up(call)
        except ServiceError as error:
            outcome = error.refusal.value
            # A service that ended the call itself knows it no more.
            if error.status != _NOT_FOUND:
                self._telemetry.warn("hang_up_failed", session_id=self._session_id, member=call.member,
                                     refusal=outcome, detail=error.detail)  # fmt: skip
        self._telemetry.service.requested("hangup", outcome, time.monotonic() - began)
        self._telemetry.members.requested(call.member, "hangup", outcome)

    async def _attempt(self, member: Member, wish: CallWish) -> ServiceCall:
        """One attempt at one member: mint there, and call there with that key."""
        deployment = self._upstream.pool.deployment_at(member, wish.deployment)
        session = {**wish.session, "model": deployment}
        minting = asyncio.ensure_future(self._timed(member, Stage.MINT, "mint", member.upstream.mint(session)))
        try:
            key = await self._unless_ended(minting)
        finally:
            # A key nobody uses expires by itself; a call, below, must be known to be hung up.
            minting.cancel()
        self._diary.service_asked(key.request_id)
        calling = self._upstream.call(member, key, wish.offer, deployment)
        call = await self._timed(member, Stage.CALL, "call", calling)
        self._diary.service_asked(call.request_id)
        return call

    async def _timed(self, member: Member, stage: Stage, operation: str, request: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            answer = await request
        except ServiceError as error:
            self._asked(member, operation, error.refusal.value, time.monotonic() - began)
            raise
        seconds = time.monotonic() - began
        self._asked(member, operation, "ok", seconds)
        self._diary.stage_done(LegName.UPSTREAM, stage, seconds)
        return answer

    def _asked(self, member: Member, operation: str, outcome: str, seconds: float) -> None:
        self._telemetry.service.requested(operation, outcome, seconds)
        self._telemetry.members.requested(member.name, operation, outcome)

    def _refused(self, member: Member, error: ServiceError) -> None:
        self._diary.service_asked(error.request_id)
        self._telemetry.warn("service_refused", session_id=self._session_id, member=member.name,
                             operation=error.operation, refusal=error.refusal, status=error.status,
                             request_id=error.request_id, detail=error.detail)  # fmt: skip

    def _nowhere(self, residency: ResidencyRules, deployment: str) -> NoRegion:
        pool = self._upstream.pool
        allowed = {each.name for each in pool.members if pool.allowed(each, residency, deployment)}
        states = [state for state in pool.state() if state.name in allowed]
        self._telemetry.warn(
            "region_unavailable", session_id=self._session_id, members=[f"{each.name}: {each.state}" for each in states]
        )
        return NoRegion(retry_after_seconds(states, time.time()) if states else None)
