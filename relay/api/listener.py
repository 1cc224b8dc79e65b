"""A listening address for a web application: bounded connections, TLS that follows its files, an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web

from relay.api.client_address import Network, group_of_peer
from relay.api.middleware import SECURITY_HEADERS, error_response
from relay.api.tls import Reload
from relay.errors import ApiError, ErrorCode
from relay.watches import lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from relay.api.telemetry_port import DoorTelemetry
    from relay.api.tls import Certificate

_CONNECTION_OPTIONS: dict[str, Any] = {
    "access_log": None,  # telemetry says what there is to say, without queries and addresses
    "keepalive_timeout": 15.0,  # also bounds the wait for a request's headers
    "lingering_time": 5.0,
    "max_headers": 64,
    "auto_decompress": False,  # compressed bodies are refused, not unpacked
}
_HANDSHAKE_SECONDS = 10.0
_TLS_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 256


class _Connection(web.RequestHandler):
    """aiohttp's connection, answering what is not HTTP in the shape of every other error, and logging none of it."""

    __slots__ = ("_left",)

    def __init__(self, manager: web.Server, left: Callable[[], None]) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **_CONNECTION_OPTIONS)
        self._left = left

    def connection_lost(self, exc: BaseException | None) -> None:
        """The place is free."""
        super().connection_lost(exc)
        self._left()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002  the library's signature
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """The answer to a request that could not be parsed; the parser's words quote it and go nowhere."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        code = (
            ErrorCode.INVALID_REQUEST if status < web.HTTPInternalServerError.status_code else ErrorCode.INTERNAL_ERROR
        )
        response = error_response(ApiError(status, code, "The request could not be understood."))
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response


class _Places:
    """The connections there may be: `most` in all, half of them from one address; a trusted proxy's are everybody's."""

    def __init__(self, most: int, trusted: tuple[Network, ...]) -> None:
        self._most = most
        self._trusted = trusted
        self._taken: Counter[str | None] = Counter()

    def take(self, peer: str) -> Callable[[], None] | None:
        """What gives the place back, once however often it is called; None if there is no place for this peer."""
        group = group_of_peer(peer, self._trusted)
        of_group = 0 if group is None else self._taken[group]
        if self._taken.total() >= self._most or of_group >= max(1, self._most // 2):
            return None
        self._taken[group] += 1
        place = contextlib.ExitStack()
        place.callback(self._leave, group)
        return place.close

    def _leave(self, group: str | None) -> None:
        self._taken[group] -= 1
        if not self._taken[group]:
            del self._taken[group]


class Listener:
    """Serves one application on one address. `start` raises OSError when the address cannot be had.

    At most `max_connections` at once, half of them from one address; more are closed as they come. They count from the
    first, before TLS: whoever never ends a handshake must not use up the open files. A request whose client leaves is
    cancelled. `stop` lets requests under way finish for `grace_seconds`, then cancels them.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str,
        port: int,
        telemetry: DoorTelemetry,
        certificate: Certificate | None = None,
        trusted_proxies: tuple[Network, ...] = (),
        max_connections: int = 2000,
        grace_seconds: float = 5.0,
        tls_check_seconds: float = 5.0,
    ) -> None:
        self._host = host
        self._port = port
        self._telemetry = telemetry
        self._certificate = certificate
        self._places = _Places(max_connections, trusted_proxies)
        self._tls_check_seconds = tls_check_seconds
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=grace_seconds)
        self._sockets: list[socket.socket] = []
        # What goes on for as long as it listens, and every connection that is on its way in.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port in use, also when any free one was asked for."""
        return int(self._sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        try:
            await self._bind()
        except OSError:
            await self.stop()
            raise
        for listening in self._sockets:
            self._begin(lasting("http-accept", functools.partial(self._accept, listening), self._telemetry))
        if self._certificate is not None:
            follow = functools.partial(self._follow, self._certificate)
            self._begin(lasting("tls-files", follow, self._telemetry))

    async def stop(self) -> None:
        """Stop listening, let requests finish, close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        await self._runner.cleanup()

    async def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            # As for an address that this machine has not: the words alone do not say what was asked for.
            raise OSError(errno.EADDRNOTAVAIL, f"{self._host}: {error.strerror}") from None
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listening = socket.create_server(address, family=family, backlog=_BACKLOG)
            listening.setblocking(False)  # noqa: FBT003  the library's signature
            self._sockets.append(listening)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="listener")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            # Whoever connects without end must not keep the loop from everything else.
            await asyncio.sleep(0)
            try:
                connected, peer = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            left = self._places.take(peer[0])
            if left is None:
                connected.close()
            else:
                self._begin(self._let_in(connected, left))

    async def _let_in(self, connected: socket.socket, left: Callable[[], None]) -> None:
        """See a connection through to where HTTP begins; a handshake that fails is nobody's fault here."""
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {
                "ssl": self._certificate.context,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _TLS_SHUTDOWN_SECONDS,
            }
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None  # noqa: S101  set up before anything is accepted
        try:
            await loop.connect_accepted_socket(lambda: _Connection(server, left), connected, **tls)
        except BaseException as error:
            left()
            if not isinstance(error, OSError):
                raise

    async def _follow(self, certificate: Certificate) -> NoReturn:
        while True:
            await asyncio.sleep(self._tls_check_seconds)
            match certificate.reload_if_changed():
                case Reload.LOADED:
                    self._telemetry.warn("tls_certificate_reloaded", port=self._port)
                case Reload.FAILED:
                    self._telemetry.warn("tls_certificate_unusable", port=self._port)
                case Reload.UNCHANGED:
                    pass
