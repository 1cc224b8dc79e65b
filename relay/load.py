"""What this process has to carry, measured once a second: CPU, how late its loop is, open files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from relay.core.headroom import SAMPLE_SECONDS, LoadSample

if TYPE_CHECKING:
    from collections.abc import Callable

_TICKS = 10
_ROOT = Path("/")
_UNLIMITED = "max"


async def watch_load(
    take: Callable[[LoadSample], None], late: Callable[[float], None] = lambda _: None, root: Path = _ROOT
) -> NoReturn:
    """Give a sample a second, for ever, and to `late` by how many seconds each timer in between was late.

    `root` is where `/proc` and `/sys` are.
    """
    loop = asyncio.get_running_loop()
    began, used = loop.time(), time.process_time()
    while True:
        lag = 0.0
        for _ in range(_TICKS):
            due = loop.time() + SAMPLE_SECONDS / _TICKS
            await asyncio.sleep(SAMPLE_SECONDS / _TICKS)
            seconds = max(0.0, loop.time() - due)
            late(seconds)
            lag += seconds
        now, cpu = loop.time(), time.process_time()
        take(
            LoadSample(
                cpu=(cpu - used) / (now - began),
                cores=available_cores(root),
                loop_lag_seconds=lag / _TICKS,
                open_files=open_files(root),
                max_files=max_files(),
            )
        )
        began, used = now, cpu


def available_cores(root: Path = _ROOT) -> float:
    """How many cores this process and its siblings may use: by affinity, and by `cpu.max` of cgroup v2.

    `cpu.max` holds `QUOTA PERIOD` in microseconds or `max PERIOD` (Linux, cgroup-v2); the tightest one from the
    process's own group up to the root counts. Where there is none, or none that can be read, affinity decides.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    mounted = root / "sys/fs/cgroup"
    group = _own_group(root)
    for directory in (mounted / group, *(mounted / each for each in group.parents)):
        cores = min(cores, _quota(directory / "cpu.max") or cores)
    return cores


def open_files(root: Path = _ROOT) -> int:
    """How many descriptors this process has open; 0 where the system does not tell."""
    try:
        return len(os.listdir(root / "proc/self/fd"))  # noqa: PTH208 - names are enough, and this is done each second
    except OSError:
        return 0


def _own_group(root: Path) -> Path:
    """The path of this process's group in the one hierarchy of cgroup v2, from its mount."""
    try:
        lines = (root / "proc/self/cgroup").read_text("ascii", "replace").splitlines()
    except OSError:
        return Path()
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    # Seen from inside a namespace, a group outside of it begins with "/..": nothing of that is mounted here.
    return Path() if ".." in own.split("/") else Path(own.strip("/"))


def _quota(file: Path) -> float | None:
    try:
        quota, period = file.read_text("ascii").split()
        return None if quota == _UNLIMITED else max(int(quota) / int(period), 0.01)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def allow_all_files() -> None:
    """Raise how many descriptors may be open to what the system lets this process have, as Go's runtime does.

    The lower limit that most systems begin with is for programs that call `select`, and this one does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system whose hard limit is above what it can hold refuses: then the lower one stays.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_files() -> int:
    """How many descriptors this process may have open; 0 without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft
