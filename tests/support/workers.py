"""A relay with worker processes, and what a test looks at in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from relay.app import Running
from relay.config import WorkerPorts, WorkerSettings
from relay.workers.pool import WorkerPool
from relay.workers.worker import Worker

TWO = WorkerSettings(2)
OWN = WorkerSettings(2, WorkerPorts.OWN)


def pool_of(relay: Running) -> WorkerPool:
    pool = relay.registry._host
    assert isinstance(pool, WorkerPool)
    return pool


def workers(relay: Running) -> list[Worker]:
    return [place.worker for place in pool_of(relay)._places]


def worker_of(relay: Running, location: str) -> Worker:
    """The worker that has the session at a `Location`."""
    session_id = location.rpartition("/")[2]
    return next(worker for worker in workers(relay) if session_id in worker._sessions)


def exists(pid: int) -> bool:
    """Whether a process runs: one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [each for each in found if exists(each)]


async def eventually(wanted: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(seconds):
        while not (found := wanted()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def all_ready(relay: Running) -> None:
    await eventually(lambda: all(worker.state == "ready" for worker in workers(relay)))


async def scrape(operations_url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of `/metrics`."""
    async with aiohttp.ClientSession() as http, http.get(f"{operations_url}/metrics") as response:
        text = await response.text()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def totals(samples: dict[Any, float]) -> dict[Any, float]:
    """The samples that may never go down."""
    return {key: value for key, value in samples.items() if key[0].endswith(("_total", "_count", "_bucket"))}
