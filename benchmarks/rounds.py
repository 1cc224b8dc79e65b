"""Groups of calls that talk and are measured in turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Call, talking
from benchmarks.machine import Cores, CoreTime, Usage, core_time, usages
from benchmarks.wire import Wire

SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Noise:
    """What others did to the machine, in shares of a core: on the relay's, on the load's, taken by the hypervisor."""

    relay_core: float = 0.0
    load_core: float = 0.0
    stolen: float = 0.0

    @classmethod
    def of(cls, several: Sequence[Noise]) -> Noise:
        """The median of each."""
        if not several:
            return cls()
        return cls(
            statistics.median(each.relay_core for each in several),
            statistics.median(each.load_core for each in several),
            statistics.median(each.stolen for each in several),
        )


@dataclass(frozen=True, slots=True)
class CallSlice:
    """One call in one slice: packets of both directions, and how long they took in nanoseconds.

    `lost` of `talked` did not arrive in the whole of the turn, its beginning and end included.
    """

    arrived: int
    talked: int
    lost: int
    to_service: array[int]
    to_client: array[int]


@dataclass(frozen=True, slots=True)
class Slice:
    """One turn of one group. CPU is of the relay's processes, in seconds, the first process first."""

    seconds: float
    calls: list[CallSlice]
    cpu: tuple[float, ...]
    threads: int
    load_cpu: float
    noise: Noise

    @property
    def arrived(self) -> int:
        """Packets that arrived, both ways."""
        return sum(call.arrived for call in self.calls)

    @property
    def cpu_us_per_packet(self) -> float:
        """CPU microseconds of the relay, everything included, for each packet that arrived at either end."""
        return sum(self.cpu) * 1e6 / self.arrived if self.arrived else 0.0

    @property
    def loss(self) -> float:
        """The share of packets that did not arrive, 0 to 1."""
        talked = sum(call.talked for call in self.calls)
        return sum(call.lost for call in self.calls) / talked if talked else 0.0

    def latency_ms(self, percent: float) -> tuple[float, float]:
        """A percentile of the one-way latency, to the service and to the client."""
        to_service = sorted(time for call in self.calls for time in call.to_service)
        to_client = sorted(time for call in self.calls for time in call.to_client)
        return percentile(to_service, percent) / 1e6, percentile(to_client, percent) / 1e6


@dataclass(slots=True)
class Group:
    """Calls that talk at the same time, through the relay with process id `pid`, or directly.

    `during` is entered around each turn; `grain` is that of `talking`; `helper` is a process that belongs to the load.
    After each turn there is silence for `drain` seconds, in which late packets still count as arrived.
    """

    name: str
    calls: Sequence[Call]
    pid: int | None = None
    during: Callable[[], contextlib.AbstractAsyncContextManager[None]] = contextlib.nullcontext
    grain: float = 0.0
    helper: int | None = None
    drain: float = 0.2
    slices: list[Slice] = field(default_factory=list)

    @property
    def noise(self) -> Noise:
        """The median over the slices."""
        return Noise.of([each.noise for each in self.slices])


async def measure(
    wire: Wire,
    cores: Cores,
    groups: Sequence[Group],
    rounds: int,
    seconds: float,
    after_round: Callable[[], None] = lambda: None,
    settle: float = SETTLE_SECONDS,
) -> None:
    """Let each group talk for `settle` and be measured for `seconds`, one after the other, `rounds` times."""
    for _ in range(rounds):
        for group in groups:
            async with group.during():
                group.slices.append(await _turn(wire, group, cores, seconds, settle))
        after_round()


async def _turn(wire: Wire, group: Group, cores: Cores, seconds: float, settle: float) -> Slice:
    streams = [stream for call in group.calls for stream in call.streams]
    pids = () if group.pid is None else (group.pid,)
    began = [(stream.sent, stream.received) for stream in streams]
    async with talking(wire, group.calls, group.grain):
        await asyncio.sleep(settle)
        counts = [stream.received for stream in streams]
        before = Reading.take(pids, cores, group.helper)
        for stream in streams:
            stream.time(on=True)
        await asyncio.sleep(seconds)
        for stream in streams:
            stream.time(on=False)
        after = Reading.take(pids, cores, group.helper)
        arrived = [stream.received - count for stream, count in zip(streams, counts, strict=True)]
    await asyncio.sleep(group.drain)
    talked = [stream.sent - sent for stream, (sent, _) in zip(streams, began, strict=True)]
    heard = [stream.received - received for stream, (_, received) in zip(streams, began, strict=True)]
    calls = []
    for at, call in enumerate(group.calls):
        both = slice(2 * at, 2 * at + 2)
        lost = sum(max(0, one - other) for one, other in zip(talked[both], heard[both], strict=True))
        there, back = call.streams
        calls.append(CallSlice(sum(arrived[both]), sum(talked[both]), lost, there.take_times(), back.take_times()))
    threads = sum(process.threads for process in after.processes)
    return Slice(
        after.clock - before.clock, calls, before.cpu_until(after), threads, before.load_until(after),
        before.noise_until(after, cores),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of the machine show: of the relay's processes, of the load's, of both cores."""

    clock: float
    processes: tuple[Usage, ...]
    load_cpu: float
    relay_core: CoreTime
    load_core: CoreTime

    @classmethod
    def take(cls, pids: Sequence[int], cores: Cores, helper: int | None = None) -> Reading:
        """Read them for the relays with these process ids, and for this process and its helper, if any."""
        own = os.times()
        helping = sum(each.cpu_seconds for each in usages(helper)) if helper is not None else 0.0
        return cls(
            time.monotonic(),
            tuple(each for pid in pids for each in usages(pid)),
            own.user + own.system + helping,
            core_time(cores.relay),
            core_time(cores.load),
        )

    def cpu_until(self, after: Reading) -> tuple[float, ...]:
        """CPU seconds of each of the relay's processes."""
        pairs = zip(self.processes, after.processes, strict=False)
        return tuple(now.cpu_seconds - then.cpu_seconds for then, now in pairs)

    def load_until(self, after: Reading) -> float:
        """The load's share of a core."""
        return (after.load_cpu - self.load_cpu) / (after.clock - self.clock)

    def noise_until(self, after: Reading, cores: Cores) -> Noise:
        """What the cores did beyond the relay and the load."""
        seconds = after.clock - self.clock
        relay, load = sum(self.cpu_until(after)), after.load_cpu - self.load_cpu
        ours = (relay, load) if cores.relay != cores.load else (relay + load,) * 2
        stolen = (after.relay_core.stolen - self.relay_core.stolen + after.load_core.stolen - self.load_core.stolen) / 2
        return Noise(
            max(0.0, after.relay_core.busy - self.relay_core.busy - ours[0]) / seconds,
            max(0.0, after.load_core.busy - self.load_core.busy - ours[1]) / seconds,
            stolen / seconds,
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Pick the nearest rank of a sorted sequence; 0 for an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
