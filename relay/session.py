"""One session: a client's side, the service's leg and the bridge, from its beginning to the end.

A session is started from one serialisable value (`SessionStart`) and afterwards exchanges only serialisable values:
facts up through `emit`, commands down through `command`. It knows nothing of doors, registry, telemetry or credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import weakref
from collections.abc import Callable
from typing import Any

from relay.core.event_filter import EventFilter
from relay.core.kept_errors import without_frames
from relay.core.lifecycle import (
    ClientOffered,
    Command,
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
    Reoffered,
    ReplaceLimits,
    ReplacePolicy,
    ServiceAnswered,
    ServiceAnswerRefused,
    SessionCounters,
    SessionStart,
    Stage,
    StageDone,
    ToldRefusal,
    TransportUsed,
)
from relay.core.policy_rules import LimitRules
from relay.core.sdp import RemoteDescription, SdpError, parse_answer
from relay.core.sdp_build import LocalTransport, answer_setup, build_service_offer
from relay.core.session_clock import SessionClock, TimeShort, TimeUp
from relay.errors import EndReason
from relay.rtc.bridge import Bridge, end_reason
from relay.rtc.client_peer import ClientPeer, new_ssrc
from relay.rtc.client_side import ClientSide
from relay.rtc.dtls import fingerprint_of
from relay.rtc.ice_lite import Credentials
from relay.rtc.leg import Leg
from relay.rtc.plane import MediaPlane
from relay.rtc.stages import Reach, StageError, connect, dtls_role
from relay.rtc.upstream_ice import UpstreamIce

__all__ = ["MediaPlane", "Session", "SessionHost"]

# Time for the client to read why its session ends, before its transport is closed.
_END_NOTICE_SECONDS = 0.1
_CLOSE_SECONDS = 2.0
# How long a client that was answered and is still connecting is waited for, to be told what the service did.
_ARRIVAL_SECONDS = 5.0
_CHANNEL_LABELS = {Dialect.GA: "oai-events", Dialect.PREVIEW: "realtime-channel"}


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
        self._refusal: ToldRefusal | None = None
        self._in_force = asyncio.Event()
        self._heard: set[LegName] = set()
        # What carries the client's leg and the service's, as told last.
        self._carried_by: tuple[str | None, str | None] = (None, None)
        self._tick_key: int | None = None
        # An end that was announced from outside, and when it comes in monotonic seconds.
        self._announced: tuple[EndReason, float] | None = None
        self._upstream_ice: UpstreamIce | None = None
        self._events = EventFilter(start, _next_event_id)
        # What a session has knows it weakly: it lives as long as `run`.
        self._bridge = Bridge(self._events, start.limits, weakref.proxy(self))
        self._clock = SessionClock(start.policy.limits, time.monotonic())
        self._take_limits(start.policy.limits)
        self._client = ClientSide(plane, start.limits, self._bridge, weakref.proxy(self), awaited=start.offer is None)
        self._certificate = plane.certificate.current()
        self._upstream = Leg(LegName.UPSTREAM, new_ssrc(), self._certificate, start.limits, weakref.proxy(self._bridge))

    def command(self, command: Command) -> None:
        """Take a command; one that comes too late is of no effect."""
        match command:
            case ServiceAnswered(answer):
                if not self._service_answer.done():
                    self._service_answer.set_result(answer)
            case EndSession(reason, detail, refusal):
                self._refusal = self._refusal if self._ended.done() else refusal
                self.end(reason, detail)
            case NoticeEnding(reason, seconds_left):
                self._announced = (reason, time.monotonic() + seconds_left)
                self._bridge.notify_ending(reason, seconds_left)
            case ClientOffered() | Reoffered():
                if not self._ended.done():
                    self._on_offer(command)
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
        """Live: negotiate, connect both legs, confirm the policy, carry until the first end reason, close.

        Where the client has not come yet, all this happens without it, and it takes its place whenever it does.
        """
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
                self._stop_ticking()
                self._emit(Ended(reason, detail, self._bridge.counters()))

    async def _live(self) -> None:
        try:
            peer = None if self._start.offer is None else self._client.open(self._start.offer)
        except SdpError as error:
            self._emit(OfferRefused(str(error)))
            self.end(EndReason.OFFER_REFUSED, str(error))
            return
        self._bridge.join(None if peer is None else peer.leg, self._upstream)
        ice, service_offer = self._offer_service()
        self._upstream_ice = ice
        self._emit(PhaseChanged(Phase.NEGOTIATING))
        self._emit(Negotiated(None if peer is None else peer.answer, service_offer))
        try:
            service = parse_answer(await self._service_answer)
        except SdpError as error:
            self._emit(ServiceAnswerRefused(str(error)))
            self.end(EndReason.SERVICE_REFUSED, str(error))
            return
        self._emit(PhaseChanged(Phase.CONNECTING))
        self._tick_key = self._plane.ticker.add(self._on_tick)
        if not await self._connected(peer, ice, service):
            return
        try:
            async with asyncio.timeout(self._start.limits.policy_seconds):
                await self._in_force.wait()
        except TimeoutError:
            self.end(EndReason.POLICY_UNCONFIRMED, "no session.created from the service")
            return
        self._client.may_return = True
        self._emit(PhaseChanged(Phase.WAITING if self._client.awaited else Phase.ACTIVE))
        # From here on the client may go and come back (ClientSide), until something ends the session.
        await self._ended

    # --- connecting --------------------------------------------------------------------------------------------------

    def _offer_service(self) -> tuple[UpstreamIce, str]:
        own = Credentials(remote_ufrag="")
        leg, session = self._upstream, weakref.proxy(self)
        ice = UpstreamIce(
            own.ufrag,
            own.pwd,
            leg.inlets,
            leg.dropped,
            lambda: session.end(EndReason.SERVICE_LOST, "no consent from the service"),
            egress=self._plane.egress,
        )
        fingerprint = fingerprint_of(self._certificate)
        local = LocalTransport(own.ufrag, own.pwd, fingerprint, "actpass", leg.stream.ssrc, secrets.randbits(62))
        return ice, build_service_offer(local)

    def _on_offer(self, offered: ClientOffered | Reoffered) -> None:
        if isinstance(offered, ClientOffered):
            self._began = asyncio.get_running_loop().time()
            self._events.adapt(webrtc_filter=offered.webrtc_filter)
        self._emit(self._client.reoffer(offered.number, offered.offer))

    async def _connected(self, peer: ClientPeer | None, ice: UpstreamIce, service: RemoteDescription) -> bool:
        """Take the legs there are through their stages at the same time; False once the session is to end."""
        if service.data is None:
            self.end(EndReason.SERVICE_REFUSED, "the service's answer has no data section")
            return False
        self._upstream.attach(ice.send, service, lambda: ice.fileno)
        self._events.adapt(service_bytes=self._upstream.largest_message)
        label = _CHANNEL_LABELS[self._start.service_dialect]
        reach = Reach(lambda: ice.connect(service), dtls_role(answer_setup(service.setup)), label)
        ways = [connect(self._upstream, reach, self._start.limits, self._stage_done)]
        if peer is not None:
            ways.append(peer.connect(self._stage_done))
        connecting = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.gather(*connecting)
        except StageError as error:
            self.end(end_reason(error.leg, error.fault), str(without_frames(error)))
            return False
        finally:
            for task in connecting:
                task.cancel()
            await asyncio.gather(*connecting, return_exceptions=True)
        return True

    def _stage_done(self, done: StageDone) -> None:
        self._emit(done)
        self._note_transports()

    def _note_transports(self) -> None:
        """Tell what carries each leg, when that is another than before."""
        upstream = None if self._upstream_ice is None else self._upstream_ice.transport
        now = (self._client.transport, upstream)
        if now == self._carried_by:
            return
        for leg, transport, before in zip(LegName, now, self._carried_by, strict=True):
            if transport is not None and transport != before:
                self._emit(TransportUsed(leg, str(transport)))
        self._carried_by = (now[0] or self._carried_by[0], now[1] or self._carried_by[1])

    # --- BridgeListener and ClientListener ---------------------------------------------------------------------------

    def on_policy_in_force(self) -> None:
        """The gate is open: from here on media flows."""
        if not self._in_force.is_set():
            self._in_force.set()
            self._emit(StageDone(LegName.UPSTREAM, Stage.POLICY, self._age()))

    def on_first_audio(self, leg: LegName) -> None:
        """The first packet of a leg went through, so long after the session began."""
        if leg not in self._heard:
            self._heard.add(leg)
            self._emit(StageDone(leg, Stage.FIRST_AUDIO, self._age()))

    def tell(self, fact: Fact) -> None:
        """Pass a fact on, of the client's side or of the bridge."""
        self._emit(fact)

    def on_client_came(self) -> None:
        """The first peer of a session that began without one: its time counts from now."""
        self._bridge.last_event = now = time.monotonic()
        self._clock.begin(now)
        if self._client.may_return:
            self._emit(PhaseChanged(Phase.ACTIVE))
        self.on_client_back()

    def on_client_back(self) -> None:
        """Another peer is there: what was announced to the one before, it was not told."""
        self._note_transports()
        self._clock.warn_again()
        if self._announced is not None:
            reason, at = self._announced
            self._bridge.notify_ending(reason, max(0, round(at - time.monotonic())))

    # --- keeping and ending ------------------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        now, unix = time.monotonic(), time.time()
        self._bridge.tick(now, unix)
        match None if self._client.awaited else self._clock.tick(now, self._bridge.last_event):
            case TimeShort(reason, seconds_left):
                self._bridge.notify_ending(reason, seconds_left)
            case TimeUp(reason):
                self.end(reason)
        self._client.tick(now, unix)
        self._note_transports()

    def _stop_ticking(self) -> None:
        if self._tick_key is not None:
            self._plane.ticker.remove(self._tick_key)

    def _take_limits(self, limits: LimitRules) -> None:
        """From the next tick on; what they allow counts from the session's beginning."""
        self._clock.rules = limits
        self._bridge.rates.limit(limits.events_per_second, time.monotonic())

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _close(self, reason: EndReason) -> None:
        """Tell the client why, then close both sides."""
        self._client.may_return = False
        self._bridge.media.finish()
        self._bridge.gate.shut()
        if self._client.awaited and reason.side == "service":
            await self._client.arrived(_ARRIVAL_SECONDS)
        if self._bridge.notify_end(reason, self._refusal):
            await asyncio.sleep(_END_NOTICE_SECONDS)
        self._stop_ticking()
        try:
            # A peer that does not take our goodbye is left without it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await asyncio.gather(self._client.close(), self._upstream.close())
        finally:
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

    def readiness(self) -> dict[str, str]:
        """Nothing: in this process a session can always be begun."""
        return {}


def _next_event_id() -> str:
    return f"event_{secrets.token_hex(10)}"
