"""RTP headers and reception statistics (RFC 3550), and the closed set of reasons for dropping a datagram."""

from __future__ import annotations

from enum import Enum, StrEnum
from struct import Struct, unpack_from

_read_numbers = Struct("!xBHII").unpack_from
_write_numbers = Struct("!BHII").pack_into

OPUS_CLOCK_RATE = 48_000
HEADER_LENGTH = 12
MAX_DATAGRAM = 1_500

_VERSION_MASK = 0xC0
_VERSION_2 = 0x80
_EXTENSION = 0x10
_CSRC_COUNT = 0x0F
_EXTENSION_OR_CSRC = _EXTENSION | _CSRC_COUNT
_NO_SSRC = -1
# More than may come out of order: SRTP takes none that is later.
_LATE_PACKETS = 1024


class DropCause(StrEnum):
    """Why a datagram was not sent on; the metric label `cause`."""

    EMPTY = "empty"
    OVERSIZED = "oversized"
    UNRECOGNISED = "unrecognised"
    STRANGER = "stranger"
    STUN_MALFORMED = "stun_malformed"
    STUN_UNKNOWN_SESSION = "stun_unknown_session"
    STUN_NOT_AUTHENTIC = "stun_not_authentic"
    STUN_REPLAYED = "stun_replayed"
    ADDRESS_LIMIT = "address_limit"
    ADDRESS_TAKEN = "address_taken"
    DTLS_REFUSED = "dtls_refused"
    DTLS_QUEUE_FULL = "dtls_queue_full"
    NOT_READY = "not_ready"
    MALFORMED = "malformed"
    SSRC = "ssrc"
    PAYLOAD_TYPE = "payload_type"
    RATE = "rate"
    REPLAY = "replay"
    NOT_AUTHENTIC = "not_authentic"
    GATE_CLOSED = "gate_closed"
    OTHER_LEG_NOT_READY = "other_leg_not_ready"
    SEND_FAILED = "send_failed"
    RTCP_MALFORMED = "rtcp_malformed"
    TCP_FRAMING = "tcp_framing"
    TCP_UNPROVEN = "tcp_unproven"
    TCP_LIMIT = "tcp_limit"
    TCP_STALLED = "tcp_stalled"
    TCP_ACCEPT = "tcp_accept"
    INTERNAL = "internal"


class DatagramKind(Enum):
    """What the first byte of a datagram says (RFC 7983 section 7)."""

    STUN = 0
    DTLS = 1
    RTP = 2
    RTCP = 3
    UNRECOGNISED = 4


# For every datagram: looking a member up in its class costs more than all the rest of telling them apart.
STUN, DTLS, RTP, RTCP = DatagramKind.STUN, DatagramKind.DTLS, DatagramKind.RTP, DatagramKind.RTCP


def _kind_of_first_byte(first: int) -> DatagramKind:
    if first <= 3:  # noqa: PLR2004 - the ranges are those of RFC 7983 section 7
        return DatagramKind.STUN
    if 20 <= first <= 63:  # noqa: PLR2004
        return DatagramKind.DTLS
    if 128 <= first <= 191:  # noqa: PLR2004
        return DatagramKind.RTP
    return DatagramKind.UNRECOGNISED


_KINDS = tuple(_kind_of_first_byte(first) for first in range(256))
# RFC 5761 section 4: with rtcp-mux the second byte of RTCP lies in 192..223.
RTCP_TYPES = frozenset(range(192, 224))


def classify(datagram: bytes | memoryview) -> DatagramKind:
    """Tell STUN, DTLS, RTP and RTCP apart by the first bytes of a non-empty datagram."""
    kind = _KINDS[datagram[0]]
    if kind is RTP and len(datagram) > 1 and datagram[1] in RTCP_TYPES:
        return RTCP
    return kind


def is_media(datagram: bytes | memoryview) -> bool:
    """Whether a datagram is RTP or RTCP, by its first byte."""
    return _KINDS[datagram[0]] is RTP


def is_rtp(buffer: bytes | bytearray, size: int) -> bool:
    """Whether the datagram of `size` bytes at the start of a buffer is RTP version 2 of usable length, and no RTCP."""
    return (
        HEADER_LENGTH <= size <= MAX_DATAGRAM
        and buffer[0] & _VERSION_MASK == _VERSION_2
        and buffer[1] not in RTCP_TYPES
    )


def strip_extension(buffer: bytearray, size: int) -> int:
    """Remove header extension and contributing sources of a packet in place: its new size, 0 if lengths do not add up.

    Extension ids differ from leg to leg and none is negotiated, so none is carried (RFC 8285 section 5).
    """
    first = buffer[0]
    at = HEADER_LENGTH + 4 * (first & _CSRC_COUNT)
    if first & _EXTENSION:
        if size < at + 4:
            return 0
        at += 4 + 4 * int(unpack_from("!H", buffer, at + 2)[0])
    if size < at:
        return 0
    left = HEADER_LENGTH + size - at
    buffer[HEADER_LENGTH:left] = buffer[at:size]
    buffer[0] = first & ~(_EXTENSION | _CSRC_COUNT)
    return left


class Rewriter:
    """Makes packets of changing sources one outgoing stream: own SSRC and payload type, continuous numbering.

    `ssrc` and `payload_type` are those of the outgoing leg; `newest_timestamp` is the furthest that was sent.
    """

    __slots__ = ("_floor", "_highest", "_sequence_offset", "_source", "_timestamp_offset", "newest_timestamp",
                 "payload_type", "ssrc")  # fmt: skip

    def __init__(self, ssrc: int, payload_type: int) -> None:
        self.ssrc = ssrc
        self.payload_type = payload_type
        self._source: int | None = None
        # Number of a new source's first packet, while older ones of it may still come late.
        self._floor: int | None = None
        self._sequence_offset = 0
        self._timestamp_offset = 0
        self._highest = 0
        self.newest_timestamp = 0

    def rewrite(self, buffer: bytearray, size: int) -> int:
        """Give the packet at the start of a buffer the outgoing stream's header.

        Returns its new size, 0 if it is malformed or its number was used.
        """
        if buffer[0] & _EXTENSION_OR_CSRC:
            size = strip_extension(buffer, size)
            if not size:
                return 0
        second, sequence, timestamp, source = _read_numbers(buffer)
        if source != self._source:
            self._change_source(source, sequence, timestamp)
        sequence = (sequence + self._sequence_offset) & 0xFFFF
        timestamp = (timestamp + self._timestamp_offset) & 0xFFFFFFFF
        if self._floor is not None and self._below_floor(sequence):
            return 0
        # Never back: a number used twice under one key would break SRTP.
        if (sequence - self._highest) & 0xFFFF < 0x8000:  # noqa: PLR2004 - half of the sequence number space
            self._highest = sequence
            self.newest_timestamp = timestamp
        _write_numbers(buffer, 1, (second & 0x80) | self.payload_type, sequence, timestamp, self.ssrc)
        return size

    def _below_floor(self, sequence: int) -> bool:
        # A packet sent before the first one that came has a number that the source before used.
        ahead = (sequence - (self._floor or 0)) & 0xFFFF
        if _LATE_PACKETS < ahead < 0x8000:  # noqa: PLR2004 - half of the sequence number space
            self._floor = None
        return ahead >= 0x8000  # noqa: PLR2004

    def expect_other_source(self) -> None:
        """Take the next packet as that of a new source, whatever its SSRC: its numbers begin anew."""
        if self._source is not None:
            self._source = _NO_SSRC

    def _change_source(self, source: int, sequence: int, timestamp: int) -> None:
        # A new source continues where the old one stopped, so that the receiver's jitter buffer sees one stream.
        if self._source is None:
            self._highest = sequence
        else:
            self._sequence_offset = self._highest + 1 - sequence
            self._floor = (self._highest + 1) & 0xFFFF
            self._timestamp_offset = self.newest_timestamp + OPUS_CLOCK_RATE // 50 - timestamp
        self._source = source


class Reception:
    """Counts one inbound source as RFC 3550 sections 6.4.1, A.1, A.3 and A.8 say.

    Arrival times are in seconds of any monotonic clock; jitter is kept in timestamp units.
    """

    __slots__ = (
        "_base",
        "_cycles",
        "_expected_prior",
        "_highest",
        "_jitter",
        "_received_prior",
        "_transit",
        "received",
    )

    def __init__(self) -> None:
        self.received = 0
        self._base = -1
        self._highest = 0
        self._cycles = 0
        self._transit: int | None = None
        self._jitter = 0.0
        self._expected_prior = 0
        self._received_prior = 0

    def on_packet(self, sequence: int, timestamp: int, arrival: float) -> None:
        """Count one authenticated packet."""
        self.received += 1
        if self._base < 0:
            self._base = self._highest = sequence
        else:
            highest = self._highest
            if 0 < (sequence - highest) & 0xFFFF < 0x8000:  # noqa: PLR2004 - half of the sequence number space
                if sequence < highest:
                    self._cycles += 1 << 16
                self._highest = sequence
        transit = (int(arrival * OPUS_CLOCK_RATE) - timestamp) & 0xFFFFFFFF
        before = self._transit
        if before is not None:
            delta = transit - before if transit > before else before - transit
            if delta < OPUS_CLOCK_RATE * 2:  # a restarted timestamp base is no jitter
                self._jitter += (delta - self._jitter) / 16
        self._transit = transit

    @property
    def expected(self) -> int:
        """Packets that should have come since the first."""
        return 0 if self._base < 0 else self._cycles + self._highest - self._base + 1

    @property
    def lost(self) -> int:
        """Packets missing since the first; never below zero."""
        return max(0, self.expected - self.received)

    @property
    def extended_highest(self) -> int:
        """Extended highest sequence number received (32 bits)."""
        return (self._cycles + self._highest) & 0xFFFFFFFF

    @property
    def jitter_units(self) -> int:
        """Interarrival jitter in timestamp units."""
        return int(self._jitter)

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / OPUS_CLOCK_RATE

    def take_fraction_lost(self) -> int:
        """Fraction lost since the last call, in 1/256 (RFC 3550 section A.3)."""
        expected, received = self.expected, self.received
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (received - self._received_prior)
        self._expected_prior, self._received_prior = expected, received
        if expected_interval <= 0 or lost_interval <= 0:
            return 0
        return min(255, (lost_interval << 8) // expected_interval)
