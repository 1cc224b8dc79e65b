"""SCTP and data channels of a leg: aiortc's association with bounds, and text handed on in the call that completes it.

aiortc's own handling ends the whole peer on invalid UTF-8 or a second DCEP OPEN, keeps messages of any size, and takes
super-linear time to put fragments together. Here each of these is a fault that ends one session in an orderly way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    SCTP_DATA_LAST_FRAG,
    WEBRTC_BINARY,
    WEBRTC_BINARY_EMPTY,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    WEBRTC_STRING_EMPTY,
    Chunk,
    DataChunk,
    InboundStream,
    RTCSctpCapabilities,
    RTCSctpTransport,
    SackChunk,
)

from relay.core.sctp_packet import fault_in_packet
from relay.core.sdp import DataMedia
from relay.rtc.dtls import DtlsSession

_LOG = logging.getLogger(__name__)
_DCEP_OPEN = 0x03
_DCEP_OPEN_HEADER = 12
# Fragments of fewer bytes than this, on average, nobody sends who means well: a path of 1280 bytes carries 1100.
_SMALLEST_AVERAGE_FRAGMENT = 800
# Channels and streams a peer may hold open; one channel is of use, the others are being closed.
_MAX_CHANNELS = 16
_MAX_STREAMS = 16


class ChannelFault(StrEnum):
    """What a peer did wrong on its association."""

    PROTOCOL_ERROR = "protocol_error"
    MESSAGE_TOO_LARGE = "message_too_large"


@dataclass(frozen=True, slots=True)
class ChannelCalls:
    """What an association calls, synchronously.

    `text` takes each text message, `binary` the size of each binary one; `opened` and `closed` tell of the event
    channel, `fault` of a peer that broke a rule. Details are for the log and hold no content.
    """

    text: Callable[[str], None]
    binary: Callable[[int], None]
    opened: Callable[[], None]
    closed: Callable[[str], None]
    fault: Callable[[ChannelFault, str], None]


class Association(RTCSctpTransport):
    """One SCTP association with one event channel; the first channel the peer opens, or the one we open.

    A peer that sends a message above `reassembly_bytes`, whatever was announced to it, is a MESSAGE_TOO_LARGE fault.
    """

    def __init__(self, dtls: DtlsSession, calls: ChannelCalls, reassembly_bytes: int) -> None:
        super().__init__(dtls)
        self._calls = calls
        self._reassembly_bytes = reassembly_bytes
        self._most_chunks = reassembly_bytes // _SMALLEST_AVERAGE_FRAGMENT
        # Private names: the receive window before anything was received; and FORWARD-TSN is of no use to us.
        self._window = self._advertised_rwnd
        self._local_partial_reliability = False
        self._channel: RTCDataChannel | None = None
        self._is_open = False
        self._faulted = False
        self.on("datachannel", self._peer_opened)

    async def begin(self, data: DataMedia, label: str | None) -> None:
        """Start the association; with a label, open the event channel ourselves."""
        if label is not None:
            # Negotiated by DCEP as every client does it: ordered, reliable, no sub-protocol.
            self._channel = RTCDataChannel(self, RTCDataChannelParameters(label=label))
            self._channel.on("open", self._opened)
            self._channel.on("close", self._closed)
        await self.start(RTCSctpCapabilities(maxMessageSize=data.max_message_bytes), data.sctp_port)

    @property
    def is_open(self) -> bool:
        """Whether text can be sent."""
        return self._is_open

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed over and not yet taken by SCTP."""
        return 0 if self._channel is None else int(self._channel.bufferedAmount)

    def send_text(self, text: str) -> None:
        """Send one text message; call only while open, and with no more than the peer announced to take."""
        if self._channel is not None and self._is_open:
            self._channel.send(text)

    def _peer_opened(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            # One event channel a session; what arrives on others is never read.
            channel.close()
            return
        self._channel = channel
        channel.on("close", self._closed)
        self._opened()

    def _opened(self) -> None:
        self._is_open = True
        self._calls.opened()

    def _closed(self) -> None:
        self._closed_by("data channel closed")

    def _closed_by(self, detail: str) -> None:
        self._is_open = False
        self._calls.closed(detail)

    def _fault(self, fault: ChannelFault, detail: str) -> None:
        if not self._faulted:
            self._faulted = True
            self._calls.fault(fault, detail)

    # --- names of aiortc that are not public: each is where the peer's input must be judged -------------------------

    async def _handle_data(self, data: bytes) -> None:
        # An exception here would end aiortc's receive task while the peer still believes to be connected.
        if self._faulted:
            return
        if (detail := fault_in_packet(data)) is not None:
            self._fault(ChannelFault.PROTOCOL_ERROR, detail)
            return
        try:
            await super()._handle_data(data)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001
            _LOG.warning("association fault: %s", type(error).__name__)
            self._fault(ChannelFault.PROTOCOL_ERROR, f"malformed SCTP ({type(error).__name__})")

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        # Judged before a fragment is kept: at the message callback it would be too late.
        held = sum(len(stream.reassembly) for stream in self._inbound_streams.values())
        if not chunk.user_data:
            self._fault(ChannelFault.PROTOCOL_ERROR, "DATA without data")  # RFC 9260 section 6.2
        elif chunk.stream_id not in self._inbound_streams and len(self._inbound_streams) >= _MAX_STREAMS:
            self._fault(ChannelFault.PROTOCOL_ERROR, "too many streams")
        elif held >= self._most_chunks or len(self._sack_misordered) >= self._most_chunks:
            self._fault(ChannelFault.MESSAGE_TOO_LARGE, "too many fragments wait for their message")
        elif self._window - self._advertised_rwnd + len(chunk.user_data) > self._reassembly_bytes:
            self._fault(ChannelFault.MESSAGE_TOO_LARGE, "message above the announced limit")
        else:
            await super()._receive_data_chunk(chunk)

    def _get_inbound_stream(self, stream_id: int) -> InboundStream:
        return self._inbound_streams.setdefault(stream_id, _Stream())

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        # aiortc walks every number of every gap: none may lie beyond what was sent.
        outstanding = (self._local_tsn - 1 - chunk.cumulative_tsn) % (1 << 32)
        if outstanding >= 1 << 31 or (chunk.gaps and chunk.gaps[-1][1] > outstanding):
            self._fault(ChannelFault.PROTOCOL_ERROR, "SACK of what was never sent")
            return
        await super()._receive_sack_chunk(chunk)

    async def _send_chunk(self, chunk: Chunk) -> None:
        # Called from timers and tasks of aiortc that would let the exception go unheard.
        try:
            await super()._send_chunk(chunk)
        except ConnectionError:
            self._closed_by("DTLS closed")

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        if pp_id == WEBRTC_DCEP:
            if self._may_negotiate(stream_id, data):
                await super()._data_channel_receive(stream_id, pp_id, data)
            return
        if self._channel is None or stream_id != self._channel.id:
            return
        if pp_id == WEBRTC_STRING:
            try:
                text = data.decode("utf-8", "strict")
            except UnicodeDecodeError:
                self._fault(ChannelFault.PROTOCOL_ERROR, "text message is not UTF-8")
                return
            self._calls.text(text)
        elif pp_id == WEBRTC_STRING_EMPTY:
            self._calls.text("")
        elif pp_id in {WEBRTC_BINARY, WEBRTC_BINARY_EMPTY}:
            self._calls.binary(len(data))

    def _may_negotiate(self, stream_id: int, data: bytes) -> bool:
        """Whether a DCEP message (RFC 8832) can be given to aiortc, which asserts where it should refuse."""
        if data[:1] != bytes([_DCEP_OPEN]):
            return stream_id in self._data_channels
        if stream_id in self._data_channels:
            self._fault(ChannelFault.PROTOCOL_ERROR, "second DCEP OPEN on an open stream")
        elif len(data) < _DCEP_OPEN_HEADER:
            self._fault(ChannelFault.PROTOCOL_ERROR, "short DCEP OPEN")
        elif len(self._data_channels) >= _MAX_CHANNELS:
            self._fault(ChannelFault.PROTOCOL_ERROR, "too many data channels")
        return not self._faulted

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        super()._set_state(state)
        if state is self.State.CLOSED:
            self._closed_by("association closed")


class _Stream(InboundStream):
    """aiortc's reassembly, which looks through all fragments for each one that comes, unless none can be complete."""

    _may_complete = True

    def add_chunk(self, chunk: DataChunk) -> None:
        """Keep a fragment; one that only prolongs a message cannot complete any."""
        prolongs = not self.reassembly or chunk.tsn == (self.reassembly[-1].tsn + 1) % (1 << 32)
        self._may_complete = bool(chunk.flags & SCTP_DATA_LAST_FRAG) or not prolongs
        super().add_chunk(chunk)

    def pop_messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Each message that is complete now."""
        return super().pop_messages() if self._may_complete else iter(())
