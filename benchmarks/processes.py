"""The relay under test, in a process and on a core of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from benchmarks.machine import Cores
from benchmarks.peer import HOST

CLIENT_KEY = "client-key-for-the-benchmark"
_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """A relay that listens."""

    pid: int
    url: str


def relay_command() -> list[str]:
    """Start the relay under test."""
    return [sys.executable, "-m", "relay", "serve"]


def relay_environment(service_url: str, **more: str) -> dict[str, str]:
    """Configure a relay for the lean service; `more` are further variables."""
    return {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        "RELAY_UPSTREAM_DEPLOYMENT": "bench",
        "RELAY_UPSTREAM_API_KEY": "resource-key-for-the-benchmark",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": "You are the benchmark's assistant.",
        "RELAY_HTTP_HOST": HOST,
        "RELAY_ADMIN_PORT": "0",
        "RELAY_ICE_HOSTS": HOST,
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        "RELAY_LOG_LEVEL": "warning",
        "RELAY_LIMITS_DRAIN_SECONDS": "1",
        # What is measured is how much the relay can carry, so it shall refuse nobody.
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
        "RELAY_ADMISSION_SETUPS": "0",
        **more,
    }


@contextlib.asynccontextmanager
async def relay_process(command: list[str], environment: dict[str, str], cores: Cores) -> AsyncIterator[Started]:
    """Start a relay on its own core and stop it on leaving; raises ConnectionError if it does not come up."""
    port = free_port()
    if command[-1] == "serve":
        environment = {**environment, "RELAY_HTTP_PORT": str(port)}
    else:
        command = [*command, "--port", str(port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    with tempfile.TemporaryFile() as log:
        # A child is born on its parent's core, with every thread it will have.
        os.sched_setaffinity(0, {cores.relay})
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env={**inherited, **environment}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        finally:
            os.sched_setaffinity(0, {cores.load})
        try:
            if not await _listens(process, port):
                log.seek(0)
                raise ConnectionError(f"{' '.join(command)} did not start:\n{log.read().decode(errors='replace')}")
            yield Started(process.pid, f"http://{HOST}:{port}")
        finally:
            await _stop(process)


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        writer.close()
        return True
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def free_port() -> int:
    """Find a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
