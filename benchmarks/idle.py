"""What an open session costs while nobody speaks: descriptors, memory and CPU of the relay, with many on one port.

Both far ends of every session are in this process, joined by the relay under test in a process of its own. Exit code: 0
every session was open to the end, 1 some were lost, 2 it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from aiortc import RTCCertificate

from benchmarks.load import Call, Load
from benchmarks.machine import Cores, Usage, core_time, describe, usage
from benchmarks.processes import CLIENT_KEY, relay_command, relay_environment, relay_process
from benchmarks.service import Service

_STEPS = 10
# A socket for each far end, and for each session one of the relay's.
_OUR_DESCRIPTORS = 2
_SPARE_DESCRIPTORS = 200
_PATIENCE, _PATIENCE_STEP_SECONDS = 50, 0.01
_MET, _MISSED, _FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Step:
    """The relay with so many sessions open: per session is the growth since the first session, over the others."""

    sessions: int
    rss_kb: int
    descriptors: int
    threads: int
    cpu_percent: float
    other_cpu_percent: float
    setup_ms_p50: float
    rss_kb_per_session: float
    descriptors_per_session: float
    cpu_us_per_session_second: float


@dataclass(frozen=True, slots=True)
class Found:
    """Every step, and how many sessions still answered at the end."""

    steps: list[Step]
    answering: int


async def measure(sessions: int, seconds: float, steps: int, settle: float) -> Found:
    """Open sessions in `steps` equal parts; after each, wait `settle` seconds and watch the relay for `seconds`.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    cores = Cores.choose()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    certificate = RTCCertificate.generateCertificate()
    calls: list[Call] = []
    try:
        async with Service(certificate).served() as service, aiohttp.ClientSession() as http:
            load = Load(service, certificate, cores, http)
            environment = relay_environment(service.url, RELAY_LIMITS_MAX_SESSIONS=str(sessions))
            async with relay_process(relay_command(), environment, cores) as relay:
                calls.append(await load.open(relay.url, CLIENT_KEY))
                await asyncio.sleep(settle)
                first = usage(relay.pid)
                first_cpu = await _watched(relay.pid, cores, seconds)
                found = []
                for part in range(1, steps + 1):
                    opened = len(calls)
                    while len(calls) < sessions * part // steps:
                        calls.append(await load.open(relay.url, CLIENT_KEY))
                    await asyncio.sleep(settle)
                    cpu = await _watched(relay.pid, cores, seconds)
                    found.append(_step(calls, opened, first, first_cpu, usage(relay.pid), cpu))
                    print(_line(found[-1]), flush=True)
                answering = await _answering(calls)
                await asyncio.gather(*(call.client.close() for call in calls))
                return Found(found, answering)
    finally:
        os.sched_setaffinity(0, usable)


async def _watched(pid: int, cores: Cores, seconds: float) -> tuple[float, float]:
    """Shares of its core that the relay and all others take for a while."""
    before, core, began = usage(pid), core_time(cores.relay), time.monotonic()
    await asyncio.sleep(seconds)
    taken = time.monotonic() - began
    own = usage(pid).cpu_seconds - before.cpu_seconds
    busy = core_time(cores.relay).busy - core.busy
    return own / taken, max(0.0, busy - own) / taken


def _step(
    calls: list[Call], opened: int, first: Usage, first_cpu: tuple[float, float], now: Usage, cpu: tuple[float, float]
) -> Step:
    more = max(1, len(calls) - 1)
    return Step(
        sessions=len(calls),
        rss_kb=now.rss_kb,
        descriptors=now.descriptors,
        threads=now.threads,
        cpu_percent=round(100 * cpu[0], 1),
        other_cpu_percent=round(100 * cpu[1]),
        setup_ms_p50=round(1e3 * statistics.median(call.setup_seconds for call in calls[opened:] or calls), 1),
        rss_kb_per_session=round((now.rss_kb - first.rss_kb) / more, 1),
        descriptors_per_session=round((now.descriptors - first.descriptors) / more, 3),
        cpu_us_per_session_second=round(1e6 * (cpu[0] - first_cpu[0]) / more),
    )


async def _answering(calls: list[Call]) -> int:
    """Send one packet through every session; count those that arrive at the service."""
    arrived = 0
    for call in calls:
        before = call.streams[0].received
        call.streams[0].send()
        for _ in range(_PATIENCE):
            await asyncio.sleep(_PATIENCE_STEP_SECONDS)
            if call.streams[0].received > before:
                break
        arrived += call.streams[0].received > before
    return arrived


def _line(step: Step) -> str:
    return (
        f"{step.sessions:>9}{step.rss_kb / 1024:>10.0f}{step.rss_kb_per_session:>12}{step.descriptors:>13}"
        f"{step.descriptors_per_session:>12}{step.cpu_percent:>8}{step.cpu_us_per_session_second:>16}"
        f"{step.setup_ms_p50:>10}{step.threads:>9}{step.other_cpu_percent:>13}"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description="What an idle session costs.")
    parser.add_argument("--sessions", type=int, default=1000, help="sessions open at once (1000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the relay is watched at each step (10)")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds of waiting before that (5)")
    parser.add_argument("--steps", type=int, default=_STEPS, help=f"how often on the way ({_STEPS})")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all processes; below 0 needs privilege (0)")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("needs Linux: CPU and memory are read from /proc", file=sys.stderr)
        return _FAILED
    if not 1 <= arguments.steps <= arguments.sessions or arguments.seconds <= 0 or arguments.settle < 0:
        parser.error("steps must be 1 or more, sessions as many at least, seconds above 0, settle 0 or more")
    needed = arguments.sessions * _OUR_DESCRIPTORS + _SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        print(f"needs {needed} open files, the limit is {hard}", file=sys.stderr)
        return _FAILED
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name, value in describe().items():
        print(f"{name:<10}{value}")
    print(f"\n{'sessions':>9}{'RSS MB':>10}{'kB/session':>12}{'descriptors':>13}{'per session':>12}{'CPU %':>8}"
          f"{'us/session/s':>16}{'setup ms':>10}{'threads':>9}{'other CPU %':>13}", flush=True)  # fmt: skip
    try:
        os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
        found = asyncio.run(measure(arguments.sessions, arguments.seconds, arguments.steps, arguments.settle))
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        print(f"could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        return _FAILED
    print(f"\n{found.answering} of {arguments.sessions} sessions carried a packet at the end")
    if arguments.json is not None:
        document = {"machine": describe(), "steps": [asdict(step) for step in found.steps], "alive": found.answering}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return _MET if found.answering == arguments.sessions else _MISSED


if __name__ == "__main__":
    sys.exit(main())
