"""One session: a browser's leg, the service's leg and the bridge, from the offer to the end.

A session is started from one serialisable value (`SessionStart`) and afterwards exchanges only serialisable values:
facts up through `emit`, commands down through `command`. It knows nothing of doors, registry, telemetry or credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from relay.core.event_filter import EventFilter
from relay.core.lifecycle import (
    Command,
    Decided,
    Dialect,
    Ended,
    Ending,
    EndSession,
    Fact,
    LegName,
    Negotiated,
    NoticeEnding,
    OfferRefused,
    Phase,
    PhaseChanged,
    PolicyTaken,
    ReplaceLimits,
    ReplacePolicy,
    ServiceAnswered,
    ServiceAnswerRefused,
    SessionCounters,
    SessionStart,
    Stage,
    StageDone,
)
from relay.core.policy_rules import LimitRules
from relay.core.sdp import RemoteDescription, SdpError, parse_answer, parse_offer
from relay.core.sdp_build import LocalTransport, answer_setup, build_answer, build_service_offer
from relay.core.session_clock import SessionClock, TimeShort, TimeUp
from relay.errors import EndReason
from relay.rtc.bridge import Bridge, end_reason
from relay.rtc.dtls import SharedCertificate, fingerprint_of
from relay.rtc.endpoint import Endpoint
from relay.rtc.ice_lite import IceLiteAgent
from relay.rtc.leg import Leg, LegFault
from relay.rtc.upstream_ice import UpstreamIce

_TICK_SECONDS = 1.0
# Time for the client to read why its session ends, before its transport is closed.
_END_NOTICE_SECONDS = 0.1
_CLOSE_SECONDS = 2.0
_CHANNEL_LABELS = {Dialect.GA: "oai-events", Dialect.PREVIEW: "realtime-channel"}
# Ufrags of 16 characters: short ones collide once there are thousands of sessions.
_UFRAG_BYTES = 8
_PWD_BYTES = 16


@dataclass(frozen=True, slots=True)
class MediaPlane:
    """What all sessions of one process share: the public port, the addresses it is reached at, the certificate."""

    endpoint: Endpoint
    addresses: tuple[tuple[str, int], ...]
    certificate: SharedCertificate


class Session:
    """One conversation. `run` tells its life; everybody else calls `command` (or `end`), and the first end wins."""

    def __init__(self, start: SessionStart, plane: MediaPlane, emit: Callable[[Fact], None]) -> None:
        self._start = start
        self._plane = plane
        self._emit = emit
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._ended: asyncio.Future[tuple[EndReason, str]] = loop.create_future()
        self._service_answer: asyncio.Future[str] = loop.create_future()
        self._in_force = asyncio.Event()
        self._heard: set[LegName] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._agent: IceLiteAgent | None = None
        self._upstream_ice: UpstreamIce | None = None
        self._events = EventFilter(start, _next_event_id)
        self._bridge = Bridge(self._events, start.limits, self)
        self._clock = SessionClock(start.policy.limits, time.monotonic())
        self._take_limits(start.policy.limits)
        certificate = plane.certificate.current()
        self._fingerprint = fingerprint_of(certificate)
        self._downstream = Leg(LegName.DOWNSTREAM, _ssrc(), certificate, start.limits, self._bridge)
        self._upstream = Leg(LegName.UPSTREAM, _ssrc(), certificate, start.limits, self._bridge)
        self._bridge.join(self._downstream, self._upstream)

    def command(self, command: Command) -> None:
        """Take a command; one that comes too late is of no effect."""
        match command:
            case ServiceAnswered(answer):
                if not self._service_answer.done():
                    self._service_answer.set_result(answer)
            case EndSession(reason, detail):
                self.end(reason, detail)
            case NoticeEnding(reason, seconds_left):
                self._bridge.notify_ending(reason, seconds_left)
            case ReplacePolicy(policy):
                self._take_limits(policy.limits)
                if not self._ended.done():
                    self._bridge.replace_policy(policy)
            case ReplaceLimits(limits):
                self._take_limits(limits)

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session; the first reason wins."""
        if not self._ended.done():
            self._ended.set_result((reason, detail))

    def counters(self) -> SessionCounters:
        """What was counted until now."""
        return self._bridge.counters()

    async def run(self) -> None:
        """Live: negotiate, connect both legs, confirm the policy, carry until the first end reason, close."""
        life = asyncio.create_task(self._live(), name=f"session {self._start.session_id}")
        try:
            waiting: set[asyncio.Future[Any]] = {life, self._ended}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if life.done() and not life.cancelled() and (error := life.exception()) is not None:
                self.end(EndReason.RELAY_FAILED, f"{type(error).__name__}: {error}")
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            self.end(EndReason.RELAY_FAILED, "cancelled")
            reason, detail = self._ended.result()
            self._emit(Ending(reason))
            try:
                await self._close(reason)
            finally:
                self._emit(Ended(reason, detail, self._bridge.counters()))

    async def _live(self) -> None:
        start, limits = self._start, self._start.limits
        try:
            offer = parse_offer(start.offer)
        except SdpError as error:
            self._emit(OfferRefused(str(error)))
            self.end(EndReason.OFFER_REFUSED, str(error))
            return
        setup = answer_setup(offer.setup)
        agent = self._agent = self._listen(offer)
        ice, service_offer = self._offer_service()
        self._upstream_ice = ice
        self._emit(PhaseChanged(Phase.NEGOTIATING))
        self._emit(Negotiated(self._answer(offer, agent, setup), service_offer))
        try:
            service = parse_answer(await self._service_answer)
        except SdpError as error:
            self._emit(ServiceAnswerRefused(str(error)))
            self.end(EndReason.SERVICE_REFUSED, str(error))
            return
        self._emit(PhaseChanged(Phase.CONNECTING))
        self._schedule_tick()
        connected = [
            asyncio.create_task(self._connect_downstream(agent, setup)),
            asyncio.create_task(self._connect_upstream(ice, service)),
        ]
        try:
            if not all(await asyncio.gather(*connected)):
                return
        finally:
            for task in connected:
                task.cancel()
            await asyncio.gather(*connected, return_exceptions=True)
        try:
            async with asyncio.timeout(limits.policy_seconds):
                await self._in_force.wait()
        except TimeoutError:
            self.end(EndReason.POLICY_UNCONFIRMED, "no session.created from the service")
            return
        self._emit(PhaseChanged(Phase.ACTIVE))
        await self._ended

    # --- descriptions ------------------------------------------------------------------------------------------------

    def _listen(self, offer: RemoteDescription) -> IceLiteAgent:
        ufrag, pwd = _credentials()
        agent = self._plane.endpoint.add_agent(ufrag, pwd, offer.ufrag, self._downstream.inlets)
        self._downstream.attach(agent.send, offer)
        self._events.fit_messages(client=self._downstream.largest_message)
        return agent

    def _answer(self, offer: RemoteDescription, agent: IceLiteAgent, setup: str) -> str:
        local = LocalTransport(
            agent.ufrag, agent.pwd, self._fingerprint, setup, self._downstream.stream.ssrc, secrets.randbits(62),
            addresses=self._plane.addresses, ice_lite=True,
        )  # fmt: skip
        return build_answer(offer, local)

    def _offer_service(self) -> tuple[UpstreamIce, str]:
        ufrag, pwd = _credentials()
        leg = self._upstream
        ice = UpstreamIce(
            ufrag, pwd, leg.inlets, leg.dropped, lambda: self.end(EndReason.SERVICE_LOST, "no consent from the service")
        )
        ssrc = self._upstream.stream.ssrc
        local = LocalTransport(ufrag, pwd, self._fingerprint, "actpass", ssrc, secrets.randbits(62))
        return ice, build_service_offer(local)

    # --- connecting --------------------------------------------------------------------------------------------------

    async def _connect_downstream(self, agent: IceLiteAgent, setup: str) -> bool:
        return await self._connect(self._downstream, agent.connected, _dtls_role(setup), None)

    async def _connect_upstream(self, ice: UpstreamIce, service: RemoteDescription) -> bool:
        if service.data is None:
            self.end(EndReason.SERVICE_REFUSED, "the service's answer has no data section")
            return False
        self._upstream.attach(ice.send, service)
        self._events.fit_messages(service=self._upstream.largest_message)
        label = _CHANNEL_LABELS[self._start.service_dialect]
        return await self._connect(
            self._upstream, lambda: ice.connect(service), _dtls_role(answer_setup(service.setup)), label
        )

    async def _connect(self, leg: Leg, ice: Callable[[], Awaitable[None]], role: str, label: str | None) -> bool:
        """Take a leg through its stages, each with a deadline of its own; False once the session is to end."""
        limits = self._start.limits
        if not await self._stage(leg, Stage.ICE, limits.ice_seconds, ice(), LegFault.UNREACHABLE):
            return False
        if not await self._stage(leg, Stage.DTLS, limits.dtls_seconds, leg.secure(role, label), LegFault.DTLS_FAILED):
            return False
        # Without a data section there is no channel to wait for: audio alone is a session too.
        return not leg.largest_message or await self._stage(
            leg, Stage.CHANNEL, limits.channel_seconds, leg.channel_opened(), LegFault.CHANNEL_TIMEOUT
        )

    async def _stage(self, leg: Leg, stage: Stage, seconds: float, step: Awaitable[object], fault: LegFault) -> bool:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                succeeded = await step is not False
            detail = f"{stage.value} failed"
        except TimeoutError:
            succeeded, detail = False, f"{stage.value} not done after {seconds:g} s"
        except OSError as error:
            succeeded, detail = False, f"{stage.value}: {error}"
        if succeeded:
            self._emit(StageDone(leg.name, stage, time.monotonic() - began))
        else:
            self.end(end_reason(leg.name, fault), detail)
        return succeeded

    # --- BridgeListener ----------------------------------------------------------------------------------------------

    def on_policy_in_force(self) -> None:
        """The gate is open: from here on media flows."""
        if not self._in_force.is_set():
            self._in_force.set()
            self._emit(StageDone(LegName.UPSTREAM, Stage.POLICY, self._age()))

    def on_policy_taken(self, revision: str) -> None:
        """Pass on that a replaced policy is in force."""
        self._emit(PolicyTaken(revision))

    def on_first_audio(self, leg: LegName) -> None:
        """The first packet of a leg went through, so long after the session began."""
        if leg not in self._heard:
            self._heard.add(leg)
            self._emit(StageDone(leg, Stage.FIRST_AUDIO, self._age()))

    def on_decided(self, decided: Decided) -> None:
        """Pass a decision on."""
        self._emit(decided)

    # --- keeping and ending ------------------------------------------------------------------------------------------

    def _schedule_tick(self) -> None:
        self._tick = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._on_tick)

    def _on_tick(self) -> None:
        now = time.monotonic()
        self._bridge.tick(now, time.time())
        match self._clock.tick(now, self._bridge.last_event):
            case TimeShort(reason, seconds_left):
                self._bridge.notify_ending(reason, seconds_left)
            case TimeUp(reason):
                self.end(reason)
        agent = self._agent
        if agent is not None and agent.last_check and now - agent.last_check > self._start.limits.consent_seconds:
            self.end(EndReason.CLIENT_LOST, "no checks from the client")
        self._schedule_tick()

    def _take_limits(self, limits: LimitRules) -> None:
        """From the next tick on; what they allow counts from the session's beginning."""
        self._clock.rules = limits
        self._bridge.limit_rate(limits.events_per_second)

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _close(self, reason: EndReason) -> None:
        """Tell the client why, then close both legs."""
        self._bridge.shut_gate()
        if self._bridge.notify_end(reason):
            await asyncio.sleep(_END_NOTICE_SECONDS)
        if self._tick is not None:
            self._tick.cancel()
        closing = [self._downstream.close(), self._upstream.close()]
        try:
            # A peer that does not take our goodbye is left without it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await asyncio.gather(*closing)
        finally:
            if self._agent is not None:
                self._plane.endpoint.remove_agent(self._agent)
            if self._upstream_ice is not None:
                await self._upstream_ice.close()
        self._emit(PhaseChanged(Phase.CLOSED))


class SessionHost:
    """Runs sessions in this process, each in a task of its own."""

    def __init__(self, plane: MediaPlane) -> None:
        self._plane = plane
        self._running: set[asyncio.Task[None]] = set()

    def start(self, start: SessionStart, emit: Callable[[Fact], None]) -> Session:
        """Begin a session; the last fact it emits is `Ended`."""
        session = Session(start, self._plane, emit)
        task = asyncio.create_task(session.run(), name=f"run {start.session_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return session


def _next_event_id() -> str:
    return f"event_{secrets.token_hex(10)}"


def _ssrc() -> int:
    return secrets.randbits(32) or 1


def _dtls_role(setup: str) -> str:
    return "server" if setup == "passive" else "client"


def _credentials() -> tuple[str, str]:
    return secrets.token_hex(_UFRAG_BYTES), secrets.token_hex(_PWD_BYTES)
