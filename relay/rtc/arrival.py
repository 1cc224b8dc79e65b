"""When the kernel took the datagram that was read from a socket last (Linux: SIOCGSTAMPNS)."""

from __future__ import annotations

import sys
import time
from struct import calcsize, unpack

# linux/sockios.h: struct timespec of the last datagram given to the program.
_SIOCGSTAMPNS = 0x8907
_TIMESPEC = "ll"

if sys.platform == "linux":
    from fcntl import ioctl

    def seconds_since_arrival(fileno: int) -> float | None:
        """How long ago the last datagram read from a UDP socket came in; None where that is not known.

        The first call on a socket has the kernel stamp what comes from then on; what came before counts from the call.
        """
        stamp = bytearray(calcsize(_TIMESPEC))
        try:
            ioctl(fileno, _SIOCGSTAMPNS, stamp)
        except OSError:
            return None
        seconds, nanoseconds = unpack(_TIMESPEC, stamp)
        return time.time() - seconds - nanoseconds / 1e9 if seconds else None

else:

    def seconds_since_arrival(fileno: int) -> float | None:
        """Not known here."""
        del fileno
        return None
