"""One TCP connection that carries datagrams in frames (RFC 4571), read in the event loop's own callback.

A socket and no asyncio transport: as cheap as a buffered protocol, at two thirds of a plain one's cost a packet, and
both what is read at a time and what waits to be written have exact bounds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable

from relay.core.framing import Deframer, FramingError, frame
from relay.core.rtp import MAX_DATAGRAM, DropCause, is_media
from relay.core.stun import Address
from relay.rtc.endpoint import Endpoint
from relay.rtc.packet import Datagram
from relay.rtc.path import Path, Transport

_LOG = logging.getLogger(__name__)
# What one connection may read before others are served: it could be full of the smallest frames.
_READ_BYTES = 4_096
# What may wait to be written: media about a second's worth, for old sound is worth nothing; events more.
WAITING_BYTES = 65_536
MEDIA_WAITING_BYTES = 8_192
# What waits and is not written within this time will not be.
STALLED_SECONDS = 10.0
# A client proves a connection with its first frame, or with its second after an error answer.
UNPROVEN_FRAMES = 8
# struct linger { int l_onoff; int l_linger; }: on, zero seconds.
_NO_LINGER = struct.pack("ii", 1, 0)
_LOGGED_FAILURES = 10


# Who takes a connection over: the socket, its peer, and what was read of it and not yet judged.
Heir = Callable[[socket.socket, Address, bytes], None]


class TcpConnection:
    """One accepted connection and the path it is.

    `on_proven` and `on_closed` are called at most once each: when an agent first takes the path, and at the end.
    """

    def __init__(
        self,
        accepted: socket.socket,
        address: Address,
        endpoint: Endpoint,
        on_proven: Callable[[TcpConnection], None],
        on_closed: Callable[[TcpConnection], None],
    ) -> None:
        self._socket = accepted
        self._endpoint = endpoint
        self._on_proven = on_proven
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._deframer = Deframer()
        self._proven = False
        self._unproven_frames = 0
        self._waiting = bytearray()
        self._written = 0
        self._stall_check: asyncio.TimerHandle | None = None
        self._closed = False
        self._heir: Heir | None = None
        self.path = Path(Transport.TCP, address, self.send, self._owned, lambda _: self.close())
        self._loop.add_reader(accepted.fileno(), self._readable)

    def send(self, datagram: Datagram) -> bool:
        """Send one datagram, or keep it while the peer is slow; False if too much waits or it is too long."""
        if self._closed or not 0 < len(datagram) <= MAX_DATAGRAM:
            return False
        framed = frame(datagram)
        if self._waiting:
            if len(self._waiting) + len(framed) > (MEDIA_WAITING_BYTES if is_media(datagram) else WAITING_BYTES):
                return False
            self._waiting += framed
            return True
        try:
            sent = self._socket.send(framed)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            # Not closed here, for the caller is in the midst of using the path: the reader meets the same error next.
            return False
        if sent < len(framed):
            self._waiting += framed[sent:]
            self._loop.add_writer(self._socket.fileno(), self._writable)
            self._expect_progress()
        return True

    def close(self) -> None:
        """End the connection; the path falls away from whoever owns it."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        if self._stall_check is not None:
            self._stall_check.cancel()
        self._waiting.clear()
        self._socket.close()
        self._endpoint.lost(self.path)
        self._on_closed(self)

    def hand_over(self, heir: Heir) -> bool:
        """While a frame is being judged: let another process have the connection, that frame and what follows it.

        False if that cannot be, because something was sent to the peer that still waits here.
        """
        if self._closed or self._waiting:
            return False
        self._heir = heir
        return True

    def abort(self, cause: DropCause) -> None:
        """Count why and end the connection with a reset: nothing is left in the kernel for who earned nothing."""
        if self._closed:
            return
        self._endpoint.drop(cause)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close()

    def _owned(self, path: Path) -> None:
        del path
        if not self._proven:
            self._proven = True
            self._on_proven(self)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Take what was read from the connection."""
        try:
            datagrams = self._deframer.feed(data)
        except FramingError:
            self.abort(DropCause.TCP_FRAMING)
            return
        for number, datagram in enumerate(datagrams):
            self._take(datagram)
            if self._heir is not None:
                self._leave(self._heir, b"".join(map(frame, datagrams[number:])) + self._deframer.rest)
            if self._closed:
                return

    def _leave(self, heir: Heir, unjudged: bytes) -> None:
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._on_closed(self)
        heir(self._socket, self.path.address, unjudged)

    def _take(self, datagram: bytes) -> None:
        try:
            self._endpoint.on_datagram(datagram, self.path)
        except Exception:  # noqa: BLE001
            # As with UDP: a fault in the handling of one datagram must not cost anybody else theirs.
            self._endpoint.drop(DropCause.INTERNAL)
            if self._endpoint.dropped[DropCause.INTERNAL] <= _LOGGED_FAILURES:
                _LOG.exception("datagram handler failed")
        if not self._proven and self._heir is None:
            self._unproven_frames += 1
            if self._unproven_frames >= UNPROVEN_FRAMES:
                self.abort(DropCause.TCP_UNPROVEN)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        del self._waiting[:sent]
        self._written += sent
        if not self._waiting:
            self._loop.remove_writer(self._socket.fileno())
            if self._stall_check is not None:
                self._stall_check.cancel()

    def _expect_progress(self) -> None:
        """What waits now must have been written when the time is over; what came after it has its own time."""
        self._stall_check = self._loop.call_later(
            STALLED_SECONDS, self._check_progress, self._written + len(self._waiting)
        )

    def _check_progress(self, expected: int) -> None:
        if self._written < expected:
            self.abort(DropCause.TCP_STALLED)
        else:
            self._expect_progress()
