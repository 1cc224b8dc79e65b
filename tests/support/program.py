"""`relay serve` as a program of its own, and its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.service import CLIENT_KEY, DEPLOYMENT

ROOT = Path(__file__).resolve().parents[2]
_LINE_SECONDS = 60


def environment(service_url: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
    """The whole environment of a program that serves on free ports of this machine only."""
    return {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        "RELAY_UPSTREAM_DEPLOYMENT": DEPLOYMENT,
        "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": "Be brief.",
        "RELAY_HTTP_HOST": "127.0.0.1",
        "RELAY_HTTP_PORT": "0",
        "RELAY_ADMIN_PORT": "0",
        "RELAY_ICE_HOSTS": "127.0.0.1",
        "RELAY_ICE_ADVERTISE": "127.0.0.1",
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        # Tests share their machine: how busy it is says nothing.
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
        "RELAY_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        **more,
    }


class Program:
    """A running relay and its log so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._looked_at = 0
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def line(self, event: str) -> dict[str, Any]:
        """The first line of the log that tells of an event."""
        return self.lines[await self._find(event, 0)]

    async def next_line(self, event: str) -> dict[str, Any]:
        """The first one after the one that was asked for last."""
        found = await self._find(event, self._looked_at)
        self._looked_at = found + 1
        return self.lines[found]

    async def stopped(self, seconds: float = 30) -> int:
        """Its exit code, once it and whoever else writes to its log is gone."""
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()

    async def _find(self, event: str, begin: int) -> int:
        async with asyncio.timeout(_LINE_SECONDS):
            while True:
                for number, line in enumerate(self.lines[begin:], begin):
                    if line["event"] == event:
                        return number
                assert not self._reading.done(), f"{event} was never logged"
                self._news.clear()
                await self._news.wait()

    async def _read(self) -> None:
        try:
            while text := await self.process.stdout.readline():
                self.lines.append(json.loads(text))
                self._news.set()
        finally:
            self._news.set()


@contextlib.asynccontextmanager
async def serving(*arguments: str, cwd: Path = ROOT, **environ: str) -> AsyncIterator[Program]:
    """Start `relay serve` in a process group of its own; kill what is left of it on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "serve", *arguments, env=environ, cwd=cwd, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await program._reading
