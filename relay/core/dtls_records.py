"""Cutting a datagram into its DTLS records (RFC 6347 section 4.1)."""

from __future__ import annotations

from struct import unpack_from

_HEADER = 13
_LENGTH_AT = 11


def records(datagram: bytes) -> list[bytes]:
    """The records of a datagram, in order; what is left after the last whole one is dropped."""
    found = []
    at = 0
    while at + _HEADER <= len(datagram):
        end = at + _HEADER + int(unpack_from("!H", datagram, at + _LENGTH_AT)[0])
        if end > len(datagram):
            break
        found.append(datagram[at:end])
        at = end
    return found
