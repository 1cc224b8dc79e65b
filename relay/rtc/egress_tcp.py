"""TCP out of here: directly or through an HTTP proxy's CONNECT, and ICE-TCP over it as the active end (RFC 6544)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import unquote, urlsplit

from relay.config import Secret
from relay.core.framing import Deframer, FramingError, frame
from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.rtc.egress_line import Feed, fits
from relay.rtc.forwarding_python import Forwarder
from relay.rtc.packet import Datagram

_MAX_PROXY_ANSWER = 8_192
_HEAD_END = b"\r\n\r\n"
# What the kernel may keep unsent: more would only grow old there, and we could not see it wait.
_UNSENT_BYTES = 4_096

P = TypeVar("P", bound=asyncio.Protocol)


class TcpLine(asyncio.Protocol):
    """One ICE-TCP connection: datagrams in frames (RFC 4571), to one address."""

    def __init__(self, address: Address, feed: Feed) -> None:
        self._address = address
        self._feed = feed
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._closed

    def send(self, datagram: Datagram, address: Address) -> bool:
        """Send one datagram; False if the peer is slow to take what was sent before, or gone."""
        del address
        transport = self._transport
        if transport is None or transport.is_closing() or not fits(datagram, transport.get_write_buffer_size):
            return False
        transport.write(frame(datagram))
        return True

    def connect(self, address: Address, forwarder: Forwarder | None = None) -> Callable[[Datagram], bool]:
        """Return the sending end: the connection leads nowhere else."""
        del forwarder
        return lambda datagram: self.send(datagram, address)

    def close(self) -> None:
        """Drop the connection: DTLS has said goodbye, and what still waits is of no use."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        limit_unsent(self._transport)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into datagrams."""
        try:
            datagrams = self._deframer.feed(data)
        except FramingError:
            self._feed.drop(DropCause.MALFORMED)
            if self._transport is not None:
                self._transport.abort()
            return
        for datagram in datagrams:
            if self._closed:
                return
            self._feed.take(datagram, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the connection is over, whoever ended it."""
        del exc
        if not self._closed:
            self._closed = True
            self._feed.broken()


async def open_tcp(address: tuple[str, int], feed: Feed, proxy: Secret | None) -> TcpLine:
    """Connect to a passive ICE-TCP candidate. Raises OSError."""
    _, line = await open_stream(lambda: TcpLine(address, feed), *address, proxy=proxy)
    if line.is_closed:
        raise ConnectionError("the connection was closed at once")
    return line


def limit_unsent(transport: asyncio.BaseTransport) -> None:
    """Keep a stream's backlog where it is seen, in the transport's buffer."""
    raw = transport.get_extra_info("socket")
    if raw is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


async def open_stream(
    factory: Callable[[], P], host: str, port: int, *, proxy: Secret | None, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.Transport, P]:
    """Open a connection to `host`, with `tls` verified for that name, through `proxy` if any. Raises OSError."""
    loop = asyncio.get_running_loop()
    if proxy is None:
        return await loop.create_connection(factory, host, port, ssl=tls)
    transport, rest = await _through(proxy, host, port)
    try:
        protocol = factory()
        if tls is not None:
            return await _secured(transport, protocol, tls, host), protocol
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)
        transport.resume_reading()
    except BaseException:
        transport.abort()
        raise
    return transport, protocol


async def _secured(
    transport: asyncio.Transport, protocol: asyncio.Protocol, tls: ssl.SSLContext, host: str
) -> asyncio.Transport:
    # What came with the proxy's answer is left out: in TLS the client speaks first, so it was none of the server's.
    secured = await asyncio.get_running_loop().start_tls(transport, protocol, tls, server_hostname=host)
    if secured is None:
        raise ConnectionError("the connection was closed during the TLS handshake")
    protocol.connection_made(secured)
    return secured


async def _through(proxy: Secret, host: str, port: int) -> tuple[asyncio.Transport, bytes]:
    """Have a proxy connect us (RFC 9110 section 9.3.6); the transport is paused, with what came after the answer."""
    url = urlsplit(proxy.reveal())
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if url.username is not None:
        credentials = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        head += f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}\r\n"
    loop = asyncio.get_running_loop()
    try:
        transport, tunnel = await loop.create_connection(_Tunnel, url.hostname or "", url.port or 0)
    except OSError as error:
        raise ConnectionError(f"proxy: {error.strerror or error}") from error
    try:
        transport.write(f"{head}\r\n".encode())
        return transport, await tunnel.opened
    except BaseException:
        transport.abort()
        raise


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT, and no more than that may take."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self.opened.done():
            return
        head, end, rest = self._answer.partition(_HEAD_END)
        if not end:
            if len(self._answer) > _MAX_PROXY_ANSWER:
                self.opened.set_exception(ConnectionError("the proxy's answer is too long"))
            return
        words = head.split(b"\r\n", 1)[0][:100].decode("ascii", "replace").split(" ", 2)
        if len(words) > 1 and words[0].startswith("HTTP/1.") and words[1].startswith("2") and len(words[1]) == 3:  # noqa: PLR2004
            if self._transport is not None:
                self._transport.pause_reading()
            self.opened.set_result(rest)
        else:
            self.opened.set_exception(ConnectionError(f"the proxy refused: {' '.join(words[1:])!a}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the proxy closed the connection"))
