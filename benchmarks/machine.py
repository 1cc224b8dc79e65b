"""What Linux tells of processes and cores, and which machine this is."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("aiortc", "aioice", "pylibsrtp", "av", "cryptography", "aiohttp")


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the relay runs and where the load runs, the same core when there is only one; and all that may be used."""

    relay: int
    load: int
    usable: frozenset[int]

    @classmethod
    def choose(cls) -> Cores:
        """Take the first two cores this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[min(1, len(usable) - 1)], frozenset(usable))


@dataclass(frozen=True, slots=True)
class Usage:
    """A process: CPU seconds since its start, resident kilobytes, threads, open file descriptors."""

    cpu_seconds: float
    rss_kb: int
    threads: int
    descriptors: int


def usage(pid: int) -> Usage:
    """Read /proc; raises OSError when the process is gone."""
    proc = Path(f"/proc/{pid}")
    # proc(5): the command may hold anything, so fields are counted from the bracket that ends it.
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
    descriptors = sum(1 for _ in (proc / "fd").iterdir())
    return Usage(cpu_seconds, int(status["VmRSS"].split()[0]), int(status["Threads"]), descriptors)


def usages(pid: int) -> tuple[Usage, ...]:
    """A process and its descendants, oldest first; one that ends meanwhile is left out."""
    found = []
    for each in (pid, *_descendants(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(usage(each))
    return tuple(found)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    # proc(5): the children that each thread of the process made.
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in children.read_text().split()]
    return sorted(found) + [each for child in found for each in _descendants(child)]


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Seconds since boot that a core worked, for anybody, and that the hypervisor gave to another machine (steal)."""

    busy: float
    stolen: float


def core_time(core: int) -> CoreTime:
    """Read /proc/stat; zeros for a core that is not in it."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            # proc(5): user nice system idle iowait irq softirq steal; guest time is part of user.
            return CoreTime(sum(int(fields[at]) for at in (0, 1, 2, 5, 6)) / _TICKS, int(fields[7]) / _TICKS)
    return CoreTime(0.0, 0.0)


def describe() -> dict[str, str]:
    """Name the machine and the versions the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split(maxsplit=2)[1]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory) / 1_048_576:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_event_loop()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _event_loop() -> str:
    """What `relay serve` runs on here."""
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio's event loop"
