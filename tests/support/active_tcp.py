"""The active end of ICE-TCP (RFC 6544) for a client that knows only UDP: its datagrams become frames, and back.

The client is told a UDP address of ours in place of the relay's candidates; for each of its own addresses a connection
is opened to the relay's passive candidate, as a browser does whose UDP is blocked. The framing is not the relay's code.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

_CANDIDATE = re.compile(r"^a=candidate:.*\r\n", re.MULTILINE)
_PASSIVE = re.compile(r"^a=candidate:\S+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive\r$", re.MULTILINE)
# RFC 7983 section 7.
_LAST_STUN_BYTE = 3

Address = tuple[str, int]


class ActiveTcp(asyncio.DatagramProtocol):
    """The bridge, one for each client. `lines` are its connections, by the client's own address."""

    def __init__(self) -> None:
        self.lines: dict[Address, Line] = {}
        self._passive: Address | None = None
        self._udp: asyncio.DatagramTransport | None = None

    def through(self, answer: str) -> str:
        """The answer as the client is to see it, with one UDP candidate, ours. Fails if no TCP is offered."""
        found = _PASSIVE.search(answer)
        assert found is not None, answer
        self._passive = (found[1], int(found[2]))
        host, port = self._udp.get_extra_info("sockname")
        head, *sections = answer.split("m=")
        ours = f"a=candidate:1 1 udp 2130706431 {host} {port} typ host\r\n"
        return "m=".join([head, *(_CANDIDATE.sub("", each) + ours for each in sections)])

    async def cut(self) -> None:
        """Reset every connection, as a network does that has had enough; the next datagram opens another."""
        lines = list(self.lines.values())
        self.lines.clear()
        await asyncio.gather(*(line.close() for line in lines))

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._udp = transport

    def datagram_received(self, datagram: bytes, client: Address) -> None:
        line = self.lines.get(client)
        if line is None or line.ended:
            if datagram[0] > _LAST_STUN_BYTE:
                return
            line = self.lines[client] = Line(self._passive, lambda answer: self._udp.sendto(answer, client))
        line.send(datagram)


class Line:
    """One connection to the relay, for checks alone until one is answered. `frames` counts both directions."""

    def __init__(self, passive: Address, deliver) -> None:
        self.frames = 0
        self._deliver = deliver
        self._writer: asyncio.StreamWriter | None = None
        self._answered = False
        self._early: list[bytes] = []
        self._task = asyncio.create_task(self._run(passive))

    @property
    def ended(self) -> bool:
        return self._task.done()

    def send(self, datagram: bytes) -> None:
        if not self._answered and datagram[0] > _LAST_STUN_BYTE:
            return
        framed = len(datagram).to_bytes(2, "big") + datagram
        self.frames += 1
        if self._writer is None:
            self._early.append(framed)
        else:
            self._writer.write(framed)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, passive: Address) -> None:
        reader, self._writer = await asyncio.open_connection(*passive)
        try:
            self._writer.writelines(self._early)
            # The relay may close or reset whenever a session ends.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    self._deliver(await reader.readexactly(length))
                    self._answered = True
                    self.frames += 1
        finally:
            self._writer.transport.abort()


@contextlib.asynccontextmanager
async def active_tcp() -> AsyncIterator[ActiveTcp]:
    """Bridge until leaving: `client.accept(bridge.through(answer))`."""
    transport, bridge = await asyncio.get_running_loop().create_datagram_endpoint(
        ActiveTcp, local_addr=("127.0.0.1", 0)
    )
    try:
        yield bridge
    finally:
        await bridge.cut()
        transport.close()
