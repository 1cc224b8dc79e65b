"""The relays under test, each in a process and on a core of its own: ours in all its shapes, the stock way, Go's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from benchmarks.load import Door
from benchmarks.machine import Cores
from benchmarks.peer import HOST

OURS = "ours"
COMPILED = f"{OURS}, compiled"
STOCK = "stock aiortc"
GO = "Go relay"
CLIENT_KEY = "client-key-for-the-benchmark"
_NATIVE_FORWARDER = "relay.rtc._forwarding"
_FORWARDER = "RELAY_FORWARDER"
_GO_TOKEN = "token-for-the-benchmark"
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One relay: how it is started, and how clients come to it. `{port}` and `{admin}` stand for free ports.

    `cores` are those it may use; empty means the relay's own.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    key: str = ""
    preview: bool = False
    cores: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Started:
    """A relay that listens; `metrics` is the address of its figures, empty if it has none."""

    name: str
    pid: int
    door: Door
    metrics: str


def ours(service_url: str, name: str = OURS, arguments: Iterable[str] = (), **more: str) -> Kind:
    """The relay of this tree, in front of the lean service, with further arguments of `relay serve` and settings."""
    environment = {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        "RELAY_UPSTREAM_DEPLOYMENT": "bench",
        "RELAY_UPSTREAM_API_KEY": "resource-key-for-the-benchmark",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": "You are the benchmark's assistant.",
        "RELAY_HTTP_HOST": HOST,
        "RELAY_HTTP_PORT": "{port}",
        "RELAY_ADMIN_PORT": "{admin}",
        "RELAY_ICE_HOSTS": HOST,
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        "RELAY_LOG_LEVEL": "warning",
        "RELAY_LIMITS_DRAIN_SECONDS": "1",
        "RELAY_LIMITS_MAX_SESSIONS": "3000",
        # A client that closes is not waited for: closing is part of what is measured.
        "RELAY_LIMITS_REATTACH_SECONDS": "0",
        # What is measured is how much the relay can carry, so it shall refuse nobody.
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
        "RELAY_ADMISSION_SETUPS": "0",
        **more,
    }
    return Kind(name, (sys.executable, "-m", "relay", "serve", *arguments), environment, CLIENT_KEY)


def stock(service_url: str) -> Kind:
    """What aiortc's documentation leads to."""
    command = (sys.executable, "-m", "benchmarks.stock_relay", "--service", service_url, "--port", "{port}")
    return Kind(STOCK, command, {})


def in_go(program: str, service_url: str) -> Kind:
    """A relay for the same job in Go: `program relay --listen --upstream --token --ice-ip`, preview doors."""
    command = (program, "relay", "--listen", f"{HOST}:{{port}}", "--upstream", service_url)
    return Kind(GO, (*command, "--token", _GO_TOKEN, "--ice-ip", HOST), {}, _GO_TOKEN, preview=True)


def all_of_ours(service_url: str) -> list[Kind]:
    """The relay of this tree with each forwarder there is, or with the one that our own environment asks for."""
    if (forwarder := os.environ.get(_FORWARDER)) is not None:
        return [ours(service_url, **{_FORWARDER: forwarder})]
    if importlib.util.find_spec(_NATIVE_FORWARDER) is None:
        return [ours(service_url)]
    return [
        ours(service_url, f"{OURS}, in Python", **{_FORWARDER: "python"}),
        ours(service_url, COMPILED, **{_FORWARDER: "native"}),
    ]


def with_workers(service_url: str, workers: int) -> Kind:
    """The relay of this tree with so many processes that carry sessions."""
    return ours(service_url, f"{OURS}, {workers} worker{'s' * (workers > 1)}", ("--workers", str(workers)))


@contextlib.asynccontextmanager
async def relay_process(kind: Kind, cores: Cores) -> AsyncIterator[Started]:
    """Start a relay on its own core and stop it on leaving; raises ConnectionError if it does not come up."""
    ports = {"{port}": str(free_port()), "{admin}": str(free_port())}
    command = [_filled(each, ports) for each in kind.command]
    environment = {name: _filled(value, ports) for name, value in kind.environment.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    port = int(ports["{port}"])
    with tempfile.TemporaryFile() as log:
        # A child is born on its parent's core, with every thread it will have.
        os.sched_setaffinity(0, kind.cores or {cores.relay})
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
            door = Door(f"http://{HOST}:{port}", kind.key, kind.preview)
            metrics = f"http://{HOST}:{ports['{admin}']}/metrics" if "RELAY_ADMIN_PORT" in environment else ""
            yield Started(kind.name, process.pid, door, metrics)
        finally:
            await _stop(process)


def on_cores(kind: Kind, cores: Iterable[int]) -> Kind:
    """The same on other cores."""
    return replace(kind, cores=frozenset(cores))


def _filled(text: str, ports: dict[str, str]) -> str:
    for name, port in ports.items():
        text = text.replace(name, port)
    return text


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
