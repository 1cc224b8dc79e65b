"""Judging an SCTP packet by its chunk structure before anybody interprets it (RFC 9260 section 3, RFC 6525).

An authenticated peer can still be hostile: a parameter without length, gap blocks that overlap, or hundreds of control
chunks in one packet cost a careless reader unbounded time, memory or answers.
"""

from __future__ import annotations

from struct import unpack_from

_COMMON_HEADER = 12
_CHUNK_HEADER = 4
_DATA = 0
_SACK = 3
_FORWARD_TSN = 192
# Where the parameters of a chunk begin, counted from the end of its header.
_PARAMETERS_AT = {1: 16, 2: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0}
_MAX_PARAMETERS = 16
_GAPS_COUNT_AT = 8
_GAPS_AT = 12


def fault_in_packet(data: bytes) -> str | None:
    """Say what makes a packet unacceptable; None if it may be read. Lengths are not judged: readers check those."""
    seen: set[int] = set()
    at = _COMMON_HEADER
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
