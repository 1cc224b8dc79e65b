"""The one buffer in which a media packet is received, unprotected, rewritten, protected and sent: no copy on its way.

The event loop has one thread and a packet's way is one call chain, so that one packet is under way at a time.
"""

from __future__ import annotations

import pylibsrtp
from pylibsrtp._binding import ffi, lib

# More than the largest datagram of use, so that a longer one is seen to be too long, and room for what protecting adds.
READ_BYTES = 2_048
_TRAILER_BYTES = 160

DATA = bytearray(READ_BYTES + _TRAILER_BYTES)
VIEW = memoryview(DATA)
_POINTER = ffi.from_buffer("char[]", DATA)
_SIZE = ffi.new("int *")
# srtp_err_status_replay_fail and srtp_err_status_replay_old of libsrtp 2 (srtp.h), as a refusal.
REPLAYED = frozenset({-9, -10})

# What a sender takes: bytes, or a piece of the buffer, which it must have copied before it returns.
Datagram = bytes | memoryview


def load(datagram: bytes) -> int:
    """Put a datagram into the buffer; its size in bytes."""
    size = len(datagram)
    DATA[:size] = datagram
    return size


class SrtpContext:
    """One direction of SRTP. Packets are changed in the buffer; pylibsrtp's own methods copy each three times.

    Sizes are in bytes; a negative one is libsrtp's refusal.
    """

    __slots__ = ("_context", "protect_rtcp", "session", "unprotect_rtcp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        self.protect_rtcp = session.protect_rtcp
        self.unprotect_rtcp = session.unprotect_rtcp
        self.session = session  # keeps the context alive
        self._context = session._srtp[0]  # noqa: SLF001 - private name: the context itself

    def unprotect(self, size: int) -> int:
        """Authenticate and decrypt the packet in the buffer; its new size."""
        _SIZE[0] = size
        status = lib.srtp_unprotect(self._context, _POINTER, _SIZE)
        return -status if status else int(_SIZE[0])

    def protect(self, size: int) -> int:
        """Encrypt the packet in the buffer; its new size."""
        _SIZE[0] = size
        status = lib.srtp_protect(self._context, _POINTER, _SIZE)
        return -status if status else int(_SIZE[0])
