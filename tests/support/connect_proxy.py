"""An HTTP proxy that knows CONNECT alone, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`answer` is what it says; with a 2xx in it, it connects and carries. `heads` are the requests it got."""

    answer: bytes = b"HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n"
    heads: list[str] = field(default_factory=list)
    port: int = 0

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying: list[asyncio.Task[None]] = []
        writers = [writer]
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                writer.write(self.answer)
                if b" 200 " in self.answer[:20]:
                    host, _, port = head.split()[1].rpartition(":")
                    far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
                    writers.append(far_writer)
                    carrying = [
                        asyncio.create_task(_carry(reader, far_writer)),
                        asyncio.create_task(_carry(far_reader, writer)),
                    ]
                    await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also when it is cancelled: from Python 3.12 on a server that is closed waits for every connection.
            for task in carrying:
                task.cancel()
            for each in writers:
                each.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def connect_proxy(answer: bytes | None = None) -> AsyncIterator[ConnectProxy]:
    """Run one on a free loopback port."""
    proxy = ConnectProxy() if answer is None else ConnectProxy(answer)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
