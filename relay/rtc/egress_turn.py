"""TURN out of here, over aioice's client: an allocation on the configured server, a channel for each candidate.

aioice's own transport makes a task for each datagram and lets a permission expire before it renews the channel; here
channels are bound before use and renewed in time, and a datagram goes out in the call that brought it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache, partial
from struct import pack
from typing import Any, TypeVar, cast

from aioice.stun import TransactionError, TransactionFailed
from aioice.turn import (
    DEFAULT_ALLOCATION_LIFETIME,
    DEFAULT_CHANNEL_REFRESH_TIME,
    TurnClientTcpProtocol,
    TurnClientUdpProtocol,
)

from relay.config import EgressSettings
from relay.config_network import IceServer
from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.core.turn_credentials import turn_credential
from relay.rtc.egress_line import Feed, fits, local_ports
from relay.rtc.egress_tcp import limit_unsent, open_stream
from relay.rtc.forwarding_python import Forwarder
from relay.rtc.packet import Datagram

# RFC 8656 section 9: a permission lasts 300 s, and only binding the channel again renews it.
_RENEW_SECONDS = 200.0
_GOODBYE_SECONDS = 1.0
_FIRST_CHANNEL = 0x4000
# Channels bound for one leg; the service lists one to three candidates.
_MAX_CHANNELS = 8
# Longer than any session: the server may look at the expiry with every request, not only with the first.
_CREDENTIAL_SECONDS = 6 * 3_600
_CREDENTIAL_TAG = "relay"

SeeOff = Callable[[Coroutine[Any, Any, None]], None]
T = TypeVar("T")


class TurnLine:
    """An allocation with its channels; `version` is the family of its address."""

    def __init__(self, client: _TurnClient, feed: Feed, see_off: SeeOff) -> None:
        self._client = client
        self._feed = feed
        self._see_off = see_off
        self._headers: dict[Address, int] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._closed = False
        self.version = 4

    async def open(self, candidates: list[tuple[str, int]]) -> None:
        """Allocate and bind a channel for each candidate of the address's family. Raises OSError."""
        relayed = await _asked(self._client.connect())
        self.version = 6 if ":" in relayed[0] else 4
        usable = [each for each in candidates if (":" in each[0]) == (self.version == 6)][:_MAX_CHANNELS]  # noqa: PLR2004
        bound = await asyncio.gather(
            *(self._bind(_FIRST_CHANNEL + at, each) for at, each in enumerate(usable)), return_exceptions=True
        )
        failures = [each for each in bound if isinstance(each, BaseException)]
        if len(failures) == len(usable):
            raise failures[0] if failures else ConnectionError("the relayed address is of another family")
        if self._client.transport.is_closing():
            raise ConnectionError("the connection was closed at once")
        self._client.receiver = cast("asyncio.DatagramProtocol", self)  # the two methods it calls are there
        self._renewal = asyncio.create_task(self._renew(), name="turn-channels")

    def send(self, datagram: Datagram, address: Address) -> bool:
        """Send through the channel of an address; False without one, or when the server is slow to take it."""
        number = self._headers.get(address)
        transport = self._client.transport
        if number is None or transport.is_closing() or not fits(datagram, self._client.waiting):
            return False
        self._client.send_channel_data(pack("!HH", number, len(datagram)) + datagram)
        return True

    def connect(self, address: Address, forwarder: Forwarder | None = None) -> Callable[[Datagram], bool]:
        """Keep the channel of one address only; returns the sending end."""
        del forwarder
        self._headers = {each: number for each, number in self._headers.items() if each == address}
        return lambda datagram: self.send(datagram, address)

    def close(self) -> None:
        """Give the allocation back, in the background."""
        if not self._closed:
            self._closed = True
            if self._renewal is not None:
                self._renewal.cancel()
            self._see_off(_goodbye(self._client, self._renewal))

    # What aioice calls on its receiver.

    def datagram_received(self, data: bytes, address: Address) -> None:
        """Take one datagram from the peer."""
        if not self._closed:
            self._feed.take(data, address)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the allocation is gone: refused a renewal, or the connection to the server broke."""
        del exc
        if not self._closed:
            self._feed.broken()

    async def _bind(self, number: int, address: tuple[str, int]) -> None:
        await _asked(self._client.channel_bind(number, address))
        self._client.channel_to_peer[number] = address
        self._headers[address] = number

    async def _renew(self) -> None:
        """Bind the channels again in time; a server that refuses has ended the way."""
        try:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                for address, number in list(self._headers.items()):
                    await _asked(self._client.channel_bind(number, (address[0], address[1])))
        except OSError:
            self.connection_lost(None)


class _TcpClient(TurnClientTcpProtocol):
    """aioice's client over a stream."""

    feed: Feed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limit_unsent(transport)

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        """Take one message; aioice's parser raises several kinds of error, each of which would end the transport."""
        try:
            super().datagram_received(data, addr)
        except Exception:  # noqa: BLE001
            self.feed.drop(DropCause.STUN_MALFORMED)

    def waiting(self) -> int:
        """Bytes that the server has not taken yet."""
        return self.transport.get_write_buffer_size()

    def send_channel_data(self, message: bytes) -> None:
        """Send on; RFC 8656 section 12.5 wants padding on a stream."""
        self.transport.write(message + bytes(-len(message) % 4))


class _UdpClient(TurnClientUdpProtocol):
    """aioice's client over a socket that is connected to the server."""

    feed: Feed

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        """Take one message; see the other client."""
        try:
            super().datagram_received(data, addr)
        except Exception:  # noqa: BLE001
            self.feed.drop(DropCause.STUN_MALFORMED)

    def error_received(self, exc: Exception) -> None:
        """Hear of an ICMP error of an earlier send; the checks decide what it means."""

    def waiting(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return int(cast("asyncio.WriteTransport", self.transport).get_write_buffer_size())

    def send_channel_data(self, message: bytes) -> None:
        """Send on."""
        self.transport.sendto(message)


_TurnClient = _TcpClient | _UdpClient


async def open_turn(
    settings: EgressSettings, candidates: list[tuple[str, int]], feed: Feed, see_off: SeeOff
) -> TurnLine:
    """Allocate on `egress.turn_url` for these candidates. Raises OSError."""
    server = settings.turn_url
    if server is None:
        raise ConnectionError("no TURN server is configured")
    username, password = _credentials(settings)
    client = partial(
        _TcpClient if server.transport == "tcp" else _UdpClient,
        (server.host, server.port), username, password, DEFAULT_ALLOCATION_LIFETIME, DEFAULT_CHANNEL_REFRESH_TIME,
    )  # fmt: skip
    opened = await _reach(server, settings, cast("Callable[[], _TurnClient]", client))
    opened.feed = feed
    line = TurnLine(opened, feed, see_off)
    try:
        await line.open(candidates)
    except BaseException:
        line.close()
        raise
    return line


async def _reach(server: IceServer, settings: EgressSettings, factory: Callable[[], _TurnClient]) -> _TurnClient:
    if server.transport == "tcp":
        tls = _verifying_context() if server.scheme == "turns" else None
        stream = cast("Callable[[], _TcpClient]", factory)
        return (await open_stream(stream, server.host, server.port, proxy=settings.proxy, tls=tls))[1]
    loop = asyncio.get_running_loop()
    family, *_, address = (await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM))[0]
    for port in local_ports(settings.udp_ports):
        raw = socket.socket(family, socket.SOCK_DGRAM)
        try:
            raw.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            raw.bind(("", port))
            raw.connect(address)
        except OSError as error:
            raw.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        datagrams = cast("Callable[[], _UdpClient]", factory)
        return (await loop.create_datagram_endpoint(datagrams, sock=raw))[1]
    raise OSError(errno.EADDRINUSE, f"every port of {settings.udp_ports} (egress.udp_ports) is in use")


@cache
def _verifying_context() -> ssl.SSLContext:
    """Verify against the system's store, or against SSL_CERT_FILE; made once, for it reads every certificate there."""
    return ssl.create_default_context()


def _credentials(settings: EgressSettings) -> tuple[str, str]:
    if settings.turn_secret is not None:
        made = turn_credential(settings.turn_secret.reveal(), _CREDENTIAL_TAG, int(time.time()) + _CREDENTIAL_SECONDS)
        return made.username, made.password
    password = settings.turn_password
    return settings.turn_username or "", password.reveal() if password is not None else ""


async def _asked(answer: Awaitable[T]) -> T:
    """Wait for the server's answer; its refusal and its silence become ConnectionError."""
    try:
        return await answer
    except TransactionFailed as error:
        code, reason = error.response.attributes.get("ERROR-CODE", (0, ""))
        raise ConnectionError(f"the TURN server refused: {code} {reason[:60]!a}") from error
    except TransactionError as error:
        raise ConnectionError("the TURN server does not answer") from error


async def _goodbye(client: _TurnClient, renewal: asyncio.Task[None] | None) -> None:
    if renewal is not None:
        await asyncio.gather(renewal, return_exceptions=True)
    try:
        # Without a refresh task there is no allocation to give back.
        if client.refresh_task is not None:
            with contextlib.suppress(OSError, TransactionError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await client.delete()
    finally:
        client.transport.abort()
