"""Opens and closes calls at a steady rate, both ends in a process of its own: `churn` runs it beside calls that talk.

Its first line of output is the address of its own service. Then it reads orders, one a line of JSON: a door, a rate and
how long a call is held (open at it until the next order) or `null` (close everything, and print what came of it).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.load import Call, Door, Load
from benchmarks.service import Service
from benchmarks.stage import run, stage

_CLOSE_SECONDS = 1.0
_MOST_UNDER_WAY = 60
_ANSWER_SECONDS = 30.0
# Calls that talk are measured on the same core: they go first.
_NICE = 10


@dataclasses.dataclass(slots=True)
class Opened:
    """What came of one order: calls that were open at both ends, that failed, that were left out as too many waited."""

    failed: int = 0
    left_out: int = 0
    seconds: float = 0.0
    channel_ms: list[float] = dataclasses.field(default_factory=list)


class _Opener:
    def __init__(self, load: Load, service: Service) -> None:
        self._load = load
        self._service = service
        self._under_way: set[asyncio.Task[None]] = set()
        self.opened = Opened()

    async def keep_opening(self, door: Door, rate: float, hold: float) -> None:
        """Open until cancelled."""
        loop = asyncio.get_running_loop()
        began = due = loop.time()
        try:
            while True:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += 1 / rate
                if len(self._under_way) >= _MOST_UNDER_WAY:
                    self.opened.left_out += 1
                    continue
                task = asyncio.create_task(self._one(door, hold))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        finally:
            self.opened.seconds += loop.time() - began

    async def rest(self) -> Opened:
        """Wait for what is under way; what came of all since the last rest."""
        await asyncio.gather(*self._under_way)
        await asyncio.sleep(_CLOSE_SECONDS)
        await self._service.drop_all()
        told, self.opened = self.opened, Opened()
        return told

    async def _one(self, door: Door, hold: float) -> None:
        try:
            call: Call = await self._load.open(door)
        except (OSError, TimeoutError, aiohttp.ClientError):
            self.opened.failed += 1
            return
        self.opened.channel_ms.append(call.clicks.channel * 1e3)
        await asyncio.sleep(hold)
        await self._load.close([call])


async def _obey() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with stage() as everything:
        print(json.dumps(everything.service.url), flush=True)
        opener = _Opener(everything.load, everything.service)
        opening: asyncio.Task[None] | None = None
        while line := await reader.readline():
            order: dict[str, Any] | None = json.loads(line)
            if opening is not None:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                opening = None
            if order is None:
                print(json.dumps(dataclasses.asdict(await opener.rest())), flush=True)
            else:
                door = Door(order["url"], order["key"], order["preview"])
                opening = asyncio.create_task(opener.keep_opening(door, order["rate"], order["hold"]))


@dataclasses.dataclass(slots=True)
class OpenerProcess:
    """The opener, seen from who gives the orders."""

    process: asyncio.subprocess.Process
    service_url: str

    @contextlib.asynccontextmanager
    async def opening(self, door: Door, rate: float, hold: float, told: list[Opened]) -> AsyncIterator[None]:
        """Have calls opened meanwhile; what came of them is added to `told`."""
        self._order({**dataclasses.asdict(door), "rate": rate, "hold": hold})
        try:
            yield
        finally:
            self._order(None)
            told.append(Opened(**json.loads(await _answer(self.process))))

    def _order(self, order: dict[str, Any] | None) -> None:
        if self.process.stdin is None:
            raise ConnectionError("the opener hears nothing")
        self.process.stdin.write(json.dumps(order).encode() + b"\n")


async def _answer(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise ConnectionError("the opener says nothing")
    async with asyncio.timeout(_ANSWER_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise ConnectionError("the opener died")
    return line


@contextlib.asynccontextmanager
async def opener_process() -> AsyncIterator[OpenerProcess]:
    """Run the opener until leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.opener",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        yield OpenerProcess(process, json.loads(await _answer(process)))
    finally:
        process.kill()
        await process.wait()


def main() -> int:
    """Follow orders until the end of input."""
    argparse.ArgumentParser(prog="python -m benchmarks.opener", description=__doc__).parse_args()
    run(_obey(), _NICE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
