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
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import talking
from benchmarks.machine import usage
from benchmarks.processes import free_port, ours, relay_process
from benchmarks.rounds import Group, measure, percentile
from benchmarks.stage import Exit, common_options, keep, machine_lines, need_linux, run, stage

PHASES = ("quiet", "decoy", "strangers", "forged")
# What a shared machine loses anyway: kernel buffers overflow while somebody else has the core.
TOLERATED_LOSS = 0.005
_CAPTURED = 4_000
_REPLAYS_A_SECOND = 20
_STOP_SECONDS = 5.0
_WARM_UP_SECONDS = 1.5


@dataclass(slots=True)
class Phase:
    """One way of being disturbed: what was measured, and what was thrown."""

    group: Group
    thrown: Counter[str] = field(default_factory=Counter)
    thrown_seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """The share of each session's packets that did not arrive, 0 to 1."""
        by_call = zip(*(each.calls for each in self.group.slices), strict=True)
        return [sum(turn.lost for turn in call) / max(1, sum(turn.talked for turn in call)) for call in by_call]


class Attack:
    """The stranger's process under orders, and the forger, who works in ours because the sockets are here."""

    def __init__(self, process: asyncio.subprocess.Process, udp: int, tcp: int, captured: list[bytes]) -> None:
        self._process = process
        self._ports = udp, tcp
        self._captured = captured

    def around(self, phase: Phase) -> contextlib.AbstractAsyncContextManager[None]:
        """Disturb as the phase's name says."""
        match phase.group.name:
            case "decoy":
                return self._thrown(phase, "decoy")
            case "strangers":
                return self._thrown(phase, f"fire {self._ports[0]} {self._ports[1]}")
            case "forged":
                return self._forged(phase)
            case _:
                return contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def _thrown(self, phase: Phase, order: str) -> AsyncIterator[None]:
        commands, answers = self._process.stdin, self._process.stdout
        if commands is None or answers is None:
            raise ConnectionError("the stranger hears nothing")
        commands.write(f"{order}\n".encode())
        try:
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


async def measure_phases(sessions: int, seconds: float, rate: int) -> tuple[list[Phase], list[int]]:
    """Measure every phase; also the relay's resident kilobytes before the first and after each round of phases.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    udp, tcp = free_port(), free_port()
    async with stage() as everything:
        load = everything.load
        # Checks, handshakes and the sound of each session, while nobody attacks.
        captured: deque[bytes] = deque(maxlen=_CAPTURED)
        load.on_sent = captured.append
        kind = ours(everything.service.url, RELAY_ICE_UDP_PORT=str(udp), RELAY_ICE_TCP_PORT=str(tcp))
        async with relay_process(kind, everything.cores) as relay:
            calls = [await load.open(relay.door) for _ in range(sessions)]
            async with talking(everything.wire, calls):
                await asyncio.sleep(_WARM_UP_SECONDS)
            kept = list(captured)
            async with _stranger(kept, rate) as process:
                attack = Attack(process, udp, tcp, kept)
                phases = [_phase(Group(name, calls, relay.pid), attack) for name in PHASES]
                resident = [usage(relay.pid).rss_kb]
                await measure(
                    everything.wire, everything.cores, [phase.group for phase in phases], max(1, round(seconds)), 1.0,
                    after_round=lambda: resident.append(usage(relay.pid).rss_kb),
                )  # fmt: skip
            await load.close(calls)
    return phases, resident


def _phase(group: Group, attack: Attack) -> Phase:
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
    turns, losses, noise = phase.group.slices, phase.losses, phase.group.noise
    by_call = [
        sorted(ns / 1e6 for turn in call for times in (turn.to_service, turn.to_client) for ns in times)
        for call in zip(*(turn.calls for turn in turns), strict=True)
    ]
    everything = sorted(time for times in by_call for time in times)
    seconds, talked = sum(turn.seconds for turn in turns), [each.talked for turn in turns for each in turn.calls]
    lost = sum(each.lost for turn in turns for each in turn.calls)
    found: dict[str, Any] = {
        "name": phase.group.name,
        "sessions": len(phase.group.calls),
        "seconds": round(seconds, 2),
        "packets_sent": sum(talked),
        "packets_arrived": sum(talked) - lost,
        "loss_percent_worst_session": round(100 * max(losses), 3),
        "loss_percent_all": round(100 * lost / sum(talked), 3),
        "cpu_percent": round(100 * sum(sum(turn.cpu) for turn in turns) / seconds, 1),
        "load_cpu_percent": round(100 * statistics.mean(turn.load_cpu for turn in turns)),
        "foreign_cpu_relay_core_percent": round(100 * noise.relay_core),
        "stolen_cpu_percent": round(100 * noise.stolen),
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
    lines = machine_lines()
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
    common_options(parser)
    arguments = parser.parse_args()
    if arguments.sessions < 1 or arguments.seconds <= 0 or arguments.rate < 1:
        parser.error("sessions and rate must be 1 or more, seconds above 0")
    need_linux()
    phases, resident = run(measure_phases(arguments.sessions, arguments.seconds, arguments.rate), arguments.nice)
    found = [figures(phase) for phase in phases]
    print(report(found, resident))
    keep(arguments.json, {"phases": found, "resident_kb": resident})
    return Exit.MET if undisturbed(found) else Exit.MISSED


if __name__ == "__main__":
    sys.exit(main())
