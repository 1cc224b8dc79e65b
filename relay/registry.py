"""All sessions: admit, find, end, drain."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable

from relay.conversation import Conversation, Host
from relay.core.client_stats import ClientStats
from relay.core.doors import Opened, OpenRequest
from relay.core.headroom import Headroom, Resource
from relay.core.lifecycle import SessionLimits
from relay.core.policy import EffectivePolicy
from relay.core.policy_resolve import Identity
from relay.early import EarlySessions
from relay.errors import ApiError, EndReason, ErrorCode
from relay.hang_up_list import HangUpList
from relay.live_sessions import LiveSessions
from relay.policies import Policies
from relay.quotas import Quotas
from relay.reoffers import no_such_call
from relay.telemetry import Telemetry

_ID_BYTES = 16
_RETRY_AFTER_SECONDS = "5"
# How long ending sessions may take to close their legs and hang up.
_END_SECONDS = 5.0


class Registry:
    """Lets sessions in and stops them; implements `relay.core.doors.Sessions`. Those that run are in `live`."""

    def __init__(
        self,
        host: Host,
        upstream: HangUpList,
        telemetry: Telemetry,
        policies: Policies,
        limits: SessionLimits,
        headroom: Headroom,
        quotas: Quotas,
        on_end: Callable[[str], None],
        early: EarlySessions | None = None,
    ) -> None:
        self._host = host
        self._upstream = upstream
        self._telemetry = telemetry
        self._policies = policies
        self._limits = limits
        self._headroom = headroom
        self._quotas = quotas
        self._on_end = on_end
        self._early = early
        self._draining = False
        self.live = LiveSessions(telemetry, self._over)
        # Sessions that are to begin early and wait for their place, by key.
        self._preparing: dict[str, asyncio.Task[None]] = {}

    @property
    def draining(self) -> bool:
        """Whether new sessions are refused because the relay is about to stop."""
        return self._draining

    def prepare(self, request: OpenRequest, seconds: float) -> None:
        """Begin the session of a key that was minted and lives so long, if sessions are to begin early; else nothing.

        Where the policy depends on the page that will use the key, nothing can begin before it does.
        """
        early, key_id = self._early, request.key_id
        if early is None or key_id is None:
            return
        try:
            policy = self._policies.admit_key(request.identity, request.model_asked)
        except ApiError:
            early.turned_away()
            return
        if policy is None:
            return
        # The key was minted whatever becomes of this: nobody is refused, and nobody is to come back.
        if self._too_full_for(request, early, len(self._preparing)):
            early.turned_away()
            return
        self._preparing[key_id] = task = asyncio.create_task(self._prepare(early, key_id, request, policy, seconds))
        task.add_done_callback(lambda _: self._preparing.pop(key_id))

    async def _prepare(
        self, early: EarlySessions, key_id: str, request: OpenRequest, policy: EffectivePolicy, seconds: float
    ) -> None:
        try:
            async with self._place(request, policy) as session_id:
                policy = self._policies.admit(request.identity, request.model_asked)
                if self._too_full_for(request, early, 0):
                    raise _full()
                early.keep(key_id, request, self._begin(session_id, request, policy), seconds)
        except ApiError:
            early.turned_away()

    async def open(self, request: OpenRequest) -> Opened:
        """Admit and set up a session; return once the service accepted it (at once if it began early). Raises ApiError.

        If the caller is cancelled, because its client went away, the session ends and what was begun is hung up.
        """
        early = self._early
        if (preparing := self._preparing.get(request.key_id or "")) is not None:
            await asyncio.wait({preparing})
        # One that waits for this client has its place already, or leaves it to the one that is opened instead.
        if early is None or not early.holds(request.key_id):
            self._admit()
        policy = self._policies.admit(request.identity, request.model_asked)
        waiting = None if early is None else early.session_of(request.key_id)
        begun = None if early is None else early.take(request, policy)
        if begun is None and waiting is not None:
            # It is given up for the one that is opened instead, which must not be refused for its sake.
            await self._quotas.leave(waiting, at_once=True)
        conversation = begun or await self._admitted(request, policy)
        try:
            if begun is not None and request.offer is not None:
                return await begun.meet(request, request.offer)
            return await asyncio.shield(conversation.opened)
        except asyncio.CancelledError:
            conversation.end(EndReason.REQUEST_CANCELLED, "the client went away during set-up")
            raise

    def hang_up(self, session_id: str, owner: str) -> bool:
        """End a session on its owner's wish; False if this owner has no such session."""
        found = self.live.of(session_id, owner)
        if found is None:
            return False
        found.end(EndReason.CLIENT_HUNG_UP)
        return True

    async def reoffer(self, session_id: str, owner: str, offer: str) -> str:
        """The answer to an offer that the owner makes to a running session. Raises ApiError."""
        found = self.live.of(session_id, owner)
        if found is None:
            raise no_such_call()
        return await found.reoffer(offer)

    def report_stats(self, session_id: str, owner: str, stats: ClientStats) -> None:
        """Take what a client tells of its view of its running session. Raises ApiError."""
        found = self.live.of(session_id, owner)
        if found is None:
            raise no_such_call()
        found.report_stats(stats)

    def readiness(self) -> dict[str, str]:
        """Why no session can be opened now, as `{check: reason}`; empty when ready."""
        reasons = self._policies.readiness() | self._host.readiness()
        if self._draining:
            reasons["draining"] = "the relay is about to stop"
        if short := self._headroom.short(len(self.live), time.monotonic()):
            reasons["capacity"] = f"short of {', '.join(short)} with {len(self.live)} sessions"
        return reasons

    def capacity(self) -> dict[Resource, float]:
        """How much of each resource is in use; 1 is where sessions are refused."""
        return self._headroom.ratios(len(self.live), time.monotonic())

    def policies_changed(self) -> None:
        """Other policies are in force, or the kill switch was moved: every session takes what acts on it at once."""
        self.live.take_policies(self._policies)
        if self._early is not None:
            self._early.take_policies(self._policies)

    async def drain(self, seconds: float) -> None:
        """Admit nobody, tell the clients, wait up to `seconds` for sessions to end, then end the rest."""
        self._draining = True
        if self._early is not None:
            self._early.drain()
        for conversation in self.live.conversations:
            conversation.warn_ending(EndReason.RELAY_DRAINING, int(seconds))
        if self.live.tasks and seconds > 0:
            await asyncio.wait(self.live.tasks, timeout=seconds)
        for conversation in self.live.conversations:
            conversation.end(EndReason.RELAY_DRAINING)
        await self._all_over(_END_SECONDS)
        # What is left waits for the service's answer to a call; the service ends a call that nobody connects to.
        for task in self.live.tasks:
            task.cancel()
        await self._all_over(None)
        # Whoever still waits for a place would take one after all were given back.
        for task in self._preparing.values():
            task.cancel()
        await asyncio.gather(*self._preparing.values(), return_exceptions=True)

    async def _admitted(self, request: OpenRequest, policy: EffectivePolicy) -> Conversation:
        """Begin a session once it has its place; what was judged before waiting is judged again. Raises ApiError."""
        async with self._place(request, policy) as session_id:
            self._admit()
            return self._begin(session_id, request, self._policies.admit(request.identity, request.model_asked))

    @contextlib.asynccontextmanager
    async def _place(self, request: OpenRequest, policy: EffectivePolicy) -> AsyncIterator[str]:
        """The id of a session that has its place; it is given back if the session is not begun. Raises ApiError."""
        session_id = f"rs_{secrets.token_hex(_ID_BYTES)}"
        await self._quotas.admit(session_id, request.identity, policy.limits)
        try:
            yield session_id
        except BaseException:
            self._quotas.leave(session_id)
            raise

    def _too_full_for(self, request: OpenRequest, early: EarlySessions, preparing: int) -> bool:
        full = self._draining or self._headroom.lacks(len(self.live) + preparing, time.monotonic()) is not None
        return full or not early.has_room(request.owner, preparing)

    def _begin(self, session_id: str, request: OpenRequest, policy: EffectivePolicy) -> Conversation:
        self._headroom.begin(time.monotonic())
        conversation = Conversation(session_id, request, policy, self._limits, self._upstream, self._telemetry)
        task = asyncio.create_task(conversation.run(self._host), name=f"conversation {session_id}")
        self.live.add(conversation, task)
        _hold(conversation, request.identity, self._quotas)
        return conversation

    async def _all_over(self, seconds: float | None) -> None:
        if self.live.tasks:
            await asyncio.wait(self.live.tasks, timeout=seconds)

    def _over(self, session_id: str) -> None:
        self._quotas.leave(session_id)
        self._on_end(session_id)

    def _admit(self) -> None:
        if self._draining:
            retry = {"retry-after": _RETRY_AFTER_SECONDS}
            raise ApiError(503, ErrorCode.DRAINING, "The relay is about to stop; try again.", headers=retry)
        if (short := self._headroom.judge(len(self.live), time.monotonic())) is not None:
            self._telemetry.room.short(short.resource, len(self.live))
            milliseconds = int(short.retry_seconds * 1000)
            retry = {"retry-after": str(-(-milliseconds // 1000)), "retry-after-ms": str(milliseconds)}
            raise _full(retry)


def _hold(conversation: Conversation, identity: Identity, quotas: Quotas) -> None:
    """Count what the session uses, from its acceptance to its end, and let the quotas end it."""
    session_id = conversation.session_id

    def opened(accepted: asyncio.Future[Opened]) -> None:
        if not accepted.cancelled() and accepted.exception() is None:
            quotas.count(session_id)

    quotas.follow(session_id, identity, conversation)
    conversation.diary.on_used = lambda tokens, dollars: quotas.used(identity, tokens, dollars)
    conversation.opened.add_done_callback(opened)
    conversation.ending.add_done_callback(lambda _: quotas.stop(session_id))


def _full(headers: dict[str, str] | None = None) -> ApiError:
    return ApiError(503, ErrorCode.AT_CAPACITY, "The relay is full; try again.", headers=headers)
