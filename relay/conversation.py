"""A session as the main side sees it: mint and call at the service, facts to telemetry, hang-up, record.

The media side (`relay.session`) knows no credentials and no service; this side knows no packet and no event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from relay.core.client_stats import ClientStats
from relay.core.doors import Opened, OpenRequest
from relay.core.kept_errors import without_frames
from relay.core.lifecycle import (
    ClientOffered,
    Command,
    Ended,
    Ending,
    EndSession,
    Fact,
    Negotiated,
    NoticeEnding,
    OfferRefused,
    Phase,
    PhaseChanged,
    Reanswered,
    Reoffered,
    ReofferRefused,
    ReplaceLimits,
    ReplacePolicy,
    ServiceAnswered,
    ServiceAnswerRefused,
    SessionCounters,
    SessionLimits,
    SessionStart,
    ToldRefusal,
)
from relay.core.live_session import LiveSession
from relay.core.policy import Composed, ConfigRefusal, EffectivePolicy, compose
from relay.core.policy_rules import LimitRules
from relay.core.quota import TokenBucket
from relay.core.wish_record import wish_decision
from relay.diary import Diary
from relay.errors import ApiError, EndReason, ErrorCode
from relay.hang_up_list import HangUpList
from relay.placing import CallWish, NoRegion, Placing
from relay.policies import Policies
from relay.reoffers import Reoffers, no_such_call
from relay.telemetry import Telemetry
from relay.upstream import Operation, ServiceCall, ServiceError, ServiceRefusal, to_api_error

T = TypeVar("T")

# A client may tell of its own view so often: a few at once, then one in so many seconds.
_STATS_AT_ONCE = 5
_STATS_SECONDS = 5


class RunningSession(Protocol):
    """The media side of a session, in this process or another."""

    def command(self, command: Command) -> None:
        """Take a command."""
        ...

    def counters(self) -> SessionCounters:
        """What was counted until now."""
        ...


class Host(Protocol):
    """Where media sides run."""

    def start(self, start: SessionStart, emit: Callable[[Fact], None]) -> RunningSession:
        """Begin a session; the last fact it emits is `Ended`. Raises ApiError when it cannot be begun now."""
        ...

    def readiness(self) -> dict[str, str]:
        """Why no session can be begun now, as `{check: reason}`; empty if one can."""
        ...


class Conversation:
    """One session from admission to record. `opened` is done once the service accepted it, or with the ApiError.

    One that begins without an offer is `opened` when its client is answered; `refusal` is why it came to nothing.
    `ending` is done once the end is decided; never for a session whose media side did not begin.
    """

    def __init__(
        self,
        session_id: str,
        request: OpenRequest,
        policy: EffectivePolicy,
        limits: SessionLimits,
        upstream: HangUpList,
        telemetry: Telemetry,
    ) -> None:
        self.session_id = session_id
        self.owner = request.owner
        self.policy = policy
        self.opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self.ending: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        self.refusal: ApiError | None = None
        self._request = request
        self._limits = limits
        # Which member of the pool has the call; None until one does.
        self.member: str | None = None
        self._upstream = upstream
        self._telemetry = telemetry
        self._session: RunningSession | None = None
        self._call: ServiceCall | None = None
        # Commands from before the media side began.
        self._unsent: list[Command] = []
        self._policy_limits = policy.limits
        self._negotiated: asyncio.Future[Negotiated] = asyncio.get_running_loop().create_future()
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._reoffers = Reoffers()
        self._stats_rate = TokenBucket(1 / _STATS_SECONDS, _STATS_AT_ONCE, time.monotonic())
        self.diary = Diary(session_id, request, policy, telemetry)

    def view(self) -> LiveSession:
        """What is known of it now."""
        return self.diary.view(self.counters())

    @property
    def rules(self) -> LimitRules:
        """The policy's limits that hold now."""
        return self._policy_limits

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session; the first reason wins."""
        self._command(EndSession(reason, detail))

    def warn_ending(self, reason: EndReason, seconds_left: int) -> None:
        """Tell the client that its session will end."""
        self.diary.noticed(reason, seconds_left)
        self._command(NoticeEnding(reason, seconds_left))

    async def reoffer(self, offer: str) -> str:
        """The answer to an offer that the client makes to its running session. Raises ApiError."""
        if self._session is None or self.ending.done():
            raise no_such_call()
        return await self._reoffers.ask(lambda number: self._command(Reoffered(number, offer)))

    async def meet(self, request: OpenRequest, offer: str) -> Opened:
        """Answer the client of a session that began without it, at once. Raises ApiError, and ends the session."""
        if self.opened.done() or self.ending.done():
            raise self._gone()
        self._request = self.diary.request = request
        try:
            answer = await self._reoffers.ask(
                lambda number: self._command(ClientOffered(number, offer, request.webrtc_filter))
            )
        except ApiError as refusal:
            if self.ending.done():
                raise self._gone() from None
            self._answer_door(refusal)
            self.end(EndReason.OFFER_REFUSED, refusal.code.value)
            raise
        if not self.opened.done():
            self.opened.set_result(Opened(self.session_id, answer))
        return Opened(self.session_id, answer)

    def take_policies(self, policies: Policies) -> None:
        """Take what acts on running sessions: the kill switch, limits, and a whole policy that is to be applied live.

        A session that no policy covers any more keeps the one it has. One that waits for its first client is given up
        instead, where it is kept (`EarlySessions`).
        """
        identity = self._request.identity
        if policies.switch.stops(identity.tenant, self.policy.name):
            self.end(EndReason.POLICY_KILLED)
            return
        if self._request.offer is None:
            return
        policy = policies.now_for(identity, self._request.model_asked)
        if policy is None:
            return
        is_new = (policy.name, policy.revision) != (self.policy.name, self.policy.revision)
        if is_new and policy.apply_live:
            # The call is made; what serves it cannot change any more.
            self.policy = replace(
                policy,
                deployment=self.policy.deployment,
                transcription_deployment=self.policy.transcription_deployment,
            )
            self.diary.policy_replaced(self.policy)
            self._policy_limits = policy.limits
            self._command(ReplacePolicy(self.policy))
            self._look_where_it_is()
        elif policy.limits != self._policy_limits:
            self._policy_limits = policy.limits
            self._command(ReplaceLimits(policy.limits))

    def report_stats(self, stats: ClientStats) -> None:
        """Take what the client tells of its own view. Raises ApiError."""
        if not self._stats_rate.take(time.monotonic()):
            retry = {"retry-after": str(_STATS_SECONDS)}
            raise ApiError(429, ErrorCode.RATE_LIMIT_EXCEEDED, "Too many reports.", headers=retry)
        self.diary.client_reported(stats)

    def counters(self) -> SessionCounters:
        """What was counted until now."""
        if self._ended.done():
            return self._ended.result().counters
        return SessionCounters() if self._session is None else self._session.counters()

    async def run(self, host: Host) -> None:
        """Set up, wait for the end, hang up, record, whatever breaks on the way: a refusal goes to `opened`."""
        self.diary.opened()
        try:
            try:
                await self._set_up_and_hang_up(host)
            except Exception as error:  # noqa: BLE001 - whatever breaks here, the end is waited for and recorded
                self._telemetry.warn("hang_up_failed", session_id=self.session_id, detail=type(error).__name__)
            if self._session is not None:
                await self._ended
        finally:
            # A relay that stops waits for nobody: then this is all that is known.
            self.diary.ended(self._outcome())
            # It tells us its facts: neither shall wait for the garbage collector.
            self._session = None

    async def _set_up_and_hang_up(self, host: Host) -> None:
        placing = Placing(
            self.session_id, self._upstream, self.diary, self._telemetry, self.ending.done, self._unless_ended
        )
        try:
            await self._set_up(host, placing)
        except Exception as error:  # noqa: BLE001 - whatever breaks here must end this session, and be told
            self._refuse_for(without_frames(error))
        if self._session is None:
            return
        await self.ending
        if self._call is not None:
            # While the legs are still closing: whatever happens to them, the service stops billing now.
            await placing.hang_up(self._call)

    def _outcome(self) -> Ended | None:
        """How it ended, as far as that is known; None if the media side never began."""
        if self._ended.done():
            return self._ended.result()
        return Ended(self.ending.result(), "", self.counters()) if self.ending.done() else None

    async def _set_up(self, host: Host, placing: Placing) -> None:
        composed = self._compose()
        self._session = host.start(self._start(composed), self._on_fact)
        for command in self._unsent:
            self._session.command(command)
        negotiated = await self._unless_ended(self._negotiated)
        wish = CallWish(composed.session, negotiated.service_offer, self.policy.deployment)
        # From now on it is hung up, whatever goes wrong with its answer.
        self._call = call = await placing.place(wish, lambda: self.policy.residency)
        self.member = self.diary.member = call.member
        self._command(ServiceAnswered(call.answer))
        # The policy may have become another one while the service was asked.
        self._look_where_it_is()
        await self._unless_ended(self._accepted)
        if negotiated.answer is not None and not self.opened.done():
            self.opened.set_result(Opened(self.session_id, negotiated.answer))

    def _compose(self) -> Composed:
        request, policy = self._request, self.policy
        if (decision := wish_decision(policy, request.client_session, request.dialect)) is not None:
            self.diary.tell(decision)
        try:
            return compose(policy, request.client_session, request.dialect, self._upstream.pool.dialect)
        except ConfigRefusal as refusal:
            raise ApiError(400, refusal.code, "The session configuration is not valid.", param=refusal.param) from None

    def _start(self, composed: Composed) -> SessionStart:
        request, pool = self._request, self._upstream.pool
        return SessionStart(
            session_id=self.session_id,
            offer=request.offer,
            dialect=request.dialect,
            service_dialect=pool.dialect,
            webrtc_filter=request.webrtc_filter,
            model=request.model,
            policy=self.policy,
            service_names=pool.deployments,
            transcription_name=composed.transcription_name,
            client_instructions=composed.instructions,
            client_functions=composed.functions,
            client_fields=composed.fields,
            limits=self._limits,
        )

    def _look_where_it_is(self) -> None:
        """End the session if its call is where the policy that is in force now does not let it be."""
        if self.member is None:
            return
        pool = self._upstream.pool
        if not pool.allowed(pool.named(self.member), self.policy.residency, self.policy.deployment):
            self.end(EndReason.POLICY_REGION, "its policy allows it elsewhere only")

    def _on_fact(self, fact: Fact) -> None:
        match fact:
            case Negotiated():
                self._negotiated.set_result(fact)
            case OfferRefused(message):
                self._refuse(ApiError(400, ErrorCode.INVALID_OFFER, message, param="sdp"))
            case ServiceAnswerRefused(message):
                self._telemetry.warn("service_answer_unusable", session_id=self.session_id, detail=message)
                error = ServiceError(ServiceRefusal.INVALID_ANSWER, Operation.CALL, message)
                self._refuse(to_api_error(error))
            case PhaseChanged(phase):
                self.diary.entered(phase)
                if phase is Phase.CONNECTING and not self._accepted.done():
                    self._accepted.set_result(None)
            case Ending(reason):
                self._on_ending(reason)
            case Ended():
                self._ended.set_result(fact)
            case Reanswered() | ReofferRefused():
                if isinstance(fact, Reanswered) and fact.restart:
                    self._telemetry.clients.ice_restarted(self.session_id)
                self._reoffers.on_fact(fact)
            case _:
                self.diary.tell(fact)

    def _on_ending(self, reason: EndReason) -> None:
        self.ending.set_result(reason)
        self._reoffers.end()
        # Whatever is under way at the service: the door need not wait for it.
        self._answer_door(self._gone())

    def _refuse_for(self, error: Exception) -> None:
        match error:
            case NoRegion():
                self._refuse(error, EndReason.POLICY_REGION)
            case ApiError():
                self._refuse(error)
            case ServiceError():
                self._refuse(to_api_error(error))
            case _:
                self._telemetry.warn("set_up_failed", session_id=self.session_id, error=type(error).__name__)
                self._refuse(ApiError(500, ErrorCode.INTERNAL_ERROR, "The relay failed to set the session up."))

    def _refuse(self, refusal: ApiError, reason: EndReason = EndReason.SERVICE_REFUSED) -> None:
        """Answer the door, and end the media side if it runs; a client that was answered is told by it."""
        if not self.ending.done():
            self.refusal = refusal
        self._answer_door(refusal)
        told = ToldRefusal(refusal.kind, refusal.code, refusal.message)
        self._command(EndSession(reason, refusal.code.value, told))

    def _answer_door(self, refusal: ApiError) -> None:
        if not self.opened.done():
            self.opened.set_exception(without_frames(refusal))
            # The door may be gone already; then nobody will ask for the exception.
            self.opened.exception()

    async def _unless_ended(self, wanted: asyncio.Future[T]) -> T:
        """Wait for a fact, or for the end of the session, which is an ApiError."""
        waiting: set[asyncio.Future[Any]] = {wanted, self.ending}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise self._gone()

    def _gone(self) -> ApiError:
        if self.opened.done() and isinstance(error := self.opened.exception(), ApiError):
            return error
        if self.ending.result() is EndReason.RELAY_DRAINING:
            return ApiError(503, ErrorCode.DRAINING, "The relay is about to stop.", headers={"retry-after": "5"})
        return ApiError(500, ErrorCode.INTERNAL_ERROR, "The session ended before it was set up.")

    def _command(self, command: Command) -> None:
        if self._session is None:
            self._unsent.append(command)
        else:
            self._session.command(command)
