"""How many sessions a relay carries, in one process and with workers, as far as the machine's cores let it be seen."""

from __future__ import annotations

from benchmarks.load import Call
from benchmarks.plan import Plan
from benchmarks.processes import Kind, on_cores, ours, relay_process, with_workers
from benchmarks.rounds import SETTLE_SECONDS, Group, measure
from benchmarks.stage import Stage
from benchmarks.table import Promise, Row, ratios, row_of
from benchmarks.voice import FRAME_SECONDS

_WORKERS = 2
_STEPS = (1.0, 1.5, float(_WORKERS))
# The lowest of these levels for one process, the highest for the workers: each process then has as many sessions.
_JUDGED = (0, -1)
_GRAIN_SECONDS = 0.001
_PACKETS_A_SECOND = 2 / FRAME_SECONDS
_CLOSE_SECONDS = 3.0
_CARRIED_BY_TWO = Promise(1.8, at_most=False)
P99_MS, LOSS = 50.0, 0.01


async def rows(stage: Stage, plan: Plan) -> list[Row]:
    """Give one relay after the other more and more calls; those with workers have every core but the load's.

    "Sessions a core of the busiest" is what the relay would carry if each of its processes had a core to itself: the
    sessions' worth of packets that arrived for each CPU second of its busiest process. It says nothing of latency. One
    process is judged with as many sessions as each of the workers has, for a process with fewer wakes up for fewer
    packets at a time, and pays more for each.
    """
    kinds = [ours(stage.service.url), with_workers(stage.service.url, _WORKERS)]
    spread = (stage.cores.usable - {stage.cores.load}) or stage.cores.usable
    carried, found = [], []
    for kind, level in zip(kinds, _JUDGED, strict=True):
        groups = await _climb(stage, plan, on_cores(kind, spread))
        busiest = row_of(
            "sessions a core of the busiest",
            groups[level],
            lambda each: each.arrived / _PACKETS_A_SECOND / max(0.001, *each.cpu),
            digits=0,
        )
        carried.append(busiest)
        found += [*(row for group in groups for row in _level(group)), _most(groups), busiest]
    return [*found, ratios("sessions, of one process's", carried[0], carried[1], _CARRIED_BY_TWO, inverse=True)]


async def _climb(stage: Stage, plan: Plan, kind: Kind) -> list[Group]:
    levels = [max(1, round(plan.sessions * step)) for step in _STEPS]
    async with relay_process(kind, stage.cores) as relay:
        calls: list[Call] = []
        while len(calls) < levels[-1]:
            calls.append(await stage.load.open(relay.door))
        groups = [Group(kind.name, calls[:level], relay.pid, grain=_GRAIN_SECONDS) for level in levels]
        settle = SETTLE_SECONDS * plan.waits
        await measure(stage.wire, stage.cores, groups, max(1, plan.rounds // 2), plan.seconds, settle=settle)
        await stage.load.close(calls)
        await stage.load.settle(calls, _CLOSE_SECONDS * plan.waits)
    return groups


def _level(group: Group) -> list[Row]:
    return [
        row_of("p99, ms", group, lambda each: max(each.latency_ms(99))),
        row_of("packets lost, %", group, lambda each: 100 * each.loss, digits=2),
        row_of("CPU of the relay, % of a core", group, lambda each: 100 * sum(each.cpu) / each.seconds, digits=0),
        row_of("CPU of the load, % of a core", group, lambda each: 100 * each.load_cpu, digits=0),
    ]


def _most(groups: list[Group]) -> Row:
    """The highest level with p99 ≤ 50 ms both ways and at most 1 % lost, in each round; 0 if not even the lowest."""
    most = []
    for turn in zip(*(group.slices for group in groups), strict=True):
        good = [
            len(group.calls)
            for group, each in zip(groups, turn, strict=True)
            if max(each.latency_ms(99)) <= P99_MS and each.loss <= LOSS
        ]
        most.append(float(max(good, default=0)))
    last = groups[-1]
    return Row("most that stayed within limits", last.name, len(last.calls), tuple(most), last.noise, digits=0)
