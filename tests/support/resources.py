"""What this process holds: tasks, threads, sockets; and what is left of it once a session is over."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 5.0
_UDP_TABLES = ("/proc/self/net/udp", "/proc/self/net/udp6")
_INODE_COLUMN = 9


@dataclass(frozen=True, slots=True)
class Held:
    """A count of what is alive. `sockets` are inodes; `udp` those of them that are UDP."""

    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    sockets: frozenset[str]
    udp: frozenset[str]


def held() -> Held:
    """Look now. Threads of the loop's own executor are left out: they are kept for the next use."""
    sockets = _socket_inodes()
    return Held(
        frozenset(task for task in asyncio.all_tasks() if not task.done() and not _serves_a_connection(task)),
        frozenset(thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")),
        sockets,
        sockets & _udp_inodes(),
    )


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def settled(check: Callable[[], Any], seconds: float = SETTLE_SECONDS) -> Any:
    """Wait until `check()` gives something false, that is, nothing is left over; return what it last gave."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    # Tasks, sockets and threads tell nobody when they are gone.
    while (left := check()) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return left


async def nothing_left_since(before: Held, *, sockets: bool = True) -> None:
    """Fail, naming what is left, unless tasks, threads and sockets go back to `before` soon.

    `sockets=False` looks at UDP alone, for a moment at which HTTP connections are kept for the next request.
    """

    def left() -> list[str]:
        now = held()
        more = [repr(task) for task in now.tasks - before.tasks] + [str(each) for each in now.threads - before.threads]
        return more + sorted(now.sockets - before.sockets if sockets else now.udp - before.udp)

    still = await settled(left)
    if still:
        gc.collect()
        still = left()
    assert not still, still


def _serves_a_connection(task: asyncio.Task[Any]) -> bool:
    # An HTTP server's task lives as long as its kept-alive connection or a request held open: no session's.
    return task.get_coro().__qualname__.startswith("RequestHandler.")


def _socket_inodes() -> frozenset[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return frozenset(found)


def _udp_inodes() -> frozenset[str]:
    lines = [line for table in _UDP_TABLES if Path(table).exists() for line in Path(table).read_text().splitlines()[1:]]
    return frozenset(line.split()[_INODE_COLUMN] for line in lines)
