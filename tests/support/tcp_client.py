"""A TCP client of the public port, which speaks frames (RFC 4571)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from aioice import stun

from relay.core.framing import Deframer, frame

_WAIT_SECONDS = 5


class TcpClient:
    """One connection, already made; `socket` does not block."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._deframer = Deframer()
        self._read: list[bytes] = []

    async def send(self, *datagrams: bytes) -> None:
        await self.raw(b"".join(map(frame, datagrams)))

    async def raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self) -> bytes:
        """The next datagram."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while not self._read:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
                if not data:
                    raise ConnectionResetError
                self._read += self._deframer.feed(data)
        return self._read.pop(0)

    async def answer(self) -> stun.Message:
        return stun.parse_message(await self.read())

    async def ended(self) -> bool:
        """True once the other end has closed or reset."""
        async with asyncio.timeout(_WAIT_SECONDS):
            with contextlib.suppress(ConnectionError):
                while await asyncio.get_running_loop().sock_recv(self.socket, 4096):
                    pass
        return True

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
