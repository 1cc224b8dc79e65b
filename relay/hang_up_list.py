"""Every call that the service accepted is hung up, whatever happens: tried again, and after a restart too.

It stands between sessions and the members of the pool: a call that comes through it is kept, with the base URL of the
member that has it, until it is hung up or known to be over. Nobody but that member is ever asked to hang it up.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relay.kept_calls import KeptCall, KeptCalls
from relay.upstream import Member, Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal, UpstreamPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.pool import MemberState
    from relay.telemetry import Telemetry

_NOT_FOUND = 404
_REFUSED = 4
# Refusals of the client's kind that may yet go away: credential, time, rate. With any other the service means it.
_PASSING = frozenset({401, 403, 408, 429})
# Hang-ups tried again at one time: the first tries of other sessions, and their mints, come first.
_AT_ONCE = 4
_TOO_LATE = "no relay came to it for as long as the service lets a call last"
_FORGOTTEN = "it was forgotten for newer calls"


@dataclass(frozen=True, slots=True)
class Patience:
    """How a failed hang-up is tried again: after `first_seconds`, then after twice as long, `most_seconds` in the end.

    After `limit_seconds` the service has ended the call by itself (the longest session of the service: 60 minutes).
    """

    first_seconds: float = 1.0
    most_seconds: float = 300.0
    limit_seconds: float = 3_600.0


class HangUpList:
    """The pool, with a memory for calls. `clock` gives Unix seconds."""

    def __init__(
        self,
        pool: UpstreamPool,
        kept: KeptCalls,
        telemetry: Telemetry,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pool = pool
        self._kept = kept
        self._telemetry = telemetry
        self._patience = patience or Patience()
        self._clock = clock
        self._trying: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._written = True
        telemetry.room.hang_ups_waiting(lambda: len(self._trying))

    def pool_state(self) -> list[MemberState]:
        """How it stands with every member of the pool."""
        return self.pool.state()

    async def call(self, member: Member, key: ServiceKey, offer: str, deployment: str) -> ServiceCall:
        """Post an offer; the call is kept from the moment its answer is read. Raises ServiceError."""
        try:
            call = await member.upstream.call(key, offer, deployment)
        except ServiceError as error:
            if error.call_id is not None:
                # No session has it, so that none will hang it up.
                self._begin(self._keep(error.call_id, member), 0, error.detail)
            raise
        if call.call_id is not None:
            self._keep(call.call_id, member)
        self.pool.sessions[member.name] += 1
        return replace(call, member=member.name)

    async def hang_up(self, call: ServiceCall) -> None:
        """End a call, once. What fails is told by ServiceError, and tried again in the background."""
        self.pool.sessions[call.member] -= 1
        try:
            await _hang_up(self.pool.named(call.member), call)
        except ServiceError as error:
            kept = self._kept.calls.get(call.call_id or "")
            if kept is None or error.status == _NOT_FOUND:
                self._over(call.call_id)
            elif _is_final(error):
                self._give_up(kept, 1, error.detail)
            else:
                self._begin(kept, 1, error.detail)
            raise
        self._over(call.call_id)

    def hang_up_what_was_left(self) -> None:
        """Begin to hang up what the relay before this one left; needs a running loop."""
        left = list(self._kept.calls.values())
        if self._kept.unreadable:
            self._telemetry.warn("hang_up_list_damaged", lines=self._kept.unreadable)
        if left:
            self._telemetry.warn("calls_left_over", calls=len(left))
        for call in left:
            if self.pool.at(call.service, call.member) is not None:
                # By a clock that was ahead it would be tried until that time came.
                self._begin(replace(call, at=min(call.at, self._clock())), 0, _TOO_LATE)
            else:
                # The credentials are for the services that are configured now, and no other shall see them.
                self._give_up(call, 0, "its service is none of those that are configured")

    async def close(self) -> None:
        """Stop trying and close every connection; may be called twice. What is left, the next start hangs up."""
        trying = list(self._trying)
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)
        await self.pool.close()
        if self._kept.calls:
            self._telemetry.warn("calls_not_hung_up", calls=len(self._kept.calls), kept=self._kept.lasting)
        self._kept.close()

    def _keep(self, call_id: str, member: Member) -> KeptCall:
        kept = KeptCall(call_id, member.service, self._clock(), member.name)
        self._note(self._kept.add, kept)
        return kept

    def _begin(self, call: KeptCall, attempts: int, detail: str) -> None:
        """Try in the background from now on; `detail` is what stood against it so far."""
        task = asyncio.create_task(self._until_over(call, attempts, detail), name=f"hang up {call.call}")
        self._trying.add(task)
        task.add_done_callback(self._trying.discard)

    async def _until_over(self, call: KeptCall, attempts: int, detail: str) -> None:
        patience = self._patience
        delay = patience.first_seconds
        while self._may_run(call):
            if attempts:
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - many shall not try as one
                delay = min(2 * delay, patience.most_seconds)
            async with self._turn:
                # A turn may come late while the service hangs, and asking takes seconds from those that wait behind.
                if not self._may_run(call):
                    break
                attempts += 1
                failure = await self._try(call)
            if failure is None or failure.status == _NOT_FOUND:
                self._over(call.call)
                self._telemetry.room.hung_up_late(call.call, attempts)
                return
            detail = failure.detail
            if _is_final(failure):
                break
        self._give_up(call, attempts, detail if call.call in self._kept.calls else _FORGOTTEN)

    def _may_run(self, call: KeptCall) -> bool:
        """Whether it is kept still, and the service has not ended it by itself."""
        return call.call in self._kept.calls and self._clock() - call.at < self._patience.limit_seconds

    async def _try(self, call: KeptCall) -> ServiceError | None:
        """Hang up once; what stood against it, if anything did."""
        member = self.pool.at(call.service, call.member)
        if member is None:
            raise LookupError(call.service)
        began, failure = time.monotonic(), None
        try:
            await _hang_up(member, ServiceCall("", call.call))
        except ServiceError as error:
            failure = error
        outcome = "ok" if failure is None else failure.refusal.value
        self._telemetry.service.requested("hangup", outcome, time.monotonic() - began)
        self._telemetry.members.requested(member.name, "hangup", outcome)
        return failure

    def _give_up(self, call: KeptCall, attempts: int, detail: str) -> None:
        self._over(call.call)
        self._telemetry.room.hang_up_given_up(call.call, attempts, detail)

    def _over(self, call_id: str | None) -> None:
        if call_id is not None:
            self._note(self._kept.remove, call_id)

    def _note(self, change: Callable[[Any], None], what: KeptCall | str) -> None:
        """Change the list; that its file cannot be written is told once, and ends no session."""
        try:
            change(what)
        except OSError as error:
            if self._written:
                self._telemetry.warn("hang_up_list_not_written", error=error.strerror or type(error).__name__)
            self._written = False
        else:
            self._written = True


async def _hang_up(member: Member, call: ServiceCall) -> None:
    """Ask once. Raises ServiceError, also for a fault of the relay's own: the call runs on then, and is tried again."""
    try:
        await member.upstream.hang_up(call)
    except ServiceError:
        raise
    except Exception as error:
        fault = f"the relay could not ask: {type(error).__name__}"
        raise ServiceError(ServiceRefusal.FAILED, Operation.HANG_UP, fault) from error


def _is_final(error: ServiceError) -> bool:
    """Whether the service will answer the same the next time."""
    status = error.status
    return status is not None and status // 100 == _REFUSED and status not in _PASSING
