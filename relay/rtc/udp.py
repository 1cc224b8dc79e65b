"""One UDP socket read in the event loop's own callback into the packet buffer: no task, no queue, no copy."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable

from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.rtc.packet import READ_BYTES, VIEW, Datagram
from relay.rtc.shared_port import join, lead

_LOG = logging.getLogger(__name__)
_BUFFER_BYTES = 1 << 20
_LOGGED_FAILURES = 10


class UdpSocket:
    """A bound UDP socket that calls `on_read(size, address)` for every datagram it has read into the packet buffer.

    `dropped` is the owner's count. At most `reads_per_wake` are read before the loop serves others: one where one peer
    talks, more on a shared port. `joins`: another process leads the port, and the socket
    is to be connected at once (relay/rtc/shared_port.py).
    Raises OSError when the address cannot be bound.
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
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"UDP {host} port {port}: {error.strerror}") from error
        self._receive = self._socket.recvfrom_into
        self._on_read = on_read
        self._reads = range(reads_per_wake)
        self._loop = asyncio.get_running_loop()
        self._dropped = dropped
        self._loop.add_reader(self._socket.fileno(), self._readable)

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
        sendto = self._socket.sendto

        def send(datagram: Datagram) -> bool:
            try:
                sendto(datagram, address)
            except OSError:
                return False
            return True

        return send

    def connect(self, address: Address) -> Callable[[Datagram], bool]:
        """Talk to one address only from now on, the kernel drops what others send; returns the sending end."""
        self._socket.connect(address)
        to_peer = self._socket.send

        def send(datagram: Datagram) -> bool:
            try:
                to_peer(datagram)
            except OSError:
                return False
            return True

        return send

    def close(self) -> None:
        """Stop reading and free the port."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        for _ in self._reads:
            try:
                size, address = self._receive(VIEW, READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error of an earlier send; the consent checks decide what it means.
                return
            try:
                self._on_read(size, address)
            except Exception:  # noqa: BLE001
                # A fault in the handling of one datagram must not cost anybody else theirs.
                self._dropped[DropCause.INTERNAL] += 1
                if self._dropped[DropCause.INTERNAL] <= _LOGGED_FAILURES:
                    _LOG.exception("datagram handler failed")
            if self._socket.fileno() < 0:
                return
