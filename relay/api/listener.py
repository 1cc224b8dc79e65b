"""A listening address for a web application: bounded connections, TLS that follows its files, an orderly stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from relay.api.middleware import SECURITY_HEADERS, error_response
from relay.api.tls import Reload
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
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

    __slots__ = ()

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


class _Refused(asyncio.Protocol):
    """A connection beyond the bound: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  TCP
        transport.abort()


class Listener:
    """Serves one application on one address. `start` raises OSError when the address cannot be had.

    At most `max_connections` at once; more are closed as they come. A request whose client leaves is cancelled. `stop`
    lets requests under way finish for `grace_seconds`, then cancels them.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str,
        port: int,
        telemetry: DoorTelemetry,
        certificate: Certificate | None = None,
        max_connections: int = 2000,
        grace_seconds: float = 5.0,
        tls_check_seconds: float = 5.0,
    ) -> None:
        self._host = host
        self._port = port
        self._telemetry = telemetry
        self._certificate = certificate
        self._max_connections = max_connections
        self._tls_check_seconds = tls_check_seconds
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=grace_seconds)
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port in use, also when any free one was asked for."""
        assert self._server is not None  # noqa: S101  asked before start()
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {
                "ssl": self._certificate.context,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _TLS_SHUTDOWN_SECONDS,
            }
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, self._host, self._port, backlog=_BACKLOG, **tls)
        except OSError:
            await self._runner.cleanup()
            raise
        if self._certificate is not None:
            self._watch = asyncio.create_task(self._follow(self._certificate), name="tls-files")

    async def stop(self) -> None:
        """Stop listening, let requests finish, close every connection."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._max_connections:
            return _Refused()
        return _Connection(server, loop=asyncio.get_running_loop(), **_CONNECTION_OPTIONS)

    async def _follow(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(self._tls_check_seconds)
            match certificate.reload_if_changed():
                case Reload.LOADED:
                    self._telemetry.warn("tls_certificate_reloaded", port=self._port)
                case Reload.FAILED:
                    self._telemetry.warn("tls_certificate_unusable", port=self._port)
                case Reload.UNCHANGED:
                    pass
