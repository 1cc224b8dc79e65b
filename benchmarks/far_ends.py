"""The service in a process of its own, so that a direct call joins two processes, as calls do: `forwarding` uses it.

Its first line of output is the address of its service. Then it follows orders, one a line of JSON, and answers each
with a line. What its streams send and get is on a board that both processes see.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from aiortc import RTCCertificate

from benchmarks.ends import Streams
from benchmarks.pace import paced
from benchmarks.peer import Peer
from benchmarks.service import Service
from benchmarks.stage import run
from benchmarks.stream import Board, Stream
from benchmarks.voice import FRAME_SECONDS, spoken_cycle
from benchmarks.wire import Wire

_CALLS = 512
_ANSWER_SECONDS = 30.0


class FarEnds:
    """Seen from the process of the clients."""

    def __init__(self, process: asyncio.subprocess.Process, board: Board, url: str) -> None:
        self.url = url
        self._process = process
        self._board = board
        self._free = list(range(board.rows // 2))
        self._cycle = spoken_cycle()

    @property
    def pid(self) -> int:
        """Of its process, which belongs to the load."""
        return self._process.pid

    async def join(self, client: Peer) -> tuple[int, Streams]:
        """See `Ends`."""
        if not self._free:
            raise ConnectionError("the board has no room for another call")
        number = self._free.pop()
        there = Stream(client, None, self._cycle, self._board.row(2 * number))
        back = Stream(None, client, self._cycle, self._board.row(2 * number + 1))
        there.clear()
        back.clear()
        await self._order(join=number)
        return number, (there, back)

    async def settle(self, numbers: Sequence[int], seconds: float) -> None:
        """See `Ends`."""
        await self._order(settle=list(numbers), seconds=seconds)
        self._free += numbers

    @contextlib.asynccontextmanager
    async def talking(self, numbers: Sequence[int], grain: float, start: float) -> AsyncIterator[None]:
        """See `Ends`."""
        # In the middle between two packets of the clients.
        start += FRAME_SECONDS / (2 * len(numbers))
        await self._order(talk=list(numbers), grain=grain, start=start)
        try:
            yield
        finally:
            await self._order()

    async def _order(self, **order: Any) -> None:
        if self._process.stdin is None:
            raise ConnectionError("the service's process hears nothing")
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await _line(self._process)


async def _line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise ConnectionError("the service's process says nothing")
    async with asyncio.timeout(_ANSWER_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise ConnectionError("the service's process died")
    return line


@contextlib.asynccontextmanager
async def far_ends() -> AsyncIterator[FarEnds]:
    """Run the service until leaving, on the cores of this process."""
    board = Board(2 * _CALLS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.far_ends", "--board", str(board.descriptor),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1],
        pass_fds=(board.descriptor,),
    )  # fmt: skip
    try:
        yield FarEnds(process, board, json.loads(await _line(process)))
    finally:
        process.kill()
        await process.wait()


# --- in the service's process --------------------------------------------------------------------------------------


class _Obeying:
    def __init__(self, wire: Wire, service: Service, board: Board) -> None:
        self._wire = wire
        self._service = service
        self._board = board
        self._cycle = spoken_cycle()
        self._calls: dict[int, tuple[Peer, Stream, Stream]] = {}
        self._talk = contextlib.AsyncExitStack()

    async def obey(self, order: dict[str, Any]) -> None:
        await self._talk.aclose()
        match order:
            case {"join": number}:
                peer = self._service.newest()
                there = Stream(None, peer, self._cycle, self._board.row(2 * number))
                back = Stream(peer, None, self._cycle, self._board.row(2 * number + 1))
                self._calls[number] = peer, there, back
            case {"settle": numbers, "seconds": seconds}:
                await self._settle([self._calls.pop(number)[0] for number in numbers], seconds)
            case {"talk": numbers, "grain": grain, "start": start}:
                streams = [stream for number in numbers for stream in self._calls[number][1:]]
                await self._talk.enter_async_context(paced(self._wire, streams, grain, start))

    async def _settle(self, peers: list[Peer], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(peer.closed.wait() for peer in peers))
        for peer in peers:
            await self._service.drop(peer)


async def _serve(board: Board) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    wire = Wire()
    async with Service(wire, RTCCertificate.generateCertificate()).served() as service:
        print(json.dumps(service.url), flush=True)
        obeying = _Obeying(wire, service, board)
        while line := await reader.readline():
            await obeying.obey(json.loads(line))
            print(flush=True)


def main() -> int:
    """Follow orders until the end of input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.far_ends", description=__doc__)
    parser.add_argument("--board", type=int, required=True, help="file descriptor of the board")
    run(_serve(Board(2 * _CALLS, parser.parse_args().board)), 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
