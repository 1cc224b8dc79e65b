"""One UDP socket read in the event loop's own callback into the packet buffer: no task, no queue, no copy.

All sockets of a loop are watched by one poller, which the loop watches: one callback serves every socket that is ready.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from weakref import WeakKeyDictionary

from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.event_loop import MediaLoop
from relay.rtc import forwarding
from relay.rtc.packet import Datagram
from relay.rtc.shared_port import join, lead

_LOG = logging.getLogger(__name__)
_BUFFER_BYTES = 1 << 20
_LOGGED_FAILURES = 10
_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, forwarding.Poller] = WeakKeyDictionary()


class UdpSocket:
    """A bound UDP socket that calls `on_read(size, address)` for every datagram it has read into the packet buffer.

    RTP of an address that was given to a forwarder (`direct`, `connect`) goes there at once instead. `dropped` is the
    owner's count. At most `reads_per_wake` are read before the loop serves others: one where one peer talks, more on a
    shared port. `joins`: another process leads the port, and the socket is to be connected at once
    (relay/rtc/shared_port.py).
    `fileno` names the socket while it is open. Raises OSError when the address cannot be bound, or the socket not be
    watched.
    """

    def __init__(
        self,
        host: str,
        port: int,
        on_read: Callable[[int, Address], None],
        dropped: Counter[DropCause],
        reads_per_wake: int = 1,
        buffer_bytes: int = _BUFFER_BYTES,
        *,
        joins: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = join(host, port) if joins else socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6 and not joins:
                # IPv4 has a socket of its own, so that an address has one form only.
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            if not joins:
                self._socket.bind((host, port))
            self.fileno = self._socket.fileno()
            self._reader = forwarding.Reader(self._socket, on_read, dropped, reads_per_wake, _fault)
            _watch(self._loop, self.fileno, self._reader)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"UDP {host} port {port}: {error.strerror}") from error

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    def lead(self) -> None:
        """Let other processes' sockets join the port; what is not connected to one of theirs stays with this one.

        Raises OSError where the system has no such option.
        """
        lead(self._socket)

    def send(self, datagram: Datagram, address: Address) -> bool:
        """Send at once; False if the kernel does not take it (full buffer, no route): UDP may lose, it never waits."""
        try:
            self._socket.sendto(datagram, address)
        except OSError:
            return False
        return True

    def sender(self, address: Address) -> Callable[[Datagram], bool]:
        """`send` to one address, at one call less."""
        return self._reader.sender(address)

    def direct(
        self,
        address: Address,
        forwarder: forwarding.Forwarder,
        send: Callable[[Datagram], bool],
        moved: Callable[[], None] | None = None,
    ) -> None:
        """Give RTP that comes from `address` to a forwarder at once.

        `moved` is called after each authentic packet while the forwarder sends by another way than `send`.
        """
        self._reader.direct(address, forwarder, send, moved)

    def undirect(self, address: Address) -> None:
        """Give what comes from `address` to `on_read` again."""
        self._reader.undirect(address)

    def connect(self, address: Address, forwarder: forwarding.Forwarder | None = None) -> Callable[[Datagram], bool]:
        """Talk to one address only from now on, the kernel drops what others send; returns the sending end.

        Its RTP goes to the forwarder, if there is one.
        """
        self._socket.connect(address)
        peer = self._socket.getpeername()
        self._reader.settle(peer)
        send = self._reader.sender(None)
        if forwarder is not None:
            self._reader.direct(peer, forwarder, send, None)
        return send

    def close(self) -> None:
        """Stop reading and free the port."""
        fd = self._socket.fileno()
        if fd >= 0:
            self._reader.close()
            _unwatch(self._loop, fd)
            self._socket.close()


def _watch(loop: asyncio.AbstractEventLoop, fd: int, reader: forwarding.Reader) -> None:
    if not forwarding.CAN_POLL:
        loop.add_reader(fd, reader.read)
        return
    poller = _POLLERS.get(loop)
    if poller is None:
        poller = forwarding.Poller()
        # First, because the system may refuse: a poller that nobody watches would make every later socket deaf.
        if isinstance(loop, MediaLoop):
            poller.follow(loop.fileno())
            loop.wait_with(poller.wait)
        else:
            loop.add_reader(poller.fileno(), poller.serve)
        _POLLERS[loop] = poller
    try:
        poller.add(fd, reader)
    except OSError:
        _dismiss_idle(loop, poller)
        raise


def _unwatch(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    poller = _POLLERS.get(loop)
    if poller is None:
        loop.remove_reader(fd)
        return
    poller.remove(fd)
    _dismiss_idle(loop, poller)


def _dismiss_idle(loop: asyncio.AbstractEventLoop, poller: forwarding.Poller) -> None:
    """Close a poller with the last socket, so that a loop that ends leaves nothing open."""
    if not len(poller):
        del _POLLERS[loop]
        if isinstance(loop, MediaLoop):
            loop.wait_with(None)
        else:
            loop.remove_reader(poller.fileno())
        poller.close()


def _fault(dropped: Counter[DropCause], error: Exception) -> None:
    """Count an exception that one datagram caused; the first ones are logged."""
    dropped[DropCause.INTERNAL] += 1
    if dropped[DropCause.INTERNAL] <= _LOGGED_FAILURES:
        _LOG.error("datagram handler failed", exc_info=error)
