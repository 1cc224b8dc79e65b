"""One leg: a peer connection seen from the relay, composed of ICE, DTLS, SRTP and SCTP. No RTCPeerConnection.

What a session is made of lets go of its callbacks when it is closed. In circles it would wait for the garbage
collector, which holds up everybody's packets for as long as it looks at all sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from aiortc.rtcdtlstransport import RTCCertificate

from relay.core.events import MAX_SERVICE_EVENT_BYTES
from relay.core.lifecycle import LegCounters, LegName, SessionLimits
from relay.core.rtp import DropCause
from relay.core.sdp import RemoteDescription
from relay.core.sdp_build import MAX_MESSAGE_BYTES
from relay.rtc.dtls import DtlsSession
from relay.rtc.ice_lite import Inlets
from relay.rtc.packet import Datagram, SrtpContext, nowhere
from relay.rtc.rtp_stream import RtpStream
from relay.rtc.sctp import Association, ChannelCalls

# What a client may send is announced and refused above; an event of the service can be large (a retrieved item's audio)
# and is made fit for the client by the event filter.
_LARGEST_EVENT = {LegName.DOWNSTREAM: MAX_MESSAGE_BYTES + 65_536, LegName.UPSTREAM: MAX_SERVICE_EVENT_BYTES}


class LegFault(StrEnum):
    """How a leg fails or ends; with the leg's name it becomes the session's end reason."""

    LEFT = "left"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    DTLS_FAILED = "dtls_failed"
    CHANNEL_TIMEOUT = "channel_timeout"
    PROTOCOL_ERROR = "protocol_error"
    MESSAGE_TOO_LARGE = "message_too_large"
    TOO_SLOW = "too_slow"


class LegListener(Protocol):
    """What a leg tells its bridge; each is called synchronously."""

    def on_text(self, leg: LegName, text: str) -> None:
        """Take one text message of the event channel."""
        ...

    def on_binary(self, leg: LegName, size: int) -> None:
        """Hear of a binary message."""
        ...

    def on_fault(self, leg: LegName, fault: LegFault, detail: str) -> None:
        """Hear that the leg is of no more use."""
        ...


class Leg:
    """One leg. `inlets` is where its datagrams go in, `send_datagram` where they go out."""

    def __init__(
        self,
        name: LegName,
        ssrc: int,
        certificate: RTCCertificate,
        limits: SessionLimits,
        listener: LegListener,
    ) -> None:
        self.name = name
        self._listener = listener
        self._limits = limits
        self._send: Callable[[Datagram], bool] = nowhere
        self._remote: RemoteDescription | None = None
        self.dropped: Counter[DropCause] = Counter()
        self._dtls = DtlsSession(
            self.send_datagram, certificate, self.dropped, lambda: self._fault(LegFault.LEFT, "DTLS closed")
        )
        self._association: Association | None = None
        self._channel_open = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._closed = False
        self._channel_bytes_out = 0
        # Counted by whoever looks at the leg once a second.
        self.backpressure_seconds = self.one_way_seconds = 0
        self.fileno: Callable[[], int | None] = _none
        self.stream = RtpStream(ssrc, self.send_datagram, limits.packets_per_second, self.dropped)

    @property
    def inlets(self) -> Inlets:
        """Where its datagrams go in."""
        stream = self.stream
        return Inlets(stream.on_packet, self._dtls.feed, stream.on_rtp, stream.on_rtcp, stream.forwarder, self._route)

    def attach(
        self,
        send: Callable[[Datagram], bool],
        remote: RemoteDescription,
        fileno: Callable[[], int | None] | None = None,
    ) -> None:
        """Say how datagrams leave and whom they reach, once the peer's description is known.

        `fileno` tells which UDP socket they come in by now; None for another way.
        """
        self.fileno = fileno or _none
        self._route(send)
        self._remote = remote

    @property
    def largest_message(self) -> int:
        """The largest message in bytes that the peer takes; 0 without a data section (RFC 8841 section 6.1)."""
        if self._remote is None or self._remote.data is None:
            return 0
        return self._remote.data.max_message_bytes or 1 << 30

    def send_datagram(self, datagram: Datagram) -> bool:
        """Send one datagram on the leg's selected path."""
        return self._send(datagram)

    async def secure(self, role: str, label: str | None) -> bool:
        """Shake hands as DTLS `role`, then start media and the association; False if the handshake failed.

        With a `label` we open the event channel, else the peer does. The deadline is the caller's.
        """
        remote = self._remote
        if remote is None:
            return False
        payload_type = remote.audio.payload_type

        def on_keys(inbound: SrtpContext, outbound: SrtpContext) -> None:
            self.stream.start((inbound, outbound), payload_type)

        if not await self._dtls.handshake(role, remote.fingerprints, on_keys):
            return False
        if remote.data is not None:
            self._association = Association(self._dtls, self._calls(), _LARGEST_EVENT[self.name])
            await self._association.begin(remote.data, label)
        return True

    @property
    def can_send(self) -> bool:
        """Whether an event sent now goes out now."""
        return self._association is not None and self._association.is_open

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that wait for the peer."""
        association = self._association
        return association.buffered_bytes if association is not None and association.is_open else self._outbox_bytes

    def counters(self) -> LegCounters:
        """What was counted until now."""
        return replace(
            self.stream.snapshot(),
            channel_bytes_in=0 if self._association is None else self._association.text_bytes_in,
            channel_bytes_out=self._channel_bytes_out,
            backpressure_seconds=self.backpressure_seconds,
            one_way_seconds=self.one_way_seconds,
        )

    async def channel_opened(self) -> None:
        """Wait until the event channel is open; the deadline is the caller's."""
        await self._channel_open.wait()

    def send_text(self, text: str) -> bool:
        """Send one event, or keep it until the channel opens; False if the peer cannot take a message of this size.

        A peer that does not read, or a channel that does not open while events pile up, is a TOO_SLOW fault.
        """
        message = text.encode()
        size = len(message)
        if size > self.largest_message:
            return False
        association = self._association
        if self.waiting_bytes + size > self._limits.outbox_bytes:
            self._fault(LegFault.TOO_SLOW, "events pile up")
            return True
        self._channel_bytes_out += size
        if association is not None and association.is_open:
            association.send_text(message)
        else:
            self._outbox.append(message)
            self._outbox_bytes += size
        return True

    async def close(self) -> None:
        """Say goodbye on SCTP and DTLS, then stop reading; no callback comes after this."""
        self._closed = True
        try:
            if self._association is not None:
                await self._association.stop()
        finally:
            self._dtls.close()
            self._send = self.stream.send_datagram = nowhere
            self.fileno = _none

    def _route(self, send: Callable[[Datagram], bool]) -> None:
        if not self._closed:
            self._send = self.stream.send_datagram = self._dtls.send_datagram = send

    def _calls(self) -> ChannelCalls:
        return ChannelCalls(
            text=self._on_text,
            binary=self._on_binary,
            opened=self._on_channel_open,
            closed=lambda detail: self._fault(LegFault.LEFT, detail),
            fault=lambda fault, detail: self._fault(LegFault(fault.value), detail),
        )

    def _on_text(self, text: str) -> None:
        if not self._closed:
            self._listener.on_text(self.name, text)

    def _on_binary(self, size: int) -> None:
        if not self._closed:
            self._listener.on_binary(self.name, size)

    def _on_channel_open(self) -> None:
        self._channel_open.set()
        while self._outbox and self._association is not None:
            self._association.send_text(self._outbox.popleft())
        self._outbox_bytes = 0

    def _fault(self, fault: LegFault, detail: str) -> None:
        if not self._closed:
            self._listener.on_fault(self.name, fault, detail)


def _none() -> None:
    """No socket."""
