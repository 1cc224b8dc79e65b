"""SRTP of the load: packets are built, encrypted and decrypted in one buffer; pylibsrtp's methods copy each thrice."""

from __future__ import annotations

from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

_BYTES = 2_048

BUFFER = bytearray(_BYTES)
VIEW = memoryview(BUFFER)
_POINTER = ffi.from_buffer("char[]", BUFFER)
_SIZE = ffi.new("int *")


class Context:
    """One direction of one call."""

    def __init__(self, session: pylibsrtp.Session) -> None:
        self._session = session  # keeps the context alive
        self._context: Any = session._srtp[0]  # private name: the context itself

    def protect(self, size: int) -> memoryview:
        """Encrypt the packet of `size` bytes in the buffer."""
        _SIZE[0] = size
        if status := lib.srtp_protect(self._context, _POINTER, _SIZE):
            raise ConnectionError(f"a packet could not be protected: {status}")
        return VIEW[: _SIZE[0]]

    def unprotect(self, size: int) -> int:
        """Decrypt the packet of `size` bytes in the buffer; its new size, 0 if it is not one of this call's."""
        _SIZE[0] = size
        return 0 if lib.srtp_unprotect(self._context, _POINTER, _SIZE) else int(_SIZE[0])
