"""A TURN client that is not ours (aioice's), and a peer that answers everything it hears."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aioice.turn import TurnTransport, create_turn_endpoint

from relay.core.turn_credentials import TurnCredential

Address = tuple[str, int]


class Heard(asyncio.DatagramProtocol):
    """Keeps what came, and why something could not be sent."""

    def __init__(self) -> None:
        self.datagrams: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.datagrams.put_nowait((data, address))

    def error_received(self, error: Exception) -> None:
        self.errors.put_nowait(error)


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


@contextlib.asynccontextmanager
async def allocation(
    server: Address, credential: TurnCredential, way: str = "udp", trusting: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[TurnTransport, Heard]]:
    """An allocation over `udp`, `tcp` or `tls`, given back on leaving. Raises aioice.stun.TransactionFailed."""
    transport, heard = await create_turn_endpoint(
        Heard,
        server,
        credential.username,
        credential.password,
        transport="udp" if way == "udp" else "tcp",
        ssl=trusting if way == "tls" else None,
    )
    try:
        yield transport, heard
    finally:
        transport.close()
        # Private name: there is no other way to wait until the server has let go.
        await transport._TurnTransport__close_task


@contextlib.asynccontextmanager
async def echo(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Address]:
    """The address of a peer that sends back what it gets."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Echo, local_addr=(host, port))
    try:
        yield transport.get_extra_info("sockname")[:2]
    finally:
        transport.close()


async def echoed(transport: TurnTransport, heard: Heard, peer: Address, data: bytes, seconds: float = 10.0) -> Address:
    """Send through the allocation until the same comes back; from which address it came."""
    transport.sendto(data, peer)
    async with asyncio.timeout(seconds):
        found, address = await heard.datagrams.get()
    assert found == data
    return address
