"""What an open session costs while nobody speaks: descriptors, memory and CPU of the relay, with many on one port.

Both far ends of every session are in this process, joined by the relay under test in a process of its own. Exit code: 0
every session was open to the end, 1 some were lost, 2 it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.load import Call
from benchmarks.machine import Cores, Usage, core_time, usage
from benchmarks.processes import ours, relay_process
from benchmarks.stage import Exit, common_options, keep, machine_lines, need_linux, run, stage

_STEPS = 10
_PATIENCE, _PATIENCE_STEP_SECONDS = 50, 0.01


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
    calls: list[Call] = []
    async with stage() as everything:
        cores, load = everything.cores, everything.load
        kind = ours(everything.service.url, RELAY_LIMITS_MAX_SESSIONS=str(sessions))
        async with relay_process(kind, cores) as relay:
            calls.append(await load.open(relay.door))
            await asyncio.sleep(settle)
            first = usage(relay.pid)
            first_cpu = await _watched(relay.pid, cores, seconds)
            found = []
            for part in range(1, steps + 1):
                opened = len(calls)
                while len(calls) < sessions * part // steps:
                    calls.append(await load.open(relay.door))
                await asyncio.sleep(settle)
                cpu = await _watched(relay.pid, cores, seconds)
                found.append(_step(calls, opened, first, first_cpu, usage(relay.pid), cpu))
                print(_line(found[-1]), flush=True)
            answering = await _answering(calls)
            await load.close(calls)
    return Found(found, answering)


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
        setup_ms_p50=round(
            1e3 * statistics.median(call.clicks.mint + call.clicks.created for call in calls[opened:] or calls), 1
        ),
        rss_kb_per_session=round((now.rss_kb - first.rss_kb) / more, 1),
        descriptors_per_session=round((now.descriptors - first.descriptors) / more, 3),
        cpu_us_per_session_second=round(1e6 * (cpu[0] - first_cpu[0]) / more),
    )


async def _answering(calls: list[Call]) -> int:
    """Send one packet through every session; count those that arrive at the service."""
    arrived = 0
    for call in calls:
        before = call.streams[0].received
        call.streams[0].resume()
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
    common_options(parser)
    arguments = parser.parse_args()
    if not 1 <= arguments.steps <= arguments.sessions or arguments.seconds <= 0 or arguments.settle < 0:
        parser.error("steps must be 1 or more, sessions as many at least, seconds above 0, settle 0 or more")
    need_linux()
    print("\n".join(machine_lines()))
    print(f"\n{'sessions':>9}{'RSS MB':>10}{'kB/session':>12}{'descriptors':>13}{'per session':>12}{'CPU %':>8}"
          f"{'us/session/s':>16}{'setup ms':>10}{'threads':>9}{'other CPU %':>13}", flush=True)  # fmt: skip
    sizes = arguments.sessions, arguments.seconds, arguments.steps, arguments.settle
    found = run(measure(*sizes), arguments.nice)
    print(f"\n{found.answering} of {arguments.sessions} sessions carried a packet at the end")
    keep(arguments.json, {"steps": [asdict(step) for step in found.steps], "alive": found.answering})
    return Exit.MET if found.answering == arguments.sessions else Exit.MISSED


if __name__ == "__main__":
    sys.exit(main())
