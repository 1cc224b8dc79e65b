"""The one buffer in which a media packet is received, unprotected, rewritten, protected and sent: no copy on its way.

The event loop has one thread and a packet's way is one call chain, so that one packet is under way at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pylibsrtp
from pylibsrtp._binding import ffi, lib

# More than the largest datagram of use, so that a longer one is seen to be too long, and room for what protecting adds.
READ_BYTES = 2_048
_TRAILER_BYTES = 160

DATA = bytearray(READ_BYTES + _TRAILER_BYTES)
VIEW = memoryview(DATA)
_POINTER = ffi.from_buffer("char[]", DATA)
# What libsrtp takes the size from, and puts the new one into.
SIZE = ffi.new("int *")
# srtp_err_status_replay_fail and srtp_err_status_replay_old of libsrtp 2 (srtp.h), as a refusal.
REPLAYED = frozenset({-9, -10})
# How the compiled forwarder calls libsrtp; libsrtp 3 takes other arguments.
_SIGNATURE = "srtp_err_status_t(*)(struct srtp_ctx_t_ *, void *, int *)"

# What a sender takes: bytes, or a piece of the buffer, which it must have copied before it returns.
Datagram = bytes | memoryview


def nowhere(datagram: Datagram) -> bool:
    """Where datagrams go that do not leave, not yet or not any more."""
    del datagram
    return False


def load(datagram: bytes) -> int:
    """Put a datagram into the buffer; its size in bytes."""
    size = len(datagram)
    DATA[:size] = datagram
    return size


class SrtpContext:
    """One direction of SRTP. Packets are changed in the buffer; pylibsrtp's own methods copy each three times.

    Sizes are in bytes; a negative one is libsrtp's refusal. `run_unprotect` and `run_protect` are the same without a
    call of ours between: they take the size from `SIZE`, leave the new one there and return libsrtp's status.
    """

    __slots__ = ("_context", "protect_rtcp", "run_protect", "run_unprotect", "session", "unprotect_rtcp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        self.protect_rtcp = session.protect_rtcp
        self.unprotect_rtcp = session.unprotect_rtcp
        self.session = session  # keeps the context alive
        self._context = session._srtp[0]  # noqa: SLF001 - private name: the context itself
        self.run_unprotect: Callable[[], int] = partial(lib.srtp_unprotect, self._context, _POINTER, SIZE)
        self.run_protect: Callable[[], int] = partial(lib.srtp_protect, self._context, _POINTER, SIZE)

    @property
    def address(self) -> int:
        """Where libsrtp's context is in memory, for the compiled forwarder."""
        return int(ffi.cast("uintptr_t", self._context))

    def unprotect(self, size: int) -> int:
        """Authenticate and decrypt the packet in the buffer; its new size."""
        SIZE[0] = size
        status = self.run_unprotect()
        return -status if status else int(SIZE[0])

    def protect(self, size: int) -> int:
        """Encrypt the packet in the buffer; its new size."""
        SIZE[0] = size
        status = self.run_protect()
        return -status if status else int(SIZE[0])


def srtp_functions() -> tuple[int, int]:
    """Where `srtp_unprotect` and `srtp_protect` are in memory: of the libsrtp that made the contexts.

    Raises ImportError where this libsrtp's take other arguments.
    """
    found = [ffi.addressof(lib, name) for name in ("srtp_unprotect", "srtp_protect")]
    for each in found:
        if ffi.typeof(each).cname != _SIGNATURE:
            raise ImportError(f"pylibsrtp has another libsrtp: {ffi.typeof(each).cname}")
    return int(ffi.cast("uintptr_t", found[0])), int(ffi.cast("uintptr_t", found[1]))
