"""ICE-TCP as the service offers it (RFC 6544): one port, where a connection finds its session by its first check."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aioice import stun

from relay.simulator.peer_ice import Address, DatagramSink, IceConnection

_FIRST_CHECK_SECONDS = 10.0
_MAX_STREAMS = 256


class PassiveTcpPort:
    """A TCP port for all sessions of a simulator."""

    def __init__(self) -> None:
        self._by_username: dict[str, IceConnection] = {}
        self._streams: set[_Stream] = set()
        self._server: asyncio.Server

    @classmethod
    async def open(cls, host: str, port: int) -> PassiveTcpPort:
        """Listen at `host`; port 0 takes any free one. Raises OSError."""
        passive = cls()
        passive._server = await asyncio.get_running_loop().create_server(lambda: _Stream(passive), host, port)
        return passive

    @property
    def address(self) -> Address:
        """Host and port bound."""
        name: tuple[Any, ...] = self._server.sockets[0].getsockname()
        return (str(name[0]), int(name[1]))

    def add(self, connection: IceConnection) -> None:
        """Serve a session under its ICE username."""
        self._by_username[connection.local_username] = connection

    def remove(self, connection: IceConnection) -> None:
        """Forget a session; its streams are closed by their owner."""
        self._by_username.pop(connection.local_username, None)

    async def close(self) -> None:
        """Free the port and every stream."""
        self._server.close()
        for stream in list(self._streams):
            stream.close()
        await self._server.wait_closed()
        # A transport frees its socket on the turn after it was told to.
        await asyncio.sleep(0)

    def session_of(self, frame: bytes) -> IceConnection | None:
        """Tell whose session a stream's first frame names."""
        try:
            message = stun.parse_message(frame)
        # aioice's parser raises several kinds of error on hostile bytes: none of them is a check for us.
        except Exception:  # noqa: BLE001
            return None
        return self._by_username.get(str(message.attributes.get("USERNAME", "")).partition(":")[0])

    def enter(self, stream: _Stream) -> bool:
        """Keep count of a stream; False when there are too many."""
        self._streams.add(stream)
        return len(self._streams) <= _MAX_STREAMS

    def leave(self, stream: _Stream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)


class _Stream(asyncio.Protocol):
    """One connection: frames in and out (RFC 4571), for the session that its first frame names."""

    def __init__(self, port: PassiveTcpPort) -> None:
        self._port = port
        self._rest = b""
        self._sink: DatagramSink | None = None
        self._peer: Address = ("", 0)
        self._transport: asyncio.Transport
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name: tuple[Any, ...] = transport.get_extra_info("peername")
        self._peer = (str(name[0]), int(name[1]))
        self._patience = asyncio.get_running_loop().call_later(_FIRST_CHECK_SECONDS, self.close)
        if not self._port.enter(self):
            self.close()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) > 1 and not self._transport.is_closing():
            end = 2 + int.from_bytes(self._rest[:2], "big")
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[2:end], self._rest[end:]
            self._take(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._port.leave(self)
        if self._sink is not None:
            self._sink.connection_lost(exc)

    def sendto(self, data: bytes, addr: Address) -> None:
        """Frame what the agent sends to its only peer here."""
        del addr
        if not self._transport.is_closing():
            self._transport.write(len(data).to_bytes(2, "big") + data)

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def _take(self, frame: bytes) -> None:
        if self._sink is None:
            session = self._port.session_of(frame)
            self._sink = None if session is None else session.add_stream(self)
            if self._sink is None:
                self.close()
                return
            if self._patience is not None:
                self._patience.cancel()
        self._sink.datagram_received(frame, self._peer)
