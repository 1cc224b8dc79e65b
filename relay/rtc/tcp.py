"""The public media port over TCP: passive ICE-TCP (RFC 6544), for browsers whose UDP is blocked."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator

from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.rtc.endpoint import Endpoint
from relay.rtc.path import Path
from relay.rtc.ports import bind_alike
from relay.rtc.tcp_connection import Heir, TcpConnection

_LOG = logging.getLogger(__name__)
# Connections that have not proved themselves to a session. A browser's does with the first frame, so that at the limit
# the oldest goes, not the newest: who holds connections open keeps nobody out.
UNPROVEN_CONNECTIONS = 256
UNPROVEN_PER_SOURCE = 16
PROOF_SECONDS = 10.0
# The addresses of one IPv6 subscriber are one source (RFC 6177).
_SUBSCRIBER_BITS = 64
# To accept and close costs 0.1 ms: 500 connections a second on each host, and what comes faster waits in the backlog.
ACCEPTS_PER_TURN = 10
TURN_SECONDS = 0.02
_BACKLOG = 512
# What the kernel keeps unsent for one connection is late media, too.
_UNSENT_BYTES = 4_096
_SEND_BUFFER_BYTES = 65_536
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_SECONDS = 1.0
_LOG_EVERY_SECONDS = 60.0


class TcpListener:
    """One TCP port, on one socket for each of `hosts` (0: any free one); its connections are paths of `endpoint`.

    Raises OSError when the port cannot be bound on every host.
    """

    def __init__(self, endpoint: Endpoint, hosts: tuple[str, ...], port: int) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._connections = TcpConnections(endpoint)
        self._logged = -_LOG_EVERY_SECONDS
        take = self._connections.take
        self._sockets = bind_alike(hosts, port, lambda host, at: _AcceptSocket(host, at, take, self._failed))

    @property
    def port(self) -> int:
        """The local TCP port, the same on every host."""
        return self._sockets[0].port

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def hand_over(self, path: Path, heir: Heir) -> bool:
        """Let another process have the connection that is a path; False if it is not to be had."""
        return self._connections.hand_over(path, heir)

    def close(self) -> None:
        """Free the port and end every connection."""
        for each in self._sockets:
            each.close()
        self._connections.close()

    def _failed(self, error: OSError) -> None:
        self._endpoint.drop(DropCause.TCP_ACCEPT)
        now = self._loop.time()
        if now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            _LOG.warning("no TCP connection can be accepted: %s", error.strerror)


class TcpConnections:
    """Accepted connections, each a path of `endpoint`, and what bounds those that no session has taken yet."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._by_path: dict[Path, TcpConnection] = {}
        self._unproven = _Unproven()

    def __len__(self) -> int:
        return len(self._by_path)

    def __iter__(self) -> Iterator[TcpConnection]:
        return iter(tuple(self._by_path.values()))

    def take(self, accepted: socket.socket, address: Address, first: bytes = b"") -> None:
        """Take a non-blocking socket, and what another process read from it already."""
        while (oldest := self._unproven.in_the_way_of(address)) is not None:
            oldest.abort(DropCause.TCP_LIMIT)
        connection = TcpConnection(accepted, address, self._endpoint, self._unproven.remove, self._on_closed)
        self._by_path[connection.path] = connection
        deadline = self._loop.call_later(PROOF_SECONDS, connection.abort, DropCause.TCP_UNPROVEN)
        self._unproven.add(connection, deadline)
        if first:
            connection.feed(first)

    def hand_over(self, path: Path, heir: Heir) -> bool:
        """Let another process have the connection that is a path; False if it is not to be had."""
        return self._by_path[path].hand_over(heir)

    def close(self) -> None:
        """End them all."""
        for connection in self:
            connection.close()

    def _on_closed(self, connection: TcpConnection) -> None:
        self._by_path.pop(connection.path, None)
        self._unproven.remove(connection)


class _Unproven:
    """Connections that no session has taken yet, each with its deadline, oldest first, by source."""

    def __init__(self) -> None:
        self._deadlines: dict[TcpConnection, asyncio.TimerHandle] = {}
        self._by_source: dict[str, dict[TcpConnection, None]] = {}

    def in_the_way_of(self, address: Address) -> TcpConnection | None:
        """Give the connection that has to go before one more from `address` can be added; None if there is room."""
        same = self._by_source.get(_source(address), {})
        if len(same) >= UNPROVEN_PER_SOURCE:
            return next(iter(same))
        if len(self._deadlines) >= UNPROVEN_CONNECTIONS:
            return next(iter(self._deadlines))
        return None

    def add(self, connection: TcpConnection, deadline: asyncio.TimerHandle) -> None:
        """Watch a new connection; `deadline` is cancelled once it is removed."""
        self._deadlines[connection] = deadline
        self._by_source.setdefault(_source(connection.path.address), {})[connection] = None

    def remove(self, connection: TcpConnection) -> None:
        """Proven or closed: no more of our business."""
        deadline = self._deadlines.pop(connection, None)
        if deadline is None:
            return
        deadline.cancel()
        source = _source(connection.path.address)
        same = self._by_source[source]
        del same[connection]
        if not same:
            del self._by_source[source]


class _AcceptSocket:
    """A listening socket that hands over what it accepts, at a bounded rate, and rests while the system has no room."""

    def __init__(
        self,
        host: str,
        port: int,
        on_accepted: Callable[[socket.socket, Address], None],
        on_failed: Callable[[OSError], None],
    ) -> None:
        self._socket = _listening(host, port)
        self._on_accepted = on_accepted
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._turn_ends = 0.0
        self._left = 0
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._pause is not None:
            self._pause.cancel()
        self._socket.close()

    def _resume(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _rest_until(self, then: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._pause = self._loop.call_at(then, self._resume)

    def _readable(self) -> None:
        now = self._loop.time()
        if now >= self._turn_ends:
            self._turn_ends, self._left = now + TURN_SECONDS, ACCEPTS_PER_TURN
        while self._left:
            try:
                accepted, address = self._socket.accept()
            except OSError as error:
                # Any other error is that of one connection, gone before it was accepted (accept(2)), or "no more".
                if error.errno in _EXHAUSTED:
                    self._on_failed(error)
                    self._rest_until(now + ACCEPT_PAUSE_SECONDS)
                return
            self._left -= 1
            accepted.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            self._on_accepted(accepted, address)
        self._rest_until(self._turn_ends)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that an address has one form only.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What follows is inherited by every accepted connection.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"TCP {host} port {port}: {error.strerror}") from error
    return listening


def _source(address: Address) -> str:
    host = address[0].partition("%")[0]
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, _SUBSCRIBER_BITS), strict=False))
