"""The client's side of a session: the peer in service, one that is about to take over, or nobody yet or for a while.

A client comes back in two ways, both with an offer to its running session: by an ICE restart of the peer connection it
has, or by a new one that takes over. Until the new one's channel is open the one before stays in service: whoever
cannot get through has lost nothing by trying.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from relay.core.lifecycle import (
    ClientGone,
    Disconnected,
    Fact,
    LegName,
    Phase,
    PhaseChanged,
    Reanswered,
    Reattached,
    ReattachFailed,
    Reconnected,
    ReofferRefused,
    SessionLimits,
    StageDone,
)
from relay.core.quota import TokenBucket
from relay.core.sdp import RemoteDescription, SdpError, parse_offer
from relay.errors import EndReason, ErrorCode
from relay.rtc.bridge import Bridge, end_reason
from relay.rtc.client_peer import ClientPeer, ReofferError, digest
from relay.rtc.leg import LegFault
from relay.rtc.plane import MediaPlane
from relay.rtc.stages import StageError

# Offers that one session answers: at once, and then one in so many seconds. Each new peer costs a DTLS handshake.
_OFFERS_AT_ONCE = 10
_SECONDS_PER_OFFER = 6
# Peer connections that were given up are known again, so that their owner is told.
_MOST_DEPARTED = 8
# The client went away or cannot be reached: it may come back. Whoever breaks the rules may not.
_MAY_RETURN = frozenset({LegFault.LEFT, LegFault.LOST})


class ClientListener(Protocol):
    """What the client's side tells its session."""

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session; the first reason wins."""
        ...

    def tell(self, fact: Fact) -> None:
        """Pass a fact on."""
        ...

    def on_client_came(self) -> None:
        """Hear that the first peer of a session that began without a client is there, and was told the session."""
        ...

    def on_client_back(self) -> None:
        """Hear that a peer took over which was told nothing yet but the session."""
        ...


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A peer that is connecting, since when, and the task that waits for it."""

    peer: ClientPeer
    began: float
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class _Gone:
    """Why the session ends at `until`, in monotonic seconds, if nobody comes."""

    reason: EndReason
    detail: str
    until: float


class ClientSide:
    """Follows one session's client. `may_return` is set while the session is active; otherwise leaving ends it.

    `awaited`: the session began without a client, and none is there yet; the first one has one try.
    """

    def __init__(
        self, plane: MediaPlane, limits: SessionLimits, bridge: Bridge, listener: ClientListener, *, awaited: bool
    ) -> None:
        self.may_return = False
        self.awaited = awaited
        self.peer: ClientPeer | None = None
        self._plane = plane
        self._limits = limits
        self._bridge = bridge
        self._listener = listener
        self._newcomer: _Newcomer | None = None
        self._gone: _Gone | None = None
        self._silent_since: float | None = None
        self._departed: deque[str] = deque(maxlen=_MOST_DEPARTED)
        self._offers = TokenBucket(1 / _SECONDS_PER_OFFER, _OFFERS_AT_ONCE, time.monotonic())
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, offer: str) -> ClientPeer:
        """The first peer, reachable from now on. Raises SdpError."""
        self.peer = ClientPeer(self._plane, self._limits, offer, parse_offer(offer), self)
        return self.peer

    @property
    def transport(self) -> str | None:
        """What carries the peer in service; None while there is none."""
        return None if self.peer is None else self.peer.transport

    def reoffer(self, number: int, offer: str) -> Reanswered | ReofferRefused:
        """Answer an offer to the running session: a retried one as before, an ICE restart, or a new peer."""
        try:
            return self._reoffer(number, offer)
        except ReofferError as refusal:
            return ReofferRefused(number, refusal.code, refusal.message, refusal.retry_seconds)

    def tick(self, now: float, unix: float) -> None:
        """Once a second: see whether the peer is still there, and whether one that is awaited came in time."""
        if self._newcomer is not None:
            self._newcomer.peer.leg.stream.tick(now, unix)
        gone = self._gone
        if gone is not None:
            # A newcomer that began in time has the time it needs; its stages have their own deadlines.
            if now >= gone.until and self._newcomer is None:
                self._listener.end(gone.reason, gone.detail)
        elif self.peer is not None and self.peer.agent.last_check:
            self._look_for_life(self.peer, now)

    async def arrived(self, seconds: float) -> None:
        """Wait so long for the one that is connecting, if there is one, to be there or to fail."""
        if self._newcomer is not None:
            await asyncio.wait({self._newcomer.task}, timeout=seconds)

    async def close(self) -> None:
        """Close every peer there is."""
        newcomer, self._newcomer = self._newcomer, None
        if newcomer is not None:
            newcomer.task.cancel()
            await asyncio.gather(newcomer.task, return_exceptions=True)
            self._retire(newcomer.peer)
        if self.peer is not None:
            self._retire(self.peer)
        await asyncio.gather(*self._closing)
        self.peer = None

    # --- PeerListener ------------------------------------------------------------------------------------------------

    def on_text(self, peer: ClientPeer, text: str) -> None:
        """Judge an event of the peer in service; a newcomer that speaks is there."""
        if self._newcomer is not None and peer is self._newcomer.peer:
            self._seat(self._newcomer)
        if peer is self.peer:
            self._bridge.on_text(LegName.DOWNSTREAM, text)

    def on_binary(self, peer: ClientPeer, size: int) -> None:
        """Judge a binary message of the peer in service."""
        if self._newcomer is not None and peer is self._newcomer.peer:
            self._seat(self._newcomer)
        if peer is self.peer:
            self._bridge.on_binary(LegName.DOWNSTREAM, size)

    def on_fault(self, peer: ClientPeer, fault: LegFault, detail: str) -> None:
        """The peer in service is lost or broke a rule, or a newcomer did not come up."""
        reason = end_reason(LegName.DOWNSTREAM, fault)
        if self._newcomer is not None and peer is self._newcomer.peer:
            self._newcomer.task.cancel()
            self._failed(self._newcomer, reason, detail)
        elif peer is not self.peer:
            return
        elif fault in _MAY_RETURN or (fault is LegFault.TOO_SLOW and self._silent_since is not None):
            self._leave(reason, detail)
        else:
            self._listener.end(reason, detail)

    # --- going -------------------------------------------------------------------------------------------------------

    def _look_for_life(self, peer: ClientPeer, now: float) -> None:
        last_sign = peer.last_sign(now)
        silent = now - last_sign
        if self._silent_since is not None and last_sign > self._silent_since:
            self._listener.tell(Reconnected(last_sign - self._silent_since))
            self._silent_since = None
        if silent > self._limits.consent_seconds:
            # RFC 7675 section 5.1: from here on nothing is sent, and these credentials serve no more.
            peer.agent.close()
            self._leave(EndReason.CLIENT_LOST, "no checks and no media from the client")
        elif silent > self._limits.disconnected_seconds and self._silent_since is None:
            self._silent_since = last_sign
            self._listener.tell(Disconnected(silent))

    def _leave(self, reason: EndReason, detail: str) -> None:
        """The peer in service is of no more use: the session waits for another, if it may."""
        seconds, peer = self._limits.reattach_seconds, self.peer
        if peer is None or not self.may_return or not seconds:
            self._listener.end(reason, detail)
            return
        self._bridge.replace_client(None)
        self._depart(peer)
        self.peer = self._silent_since = None
        self._gone = _Gone(reason, detail, time.monotonic() + seconds)
        self._listener.tell(PhaseChanged(Phase.WAITING))
        self._listener.tell(ClientGone(reason, detail, seconds))

    def _depart(self, peer: ClientPeer) -> None:
        if peer.origin:
            self._departed.append(peer.origin)
        self._retire(peer)

    def _retire(self, peer: ClientPeer) -> None:
        # Closing takes a while and is called for from within the peer's own callbacks.
        task = asyncio.create_task(peer.close(), name="close peer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # --- coming back -------------------------------------------------------------------------------------------------

    def _reoffer(self, number: int, offer: str) -> Reanswered:
        hashed, newcomer = digest(offer), self._newcomer
        peers = [each for each in (None if newcomer is None else newcomer.peer, self.peer) if each is not None]
        for peer in peers:
            if peer.offered(hashed):
                return Reanswered(number, peer.answer, restart=False)
        if not self._offers.take(time.monotonic()):
            raise ReofferError(ErrorCode.RATE_LIMIT_EXCEEDED, "Too many offers; try again later.", _SECONDS_PER_OFFER)
        try:
            remote = parse_offer(offer)
        except SdpError as error:
            raise ReofferError(ErrorCode.INVALID_OFFER, str(error)) from None
        for peer in peers:
            if remote.origin and remote.origin == peer.origin:
                peer.restart(offer, remote)
                return Reanswered(number, peer.answer, restart=True)
        return Reanswered(number, self._welcome(offer, remote).answer, restart=False)

    def _welcome(self, offer: str, remote: RemoteDescription) -> ClientPeer:
        """A new peer, in place of one that was still connecting."""
        if remote.origin in self._departed:
            raise ReofferError(ErrorCode.PEER_GONE, "This peer connection was given up; offer a new one.")
        # The first client has one try, whether the session began with it or before it: no limit of the policy counts
        # before it is there, so that one try after the other would keep a session for ever.
        not_yet = self._newcomer is not None if self.awaited else not self.may_return
        if not_yet:
            raise ReofferError(ErrorCode.SESSION_NOT_ACTIVE, "The session is not set up yet; try again.", 1)
        now = time.monotonic()
        if self._gone is not None and now >= self._gone.until:
            raise ReofferError(ErrorCode.NOT_FOUND, "There is no such call.")
        if self._newcomer is not None:
            self._newcomer.task.cancel()
            self._depart(self._newcomer.peer)
        peer = ClientPeer(self._plane, self._limits, offer, remote, self)
        self._newcomer = _Newcomer(peer, now, asyncio.create_task(self._come_in(peer), name="newcomer"))
        return peer

    async def _come_in(self, peer: ClientPeer) -> None:
        reason, detail = EndReason.RELAY_FAILED, ""
        try:
            # The stages of a re-attach are told as one, when it is done.
            await peer.connect(self._listener.tell if self.awaited else _untold)
        except StageError as error:
            reason, detail = end_reason(error.leg, error.fault), str(error)
        except Exception as error:  # noqa: BLE001 - whatever breaks here must not leave the session waiting for it
            detail = type(error).__name__
        newcomer = self._newcomer
        if newcomer is None or newcomer.peer is not peer:
            return  # it spoke before we looked, or another one came
        if detail:
            self._failed(newcomer, reason, detail)
        else:
            self._seat(newcomer)

    def _failed(self, newcomer: _Newcomer, reason: EndReason, detail: str) -> None:
        self._newcomer = None
        self._depart(newcomer.peer)
        if self.awaited:
            self._listener.end(reason, detail)
        else:
            self._listener.tell(ReattachFailed(reason, detail))

    def _seat(self, newcomer: _Newcomer) -> None:
        """The newcomer takes over, or is the first."""
        before, self.peer = self.peer, newcomer.peer
        first, self.awaited = self.awaited, False
        was_gone, self._gone = self._gone, None
        self._newcomer = self._silent_since = None
        self._bridge.replace_client(self.peer.leg)
        if first:
            self._listener.on_client_came()
            return
        if before is not None:
            self._depart(before)
        if was_gone is not None:
            self._listener.tell(PhaseChanged(Phase.ACTIVE))
        self._listener.tell(Reattached(time.monotonic() - newcomer.began))
        self._listener.on_client_back()


def _untold(stage: StageDone) -> None:
    del stage
