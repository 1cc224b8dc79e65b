"""What strangers cost: sessions talk while random, empty, truncated, huge, bent and replayed datagrams and frames come.

The same sessions are measured in turns: in quiet, while the stranger's process throws as much at nobody (what its work
alone costs on a shared machine), while it throws at the relay, and while the sessions' own earlier datagrams come again
from their own addresses. Exit code: 0 no session lost more than in quiet, 1 one did, 2 it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.load import Call, Group, Load, Run, percentile
from benchmarks.machine import Cores, describe, usage
from benchmarks.processes import CLIENT_KEY, free_port, relay_command, relay_environment, relay_process
from benchmarks.service import Service

PHASES = ("quiet", "decoy", "strangers", "forged")
# What a shared machine loses anyway: kernel buffers overflow while somebody else has the core.
TOLERATED_LOSS = 0.005
_CAPTURED = 4_000
_REPLAYS_A_SECOND = 20
_STOP_SECONDS = 5.0
_MET, _MISSED, _FAILED = 0, 1, 2


@dataclass(slots=True)
class Phase:
    """One way of being disturbed: what was measured, and what each session lost in it (0 to 1)."""

    group: Group
    sent: list[int] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    thrown: Counter[str] = field(default_factory=Counter)
    thrown_seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """The share of each session's packets that did not arrive."""
        return [1 - there / sent if sent else 0.0 for sent, there in zip(self.sent, self.arrived, strict=True)]

    @contextlib.asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Count what the sessions send and get meanwhile."""
        before = [_counts(call) for call in self.group.calls]
        yield
        after = [_counts(call) for call in self.group.calls]
        self.sent = self.sent or [0] * len(after)
        self.arrived = self.arrived or [0] * len(after)
        for at, (one, two) in enumerate(zip(before, after, strict=True)):
            self.sent[at] += two[0] - one[0]
            self.arrived[at] += two[1] - one[1]


def _counts(call: Call) -> tuple[int, int]:
    return sum(stream.sent for stream in call.streams), sum(stream.received for stream in call.streams)


class Attack:
    """The stranger's process under orders, and the forger, who works in ours because the sockets are here."""

    def __init__(self, process: asyncio.subprocess.Process, udp: int, tcp: int, captured: list[bytes]) -> None:
        self._process = process
        self._ports = udp, tcp
        self._captured = captured

    def around(self, phase: Phase) -> contextlib.AbstractAsyncContextManager[None]:
        """Disturb as the phase's name says."""
        match phase.group.run.name:
            case "decoy":
                return self._thrown(phase, "decoy")
            case "strangers":
                return self._thrown(phase, f"fire {self._ports[0]} {self._ports[1]}")
            case "forged":
                return self._forged(phase)
            case _:
                return phase.counted()

    @contextlib.asynccontextmanager
    async def _thrown(self, phase: Phase, order: str) -> AsyncIterator[None]:
        commands, answers = self._process.stdin, self._process.stdout
        if commands is None or answers is None:
            raise ConnectionError("the stranger hears nothing")
        commands.write(f"{order}\n".encode())
        try:
            async with phase.counted():
                yield
        finally:
            commands.write(b"rest\n")
            async with asyncio.timeout(_STOP_SECONDS):
                line = await answers.readline()
            if not line:
                raise ConnectionError("the stranger died")
            told = json.loads(line)
            phase.thrown += Counter(told["thrown"])
            phase.thrown_seconds += told["seconds"]

    @contextlib.asynccontextmanager
    async def _forged(self, phase: Phase) -> AsyncIterator[None]:
        began = time.monotonic()
        replaying = asyncio.create_task(self._replay(phase))
        try:
            async with phase.counted():
                yield
        finally:
            replaying.cancel()
            await asyncio.gather(replaying, return_exceptions=True)
            phase.thrown_seconds += time.monotonic() - began

    async def _replay(self, phase: Phase) -> None:
        source = random.Random(29)
        clients = [call.client for call in phase.group.calls]
        while True:
            for client in clients:
                client.send_raw(source.choice(self._captured))
                phase.thrown["replayed from its own address"] += 1
                await asyncio.sleep(1 / _REPLAYS_A_SECOND / len(clients))


async def measure(sessions: int, seconds: float, rate: int) -> tuple[list[Phase], list[int]]:
    """Measure every phase; also the relay's resident kilobytes before the first and after each round of phases.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    cores = Cores.choose()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    certificate = RTCCertificate.generateCertificate()
    udp, tcp = free_port(), free_port()
    ports = {"RELAY_ICE_UDP_PORT": str(udp), "RELAY_ICE_TCP_PORT": str(tcp)}
    try:
        async with Service(certificate).served() as service, aiohttp.ClientSession() as http:
            load = Load(service, certificate, cores, http)
            # Checks, handshakes and the sound of each session, while nobody attacks.
            captured: deque[bytes] = deque(maxlen=_CAPTURED)
            load.on_sent = captured.append
            environment = relay_environment(service.url, **ports)
            async with (
                relay_process(relay_command(), environment, cores) as relay,
                load.calls("quiet", relay.url, CLIENT_KEY, sessions, relay.pid) as quiet,
            ):
                await load.warm_up(quiet)
                kept = list(captured)
                async with _stranger(kept, rate) as process:
                    attack = Attack(process, udp, tcp, kept)
                    phases = [_phase(name, quiet, attack) for name in PHASES]
                    resident = [usage(relay.pid).rss_kb]
                    await load.measure(
                        [phase.group for phase in phases],
                        seconds,
                        after_round=lambda: resident.append(usage(relay.pid).rss_kb),
                    )
                return phases, resident
    finally:
        os.sched_setaffinity(0, usable)


def _phase(name: str, base: Group, attack: Attack) -> Phase:
    group = Group(Run(name, base.run.sessions), base.pid)
    group.calls = base.calls
    phase = Phase(group)
    group.during = lambda: attack.around(phase)
    return phase


@contextlib.asynccontextmanager
async def _stranger(captured: list[bytes], rate: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the stranger on the load's core: on the relay's it would take what it is to be measured against."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(len(each).to_bytes(2, "big") + each for each in captured))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.stranger", "--captured", file.name, "--rate", str(rate),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


# --- figures -------------------------------------------------------------------------------------------------------


def figures(phase: Phase) -> dict[str, Any]:
    """All figures of one phase: latency of all sessions and of the worst one, loss likewise, the relay's CPU."""
    run = phase.group.run
    by_call = [sorted(times) for times in run.by_call_ms]
    everything = sorted(time for times in by_call for time in times)
    found: dict[str, Any] = {
        "name": run.name,
        "sessions": run.sessions,
        "seconds": round(run.seconds, 2),
        "packets_sent": sum(phase.sent),
        "packets_arrived": sum(phase.arrived),
        "loss_percent_worst_session": round(100 * max(phase.losses), 3),
        "loss_percent_all": round(100 * (1 - sum(phase.arrived) / sum(phase.sent)), 3),
        "cpu_percent": round(100 * run.cpu_seconds / run.seconds, 1),
        "load_cpu_percent": round(100 * run.load_cpu),
        "foreign_cpu_relay_core_percent": round(100 * run.foreign_relay_core),
        "stolen_cpu_percent": round(100 * run.stolen),
        "thrown_per_second": round(_landed(phase.thrown) / phase.thrown_seconds) if phase.thrown_seconds else 0,
        "thrown": dict(phase.thrown),
    }
    for percent in (50, 95, 99):
        found[f"latency_ms_p{percent}"] = round(percentile(everything, percent), 3)
        worst = max(percentile(times, percent) for times in by_call)
        found[f"latency_ms_p{percent}_worst_session"] = round(worst, 3)
    return found


def _landed(thrown: Counter[str]) -> int:
    return sum(number for name, number in thrown.items() if "not " not in name and name != "tcp connections")


def report(found: list[dict[str, Any]], resident: list[int]) -> str:
    """Lay the figures out for a reader."""
    lines = [f"{name:<10}{value}" for name, value in describe().items()]
    head = f"{'':<12}{'thrown/s':>9}{'latency ms p50/p95/p99':>26}{'worst session':>26}"
    lines += ["", f"{head}{'lost %':>9}{'worst %':>9}{'relay CPU %':>13}{'other CPU %':>13}"]
    for each in found:
        latency = " / ".join(f"{each[f'latency_ms_p{percent}']:.2f}" for percent in (50, 95, 99))
        worst = " / ".join(f"{each[f'latency_ms_p{percent}_worst_session']:.2f}" for percent in (50, 95, 99))
        lines.append(
            f"{each['name']:<12}{each['thrown_per_second']:>9}{latency:>26}{worst:>26}{each['loss_percent_all']:>9}"
            f"{each['loss_percent_worst_session']:>9}{each['cpu_percent']:>13}"
            f"{each['foreign_cpu_relay_core_percent']:>13}"
        )
    lines.append("")
    lines.append(f"resident kB, before and after each round: {' '.join(str(each) for each in resident)}")
    growth = statistics.mean(resident[-3:]) - resident[min(1, len(resident) - 1)]
    lines.append(f"growth from the first round to the mean of the last three: {growth:.0f} kB")
    return "\n".join(lines)


def undisturbed(found: list[dict[str, Any]]) -> bool:
    """Whether no session lost more under any attack than the worst did without one, and a little."""
    by_name: dict[str, float] = {each["name"]: each["loss_percent_worst_session"] for each in found}
    limit = max(by_name["quiet"], by_name["decoy"]) + 100 * TOLERATED_LOSS
    return by_name["strangers"] <= limit and by_name["forged"] <= limit


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="What strangers cost.")
    parser.add_argument("--sessions", type=int, default=20, help="sessions that talk (20)")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of each phase (20)")
    parser.add_argument("--rate", type=int, default=10_000, help="datagrams and frames a second (10000)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all processes; below 0 needs privilege (0)")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("needs Linux: CPU and memory are read from /proc", file=sys.stderr)
        return _FAILED
    if arguments.sessions < 1 or arguments.seconds <= 0 or arguments.rate < 1:
        parser.error("sessions and rate must be 1 or more, seconds above 0")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
        phases, resident = asyncio.run(measure(arguments.sessions, arguments.seconds, arguments.rate))
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        print(f"could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        return _FAILED
    found = [figures(phase) for phase in phases]
    print(report(found, resident))
    if arguments.json is not None:
        document = {"machine": describe(), "phases": found, "resident_kb": resident}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return _MET if undisturbed(found) else _MISSED


if __name__ == "__main__":
    sys.exit(main())
