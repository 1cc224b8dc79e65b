"""One peer connection of a client: its ICE agent, its leg, and the offer and answer in force."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from relay.core.lifecycle import LegName, SessionLimits, StageDone
from relay.core.sdp import RemoteDescription
from relay.core.sdp_build import LocalTransport, answer_setup, build_answer
from relay.errors import ErrorCode
from relay.rtc.dtls import fingerprint_of
from relay.rtc.leg import Leg, LegFault
from relay.rtc.plane import MediaPlane
from relay.rtc.stages import Reach, connect, dtls_role

_CLOSE_SECONDS = 2.0


class ReofferError(Exception):
    """An offer to a running session that is not served; the message is public."""

    def __init__(self, code: ErrorCode, message: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_seconds = retry_seconds


class PeerListener(Protocol):
    """What a peer tells its session; each is called synchronously."""

    def on_text(self, peer: ClientPeer, text: str) -> None:
        """Take one text message of the event channel."""
        ...

    def on_binary(self, peer: ClientPeer, size: int) -> None:
        """Hear of a binary message."""
        ...

    def on_fault(self, peer: ClientPeer, fault: LegFault, detail: str) -> None:
        """Hear that the peer is of no more use."""
        ...


class ClientPeer:
    """One peer connection, answering from now on: `answer` is for the client; `connect` waits until it came."""

    def __init__(
        self, plane: MediaPlane, limits: SessionLimits, offer: str, remote: RemoteDescription, listener: PeerListener
    ) -> None:
        certificate = plane.certificate.current()
        self.leg = Leg(LegName.DOWNSTREAM, new_ssrc(), certificate, limits, weakref.proxy(self))
        self.agent = plane.endpoint.add_agent(self.leg.inlets, remote.ufrag)
        self.leg.attach(self.agent.send, remote, self._fileno)
        self._limits = limits
        self._listener = listener
        self._remote = remote
        own = self.agent.credentials
        self._local = LocalTransport(
            own.ufrag, own.pwd, fingerprint_of(certificate), answer_setup(remote.setup), self.leg.stream.ssrc,
            secrets.randbits(62), candidates=plane.candidates, ice_lite=True,
        )  # fmt: skip
        self._offer = digest(offer)
        self._packets = 0
        self._last_media = 0.0
        self.answer = build_answer(remote, self._local)

    @property
    def origin(self) -> str:
        """What all offers of this peer connection have in common."""
        return self._remote.origin

    @property
    def transport(self) -> str | None:
        """What carries it now; None before a path is proven."""
        path = self.agent.selected
        return None if path is None else path.transport

    def last_sign(self, now: float) -> float:
        """When the peer last proved to be there, as seen from one call to the next, in monotonic seconds.

        Media that authenticates counts as a check does: some stacks (Pion 3) send no checks while it flows.
        """
        packets = self.leg.stream.packets_in
        if packets != self._packets:
            self._packets, self._last_media = packets, now
        return max(self.agent.last_check, self._last_media)

    def offered(self, offer: bytes) -> bool:
        """Whether the answer in force is to this offer (its `digest`)."""
        return offer == self._offer

    def restart(self, offer: str, remote: RemoteDescription) -> None:
        """Restart ICE for another offer of the same peer connection; `answer` is then the new one. Raises ReofferError.

        DTLS, SRTP and SCTP live on, so that all they depend on must be as it was (RFC 8445 section 9, RFC 8842
        section 5.5).
        """
        if refusal := self._unlike(remote):
            raise ReofferError(ErrorCode.INVALID_OFFER, refusal)
        own = self.agent.restart(remote.ufrag)
        self._remote = remote
        self._local = replace(self._local, ufrag=own.ufrag, pwd=own.pwd, version=self._local.version + 1)
        self._offer = digest(offer)
        self.answer = build_answer(remote, self._local)

    async def connect(self, done: Callable[[StageDone], None]) -> None:
        """Wait for ICE, DTLS and the channel. Raises StageError."""
        await connect(self.leg, Reach(self.agent.connected, dtls_role(self._local.setup)), self._limits, done)

    async def close(self) -> None:
        """Say goodbye and stop; a peer that does not take our goodbye is left without it."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self.leg.close()
        finally:
            self.agent.close()

    def _fileno(self) -> int | None:
        path = self.agent.selected
        return None if path is None else path.fileno

    def _unlike(self, remote: RemoteDescription) -> str | None:
        """Why an offer does not just restart ICE."""
        before = self._remote
        if remote.ufrag == before.ufrag or remote.pwd == before.pwd:
            return (
                "Only ICE restarts (a new ice-ufrag and ice-pwd) and new peer connections are served here; "
                "this offer is neither."
            )
        if set(remote.fingerprints) != set(before.fingerprints):
            return "An ICE restart must keep the fingerprint of its peer connection."
        if answer_setup(remote.setup) != self._local.setup:
            return "An ICE restart must keep the DTLS role of its peer connection."
        if _shape(remote) != _shape(before):
            return "An ICE restart must keep the media sections and the codec of its peer connection."
        return None

    # --- LegListener -------------------------------------------------------------------------------------------------

    def on_text(self, leg: LegName, text: str) -> None:
        """Pass a message on as this peer's."""
        del leg
        self._listener.on_text(self, text)

    def on_binary(self, leg: LegName, size: int) -> None:
        """Pass it on as this peer's."""
        del leg
        self._listener.on_binary(self, size)

    def on_fault(self, leg: LegName, fault: LegFault, detail: str) -> None:
        """Pass it on as this peer's."""
        del leg
        self._listener.on_fault(self, fault, detail)


def digest(offer: str) -> bytes:
    """What is kept of an offer to know it again."""
    return hashlib.sha256(offer.encode(errors="surrogatepass")).digest()


def new_ssrc() -> int:
    """An SSRC of our own."""
    return secrets.randbits(32) or 1


def _shape(remote: RemoteDescription) -> tuple[Any, ...]:
    data = None if remote.data is None else (remote.data.mid, remote.data.sctp_port)
    sections = [(each.kind, each.mid, each.rejected) for each in remote.sections]
    return remote.audio.mid, remote.audio.payload_type, data, sections
