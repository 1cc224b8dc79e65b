"""SCTP and data channels of a leg: messages in and out in one call; aiortc's association for all that is rare.

Setting up, closing, stream resets and DCEP are aiortc's, judged first. Data transfer is the core's inbox and outbox:
aiortc's takes a task for each message, a timer for each packet and a SACK for each chunk, keeps messages of any size,
ignores the peer's window and does not slow down when nothing arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    WEBRTC_BINARY,
    WEBRTC_BINARY_EMPTY,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    WEBRTC_STRING_EMPTY,
    Chunk,
    DataChunk,
    InitAckChunk,
    InitChunk,
    RTCSctpCapabilities,
    RTCSctpTransport,
    SackChunk,
)
from google_crc32c import value as crc32c

from relay.core.sctp_inbox import SACK_SECONDS, Inbox, Message, MessageTooLargeError
from relay.core.sctp_outbox import Outbox
from relay.core.sctp_packet import (
    COMMON_HEADER,
    LONGEST_SACK,
    MAX_PACKET,
    Data,
    PeerBrokeRuleError,
    Sack,
    fault_in_packet,
    sack_chunk,
    transfer_chunks,
)
from relay.core.sdp import DataMedia
from relay.rtc.dtls import DtlsSession

_LOG = logging.getLogger(__name__)
_DCEP_OPEN = 0x03
_DCEP_OPEN_HEADER = 12
# Channels a peer may hold open; one is of use, the others are being closed.
_MAX_CHANNELS = 16
# Source port, destination port, verification tag; the checksum in the byte order of CRC32c (RFC 9260 appendix A).
_ADDRESSES = Struct("!HHL")
_CHECKSUM = Struct("<L")
_NO_CHECKSUM = bytes(_CHECKSUM.size)
_TAG_AND_CHECKSUM = Struct("<4x4sL")
_EMPTY_MESSAGE = b"\0"
_ROOM_BESIDE_SACK = MAX_PACKET - COMMON_HEADER - LONGEST_SACK
_SHORTEST = COMMON_HEADER + 4


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
        super().__init__(dtls)  # type: ignore[arg-type]  # it has what the association asks of aiortc's
        self._dtls = dtls
        self._calls = calls
        self._clock = asyncio.get_running_loop().time
        # Private names: FORWARD-TSN is of no use to us; aiortc draws the first TSN and takes reset streams out.
        self._local_partial_reliability = False
        self._inbox = Inbox(reassembly_bytes)
        self._outbox = Outbox(self._local_tsn, self._outbound_stream_seq)
        self._repeat_alarm = _Alarm(self._on_timeout)
        self._sack_alarm = _Alarm(self._on_sack_time)
        self._sack_at = 0.0
        self._tag = self._local_verification_tag.to_bytes(4, "big")
        self._addresses = b""
        self._channel: RTCDataChannel | None = None
        self._stream: int | None = None
        self._is_open = False
        self.text_bytes_in = 0
        self._over = False
        self.on("datachannel", self._peer_opened)

    async def begin(self, data: DataMedia, label: str | None) -> None:
        """Start the association; with a label, open the event channel ourselves."""
        if label is not None:
            # Negotiated by DCEP as every client does it: ordered, reliable, no sub-protocol.
            self._channel = RTCDataChannel(self, RTCDataChannelParameters(label=label))
            self._channel.on("open", self._opened)
            self._channel.on("close", self._closed)
        await self.start(RTCSctpCapabilities(maxMessageSize=data.max_message_bytes), data.sctp_port)
        self._dtls.deliver_to(self.receive)

    @property
    def is_open(self) -> bool:
        """Whether text can be sent."""
        return self._is_open

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed over and not sent yet."""
        return self._outbox.waiting_bytes

    @property
    def incomplete_bytes(self) -> int:
        """Bytes kept of messages that are not whole yet."""
        return self._inbox.held_bytes

    def send_text(self, text: bytes) -> None:
        """Send one text message in UTF-8; call only while open, and with no more than the peer announced to take."""
        if self._is_open and self._stream is not None:
            protocol = WEBRTC_STRING if text else WEBRTC_STRING_EMPTY
            outbox, message = self._outbox, text or _EMPTY_MESSAGE
            alone = outbox.send_one(self._stream, protocol, message, self._clock())
            if not alone:
                outbox.push(self._stream, protocol, message)
                self._transmit_now()
                return
            self._write(self._with_sack(alone))
            self._set_repeat_alarm()

    def receive(self, packet: bytes) -> None:
        """Take one packet of the peer; whatever it makes us send or tell is sent and told on return."""
        if self._over or len(packet) < _SHORTEST:
            return
        try:
            self._read(packet)
            if not self._over:
                self._follow()
        except PeerBrokeRuleError as error:
            self._fault(ChannelFault.PROTOCOL_ERROR, str(error))
        except MessageTooLargeError as error:
            self._fault(ChannelFault.MESSAGE_TOO_LARGE, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a peer makes break must end its session, and tell
            _LOG.warning("association fault: %s", type(error).__name__)
            self._fault(ChannelFault.PROTOCOL_ERROR, f"malformed SCTP ({type(error).__name__})")

    # --- data transfer -----------------------------------------------------------------------------------------------

    def _read(self, packet: bytes) -> None:
        tag, checksum = _TAG_AND_CHECKSUM.unpack_from(packet)
        # Nearly every packet is DATA and SACK alone.
        transfer = transfer_chunks(packet) if tag == self._tag else None
        if transfer is None:
            self._receive_rare(packet)
        elif checksum == crc32c(packet[:8] + _NO_CHECKSUM + packet[COMMON_HEADER:]):
            sack, chunks = transfer
            if sack is not None:
                self._outbox.on_sack(sack, self._clock())
            for chunk in chunks:
                self._take(chunk)

    def _take(self, chunk: Data) -> None:
        for message in self._inbox.take(chunk):
            self._tell(message)

    def _tell(self, message: Message) -> None:
        stream, protocol, payload = message
        if protocol == WEBRTC_STRING and stream == self._stream:
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                raise PeerBrokeRuleError("text message is not UTF-8") from None
            self.text_bytes_in += len(payload)
            self._calls.text(text)
        elif protocol == WEBRTC_DCEP:
            if self._may_negotiate(stream, payload):
                _at_once(self._data_channel_receive(stream, protocol, payload))
        elif stream != self._stream:
            return
        elif protocol == WEBRTC_STRING_EMPTY:
            self._calls.text("")
        elif protocol in {WEBRTC_BINARY, WEBRTC_BINARY_EMPTY}:
            self._calls.binary(len(payload))

    def _follow(self) -> None:
        """Do what a packet has made possible or due."""
        inbox = self._inbox
        # Private names: a reset waits until all that was sent before it came (RFC 6525 section 5.2.2).
        if self._reconfig_deferred is not None:
            self._last_received_tsn = inbox.cumulative
            _at_once(self._reset_deferred_streams())
        due = inbox.packet_done()
        if self._outbox.has_work:
            self._transmit_now()
            due = due and inbox.owes_sack
        if due:
            self._write(sack_chunk(*inbox.sack()))
        elif inbox.owes_sack:
            self._sack_at = self._clock() + SACK_SECONDS
            self._sack_alarm.set(self._sack_at)

    def _transmit_now(self) -> None:
        outbox = self._outbox
        owed = b""
        if self._inbox.owes_sack and outbox.waiting_bytes:
            owed = sack_chunk(*self._inbox.sack())
        packets = outbox.packets(self._clock(), MAX_PACKET - COMMON_HEADER, owed)
        for body in packets:
            self._write(body)
        if owed and not packets:
            self._write(owed)
        self._set_repeat_alarm()

    def _with_sack(self, chunk: bytes) -> bytes:
        """A chunk, and before it what is not acknowledged yet if the packet has room for both."""
        if not self._inbox.owes_sack or len(chunk) > _ROOM_BESIDE_SACK:
            return chunk
        return sack_chunk(*self._inbox.sack()) + chunk

    def _set_repeat_alarm(self) -> None:
        if self._outbox.deadline is not None:
            self._repeat_alarm.set(self._outbox.deadline)

    def _on_timeout(self, now: float) -> float | None:
        deadline = self._outbox.deadline
        if deadline is None:
            return None
        if deadline > now:
            return deadline
        self._outbox.on_timeout(now)
        if self._outbox.failed:
            self._set_state(self.State.CLOSED)
            return None
        self._transmit_now()
        return self._outbox.deadline

    def _on_sack_time(self, now: float) -> float | None:
        if not self._inbox.owes_sack:
            return None
        if self._sack_at > now:
            return self._sack_at
        self._write(sack_chunk(*self._inbox.sack()))
        return None

    def _write(self, chunks: bytes, addresses: bytes | None = None) -> None:
        head = addresses or self._addresses
        checksum = crc32c(head + _NO_CHECKSUM + chunks)
        if not self._dtls.send(head + _CHECKSUM.pack(checksum) + chunks):
            self._closed_by("DTLS closed")

    # --- the event channel -------------------------------------------------------------------------------------------

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
        self._stream = None if self._channel is None else self._channel.id
        self._calls.opened()

    def _closed(self) -> None:
        self._closed_by("data channel closed")

    def _closed_by(self, detail: str) -> None:
        self._is_open = False
        self._calls.closed(detail)

    def _fault(self, fault: ChannelFault, detail: str) -> None:
        if not self._over:
            self._over = True
            self._calls.fault(fault, detail)

    def _may_negotiate(self, stream_id: int, data: bytes) -> bool:
        """Whether a DCEP message (RFC 8832) can be given to aiortc, which asserts where it should refuse."""
        if data[:1] != bytes([_DCEP_OPEN]):
            return stream_id in self._data_channels
        if stream_id in self._data_channels:
            raise PeerBrokeRuleError("second DCEP OPEN on an open stream")
        if len(data) < _DCEP_OPEN_HEADER:
            raise PeerBrokeRuleError("short DCEP OPEN")
        if len(self._data_channels) >= _MAX_CHANNELS:
            raise PeerBrokeRuleError("too many data channels")
        return True

    # --- names of aiortc that are not public: what is rare goes through it, and comes back through these -------------

    def _receive_rare(self, packet: bytes) -> None:
        """A packet with chunks that are not DATA or SACK alone, or without our tag."""
        if (detail := fault_in_packet(packet)) is not None:
            raise PeerBrokeRuleError(detail)
        self._last_received_tsn = self._inbox.cumulative
        _at_once(self._handle_data(packet))

    async def _receive_chunk(self, chunk: Chunk) -> None:
        state = self._association_state
        if isinstance(chunk, InitChunk) and (state is self.State.ESTABLISHED or self._inbox.has_received):
            return  # RFC 9260 section 5.2.2: one that comes late changes nothing, and aiortc would count from it again
        await super()._receive_chunk(chunk)
        if isinstance(chunk, InitChunk) or (isinstance(chunk, InitAckChunk) and state is self.State.COOKIE_WAIT):
            self._inbox.begin(chunk.initial_tsn)
            self._outbox.begin(chunk.advertised_rwnd)

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        self._take(Data(chunk.flags, chunk.tsn, chunk.stream_id, chunk.protocol, chunk.user_data))

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        self._outbox.on_sack(Sack(chunk.cumulative_tsn, chunk.advertised_rwnd, tuple(chunk.gaps)), self._clock())

    async def _send(
        self,
        stream_id: int,
        pp_id: int,
        user_data: bytes,
        expiry: float | None = None,
        max_retransmits: int | None = None,
        ordered: bool = True,  # noqa: FBT001, FBT002 - aiortc's signature
    ) -> None:
        # DCEP alone, which is ordered and reliable (RFC 8832 section 6); texts have their own way.
        del expiry, max_retransmits, ordered
        self._outbox.push(stream_id, pp_id, user_data)
        self._transmit_now()

    async def _transmit_reconfig(self) -> None:
        # Its request names the last TSN that was given out.
        self._local_tsn = self._outbox.next_tsn
        await super()._transmit_reconfig()

    async def _send_chunk(self, chunk: Chunk) -> None:
        local, remote = self._local_port, self._remote_port or 0
        if isinstance(chunk, InitChunk):
            # It goes to no association yet (RFC 9260 section 8.5.1), although we may know the peer's by now.
            self._write(bytes(chunk), _ADDRESSES.pack(local, remote, 0))
            return
        self._addresses = _ADDRESSES.pack(local, remote, self._remote_verification_tag)
        self._write(bytes(chunk))

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        super()._set_state(state)
        if state is self.State.CLOSED:
            self._over = True
            self._repeat_alarm.stop()
            self._sack_alarm.stop()
            self._closed_by("association closed")
            self._calls, self._channel = _UNHEARD, None
            self._data_channel_queue.clear()


class _Alarm:
    """A timer that is set for nearly every packet and seldom rings: one that is set for later is left until it rings.

    `ring` gets the time, which may be too early, and returns when to ring again, None for not at all.
    """

    __slots__ = ("_handle", "_ring")

    def __init__(self, ring: Callable[[float], float | None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at this time of the loop, or before."""
        handle = self._handle
        if handle is not None:
            if handle.when() <= at:
                return
            handle.cancel()
        self._handle = asyncio.get_running_loop().call_at(at, self._rings)

    def stop(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._ring = _silent

    def _rings(self) -> None:
        self._handle = None
        again = self._ring(asyncio.get_running_loop().time())
        if again is not None:
            self.set(again)


def _silent(_now: float) -> None:
    """Ring for nobody."""


def _unheard(*_told: object) -> None:
    """Tell nobody."""


_UNHEARD = ChannelCalls(text=_unheard, binary=_unheard, opened=_unheard, closed=_unheard, fault=_unheard)


def _at_once(step: Coroutine[object, object, None]) -> None:
    """Run a coroutine of aiortc's that has nothing to wait for: what it sends is sent synchronously."""
    try:
        step.send(None)
    except StopIteration:
        return
    step.close()
    raise RuntimeError("a coroutine of the association waits")
