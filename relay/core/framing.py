"""Datagrams over a byte stream: a 16-bit length before each (RFC 4571 section 2, used by ICE-TCP, RFC 6544). No I/O."""

from __future__ import annotations

from relay.core.rtp import MAX_DATAGRAM

_LENGTH_BYTES = 2


class FramingError(Exception):
    """The stream cannot be followed any more: what comes after a bad length is not a frame."""


class Deframer:
    """Cuts a stream into datagrams of 1 to MAX_DATAGRAM bytes; keeps less than one frame between two calls."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def rest(self) -> bytes:
        """What was taken and is no whole frame yet."""
        return self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read, give the datagrams that are complete now.

        Raises FramingError for a length of 0 or above MAX_DATAGRAM, as soon as the length is read: the stream is then
        of no more use. (RFC 4571 knows a null packet; no ICE agent sends it, and a flood of it would pass every bound.)
        """
        if self._rest:
            data = self._rest + data
        datagrams: list[bytes] = []
        at, size = 0, len(data)
        while size - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            end = start + (data[at] << 8 | data[at + 1])
            if not start < end <= start + MAX_DATAGRAM:
                raise FramingError(f"a frame of {end - start} bytes")
            if end > size:
                break
            datagrams.append(data[start:end])
            at = end
        self._rest = data[at:]
        return datagrams


def frame(datagram: bytes | memoryview) -> bytes:
    """Put the length before a datagram. Raises FramingError if the other end would have to refuse it."""
    if not 0 < len(datagram) <= MAX_DATAGRAM:
        raise FramingError(f"a datagram of {len(datagram)} bytes")
    return len(datagram).to_bytes(_LENGTH_BYTES, "big") + datagram
