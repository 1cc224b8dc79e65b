"""SCTP packets: judged by their chunk structure before anybody interprets them, DATA and SACK read and written.

An authenticated peer can still be hostile: a parameter without length, gap blocks that overlap, or hundreds of control
chunks in one packet cost a careless reader unbounded time, memory or answers (RFC 9260 section 3, RFC 6525).
"""

from __future__ import annotations

from struct import Struct, unpack_from
from typing import NamedTuple

# The largest packet: in a DTLS record of the longest cipher (65 bytes more), a TURN channel (4), UDP and IPv6 (48) it
# passes a path of 1280 bytes, and no path of the Internet is narrower (RFC 8200 section 5).
MAX_PACKET = 1152
COMMON_HEADER = 12
_DATA_HEADER = 16
# The most user data of one chunk that shares its packet with nothing.
MAX_USER_DATA = MAX_PACKET - COMMON_HEADER - _DATA_HEADER

# The most that one SACK tells of gaps and of what came twice; the rest is told when the first are filled.
MOST_GAPS = 64
MOST_DUPLICATES = 16
LONGEST_SACK = 16 + 4 * (MOST_GAPS + MOST_DUPLICATES)

# Flags of a DATA chunk (RFC 9260 section 3.3.1): the message ends, begins, is unordered; wants its SACK now.
ENDS = 0x01
BEGINS = 0x02
WHOLE = ENDS | BEGINS
SACK_NOW = 0x08

TSNS = 1 << 32
_HALF = 1 << 31

_CHUNK_HEADER = 4
_DATA = 0
_SACK = 3
_FORWARD_TSN = 192
# Where the parameters of a chunk begin, counted from the end of its header.
_PARAMETERS_AT = {1: 16, 2: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0}
_MAX_PARAMETERS = 16
_GAPS_COUNT_AT = 8
_GAPS_AT = 12
_CHUNK = Struct("!BBH")
_DATA_CHUNK = Struct("!BBHLHHL")
_SACK_CHUNK = Struct("!BBHLLHH")
_SACK_BODY = Struct("!LLH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class PeerBrokeRuleError(Exception):
    """The peer sent what no honest one sends; the text is for the log and holds no content."""


class Data(NamedTuple):
    """A DATA chunk. Its stream sequence number is not read: see `relay.core.sctp_inbox`."""

    flags: int
    tsn: int
    stream: int
    protocol: int
    payload: bytes


class Sack(NamedTuple):
    """A SACK chunk: all up to `cumulative` came, and what `gaps` tell as first and last offsets from it, ascending."""

    cumulative: int
    window: int
    gaps: tuple[tuple[int, int], ...]


def follows(later: int, earlier: int) -> bool:
    """Whether a TSN comes after another one (RFC 1982 arithmetic, RFC 9260 section 1.6)."""
    return 0 < (later - earlier) % TSNS < _HALF


def transfer_chunks(packet: bytes) -> tuple[Sack | None, list[Data]] | None:
    """What a packet brings that holds DATA and at most one SACK; None if it has to be judged: `fault_in_packet`."""
    sack = None
    chunks = []
    at, size = COMMON_HEADER, len(packet)
    while at + _CHUNK_HEADER <= size:
        kind, flags, length = _CHUNK.unpack_from(packet, at)
        end = at + length
        if end > size:
            return None
        if kind == _DATA and length >= _DATA_HEADER:
            _, _, _, tsn, stream, _, protocol = _DATA_CHUNK.unpack_from(packet, at)
            chunks.append(Data(flags, tsn, stream, protocol, packet[at + _DATA_HEADER : end]))
        elif kind == _SACK and sack is None:
            if (sack := _sack_of(packet[at + _CHUNK_HEADER : end])) is None:
                return None
        else:
            return None
        at = end + (-length & 3)
    return sack, chunks


def _sack_of(body: bytes) -> Sack | None:
    """Read the body of a SACK chunk; None if its gap blocks cannot be."""
    if len(body) < _GAPS_AT:
        return None
    cumulative, window, count = _SACK_BODY.unpack_from(body)
    if not count:
        return Sack(cumulative, window, ())
    if not _are_gaps(body):
        return None
    end = _GAPS_AT + 4 * count
    return Sack(cumulative, window, tuple(unpack_from("!HH", body, at) for at in range(_GAPS_AT, end, 4)))


def data_chunk(chunk: Data, sequence: int) -> bytes:
    """Write a DATA chunk with its padding; `sequence` is its message's number in the stream."""
    length = _DATA_HEADER + len(chunk.payload)
    head = _DATA_CHUNK.pack(_DATA, chunk.flags, length, chunk.tsn, chunk.stream, sequence, chunk.protocol)
    return head + chunk.payload + _PADDING[length & 3]


def sack_chunk(sack: Sack, duplicates: list[int]) -> bytes:
    """Write a SACK chunk."""
    length = 16 + 4 * len(sack.gaps) + 4 * len(duplicates)
    head = _SACK_CHUNK.pack(_SACK, 0, length, sack.cumulative, sack.window, len(sack.gaps), len(duplicates))
    if length == 16:  # noqa: PLR2004 - nothing is missing, the usual case
        return head
    gaps = b"".join(first.to_bytes(2, "big") + last.to_bytes(2, "big") for first, last in sack.gaps)
    return head + gaps + b"".join(tsn.to_bytes(4, "big") for tsn in duplicates)


def fault_in_packet(data: bytes) -> str | None:
    """Say what makes a packet unacceptable; None if it may be read. Lengths are not judged: readers check those."""
    seen: set[int] = set()
    at = COMMON_HEADER
    while at + _CHUNK_HEADER <= len(data):
        kind, length = unpack_from("!BxH", data, at)
        end = at + length
        if length < _CHUNK_HEADER or end > len(data):
            return None
        if kind == _FORWARD_TSN:
            return "FORWARD-TSN without partial reliability"  # not announced, so not allowed (RFC 3758 section 3.3.1)
        if kind != _DATA and kind in seen:
            return "control chunk repeated in one packet"
        seen.add(kind)
        body = data[at + _CHUNK_HEADER : end]
        if kind in _PARAMETERS_AT and not _are_parameters(body[_PARAMETERS_AT[kind] :]):
            return "malformed chunk parameters"
        if kind == _SACK and not _are_gaps(body):
            return "gap blocks that overlap"
        at = end + (-length % 4)
    return None


def _are_parameters(body: bytes) -> bool:
    at = count = 0
    while at + 4 <= len(body):
        (length,) = unpack_from("!H", body, at + 2)
        count += 1
        if length < 4 or count > _MAX_PARAMETERS:  # noqa: PLR2004 - the parameter header of RFC 9260 section 3.2.1
            return False
        at += length + (-length % 4)
    return True


def _are_gaps(body: bytes) -> bool:
    """Whether gap blocks ascend and are disjoint (RFC 9260 section 3.3.4)."""
    if len(body) < _GAPS_AT:
        return False
    (count,) = unpack_from("!H", body, _GAPS_COUNT_AT)
    if _GAPS_AT + 4 * count > len(body):
        return False
    last = 0
    for at in range(_GAPS_AT, _GAPS_AT + 4 * count, 4):
        start, end = unpack_from("!HH", body, at)
        if not last < start <= end:
            return False
        last = end
    return True
