"""The places that this node's sessions have among those that may run at one time: taken, renewed, given back.

A session whose place is found lost (a store that forgot, an outage longer than a lease) takes one again. If all are
taken by then, it ends where limits are to fail closed, and runs on, counted, where they are to fail open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

from relay.config import OnStoreFailure
from relay.core.allowance import Bound, Limit, LimitHit
from relay.core.leases import RENEW_SECONDS, Claim, Leases
from relay.core.stored import StoreError
from relay.telemetry.quotas import QuotaTelemetry

_WHAT = "sessions"
_RETRY_SECONDS = 5.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Place:
    claim: Claim
    limits: Bound


class Slots:
    """`on_lost` is called with a running session for which there is no place any more, and the limit that it is for."""

    def __init__(self, leases: Leases, on_failure: OnStoreFailure, telemetry: QuotaTelemetry) -> None:
        self.on_lost: Callable[[str, LimitHit], None] = lambda _session, _hit: None
        self._leases = leases
        self._fail_open = on_failure is OnStoreFailure.FAIL_OPEN
        self._telemetry = telemetry
        self._held: dict[str, _Place] = {}
        self._under_way: dict[str, asyncio.Future[Any]] = {}
        # No more than wait for the leases, which see to it that those are not too many.
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, claim: Claim, limits: Bound) -> LimitHit | None:
        """Take a place, or hear which limit is reached. Raises StoreError if limits are to fail closed.

        Who has no limit waits for nothing: the place is taken for the sake of the others.
        """
        taking = asyncio.ensure_future(self._leases.take(claim, limits))
        self._under_way[claim.session] = taking
        taking.add_done_callback(lambda _: self._under_way.pop(claim.session, None))
        place = _Place(claim, limits)
        if not limits.scopes:
            self._held[claim.session] = place
            taking.add_done_callback(self._taken_unasked)
            return None
        try:
            scope = await asyncio.shield(taking)
        except asyncio.CancelledError:
            self.release(claim.session)
            raise
        except StoreError as error:
            self._failed(error, "admitted" if self._fail_open else "refused")
            if not self._fail_open:
                # It may have been taken behind our back.
                self.release(claim.session)
                raise
            scope = None
        if scope is not None:
            return LimitHit(Limit.SESSIONS, scope, _RETRY_SECONDS)
        self._held[claim.session] = place
        return None

    def release(self, session: str, *, at_once: bool = False) -> asyncio.Task[None]:
        """Give a place back, whatever became of taking it; done when the task is. One that cannot be reached lapses.

        That of a session without limits waits for others, to be written with them, if it is not wanted `at_once`.
        """
        place = self._held.pop(session, None)
        return self._spawn(self._release(session, at_once or place is None or bool(place.limits.scopes)))

    async def renew(self) -> None:
        """Keep the places of all sessions; find what is lost."""
        places = [place for session, place in self._held.items() if session not in self._under_way]
        try:
            lost = await self._leases.renew([place.claim for place in places])
        except StoreError as error:
            self._failed(error, "not renewed")
            return
        # Asked for in the order in which they began: the newest find no room.
        await asyncio.gather(*(self._take_again(each) for each in places if each.claim.session in lost))

    async def start(self) -> None:
        """Free what this node left behind when it ended; before the first session."""
        try:
            await self._leases.free_own()
        except StoreError as error:
            self._failed(error, "left to lapse")

    async def watch(self) -> NoReturn:
        """Renew for ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def close(self) -> None:
        """Wait, for some seconds, until all that is to be given back is."""
        self._leases.hurry()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _take_again(self, place: _Place) -> None:
        session = place.claim.session
        if session not in self._held:
            return
        try:
            scope = await self._leases.take(place.claim, Bound() if self._fail_open else place.limits)
        except StoreError as error:
            self._failed(error, "tried again later")
            if session not in self._held:
                # It may have been taken behind our back, for a session that is over.
                self.release(session)
            return
        if session not in self._held:
            self.release(session)
        elif scope is None:
            self._telemetry.lease_lost(session, "taken again")
        else:
            self._telemetry.lease_lost(session, "ended")
            self.on_lost(session, LimitHit(Limit.SESSIONS, scope))

    async def _release(self, session: str, at_once: bool) -> None:  # noqa: FBT001 - handed through
        if (taking := self._under_way.get(session)) is not None:
            await asyncio.wait({taking})
            # Whoever waited for it is gone, or has heard of it.
            if not taking.cancelled():
                taking.exception()
        try:
            await self._leases.release(session, at_once=at_once)
        except StoreError as error:
            self._failed(error, "left to lapse")

    def _taken_unasked(self, taking: asyncio.Future[Any]) -> None:
        if not taking.cancelled() and isinstance(error := taking.exception(), StoreError):
            self._failed(error, "not counted")

    def _failed(self, error: StoreError, then: str) -> None:
        self._telemetry.store_failed(_WHAT, error, then=then)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
