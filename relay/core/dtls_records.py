"""Cutting a datagram into its DTLS records, and filling datagrams with them (RFC 6347 section 4.1)."""

from __future__ import annotations

_HEADER = 13
_LENGTH_AT = 11


def records(datagram: bytes) -> list[bytes]:
    """The records of a datagram, in order; what is left after the last whole one is dropped."""
    size = len(datagram)
    if size > _HEADER and _HEADER + (datagram[_LENGTH_AT] << 8 | datagram[_LENGTH_AT + 1]) == size:
        return [datagram]
    found = []
    at = 0
    while at + _HEADER <= size:
        end = at + _HEADER + (datagram[at + _LENGTH_AT] << 8 | datagram[at + _LENGTH_AT + 1])
        if end > size:
            break
        found.append(datagram[at:end])
        at = end
    return found


def packed(parts: list[bytes], most: int) -> list[bytes]:
    """Datagrams of at most `most` bytes that hold these records in order; a larger record is alone in its own."""
    datagrams: list[bytes] = []
    for part in parts:
        if datagrams and len(datagrams[-1]) + len(part) <= most:
            datagrams[-1] += part
        else:
            datagrams.append(part)
    return datagrams
