"""What every program here begins with: cores chosen, a service served, a load that can open calls; and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiortc import RTCCertificate

from benchmarks.ends import Ends, NearEnds
from benchmarks.load import Load
from benchmarks.machine import Cores, describe
from benchmarks.service import Service
from benchmarks.wire import Wire

Found = TypeVar("Found")


class Exit(IntEnum):
    """What the shell is told."""

    MET = 0
    MISSED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything but the relay."""

    cores: Cores
    wire: Wire
    service: Service
    load: Load
    http: aiohttp.ClientSession
    certificate: RTCCertificate

    def load_to(self, ends: Ends) -> Load:
        """A load whose calls arrive elsewhere than at this stage's service."""
        return Load(self.wire, ends, self.certificate, self.http)


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Set up the load on a core of its own, and leave the process as it was."""
    cores = Cores.choose()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    certificate = RTCCertificate.generateCertificate()
    wire = Wire()
    try:
        async with Service(wire, certificate).served() as service, aiohttp.ClientSession() as http:
            load = Load(wire, NearEnds(service), certificate, http)
            yield Stage(cores, wire, service, load, http, certificate)
    finally:
        wire.close()
        os.sched_setaffinity(0, usable)


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every program takes."""
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all processes; below 0 needs privilege (0)")


def run(measuring: Coroutine[Any, Any, Found], nice: int) -> Found:
    """Measure; where it cannot be done, say why and leave with 2."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # Each call takes a socket at either end.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        # Told to stop by whatever signal, the relays must be stopped too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return asyncio.run(measuring)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(Exit.FAILED)
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        print(f"could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(Exit.FAILED)


def need_linux() -> None:
    """Leave with 2 elsewhere."""
    if not sys.platform.startswith("linux"):
        print("needs Linux: CPU and memory are read from /proc", file=sys.stderr)
        sys.exit(Exit.FAILED)


def machine_lines() -> list[str]:
    """The machine, for a reader."""
    return [f"{name:<10}{value}" for name, value in describe().items()]


def keep(path: Path | None, document: dict[str, Any]) -> None:
    """Write every figure, with the machine, if a file was named."""
    if path is not None:
        path.write_text(json.dumps({"machine": describe(), **document}, indent=2) + "\n")
