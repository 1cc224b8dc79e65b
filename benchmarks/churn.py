"""What opening costs: how long a click takes, CPU to open and close a call, what calls that talk notice of others."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Sequence

from benchmarks.forwarding import DIRECT, kinds
from benchmarks.load import Call, Door
from benchmarks.opener import Opened, OpenerProcess, opener_process
from benchmarks.plan import Plan
from benchmarks.processes import GO, STOCK, Kind, Started, relay_process
from benchmarks.rounds import SETTLE_SECONDS, Group, Noise, Reading, measure
from benchmarks.stage import Stage
from benchmarks.table import Promise, Row, row_of

_AUDIO_SECONDS = 3.0
_CLOSE_SECONDS = 2.0
_HANG_UP_SECONDS = 0.2
_QUIET_SECONDS = 1.0
# How long a call stays that is opened beside others.
_HOLD_SECONDS = 2.0
# What comes every few seconds, as full collections of garbage did, must be seen in every turn.
_LONGER = 3
# The load sends what is due within a millisecond together, so that its core has room for the opener.
_GRAIN_SECONDS = 0.001
_CHANNEL_OF_GO = Promise(1.5)
_CPU_MS = Promise(10.0)
_P99_BESIDE = Promise(20.0)


# --- clicks --------------------------------------------------------------------------------------------------------


async def click_rows(stage: Stage, plan: Plan) -> list[Row]:
    """Click through every relay and directly, in turns, one call at a time; then the CPU of opening and closing."""
    stage.service.greets = True
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(relay_process(kind, stage.cores)) for kind in kinds(stage.service.url, plan)
        ]
        doors = {DIRECT: Door(stage.service.url)} | {relay.name: relay.door for relay in relays}
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in doors}
        pids = [relay.pid for relay in relays]
        began = Reading.take(pids, stage.cores)
        for turn in range(plan.clicks + 1):
            for name, door in doors.items():
                click = await _click(stage, door)
                # The first call pays for what a process loads once.
                if turn:
                    seen[name].append(click)
        stage.service.greets = False
        noise = began.noise_until(Reading.take(pids, stage.cores), stage.cores)
        openers = [relay for relay in relays if relay.name != STOCK]
        return _clicks_found(seen, noise) + await _cpu_rows(stage, plan, openers)


async def _click(stage: Stage, door: Door) -> tuple[float, float, float]:
    """Milliseconds from the offer's sending to its answer, to the open channel, to the first audio at the client."""
    call = await stage.load.open(door)
    async with asyncio.timeout(_AUDIO_SECONDS):
        await call.sound.heard.wait()
    await stage.load.close([call])
    await stage.load.settle([call], _HANG_UP_SECONDS)
    return call.clicks.answer * 1e3, call.clicks.channel * 1e3, call.sound.ms


def _clicks_found(seen: dict[str, list[tuple[float, float, float]]], noise: Noise) -> list[Row]:
    found = [
        Row(f"click to {what}, ms", name, 1, tuple(click[at] for click in clicks), noise)
        for at, what in enumerate(("answer", "channel", "first audio"))
        for name, clicks in seen.items()
    ]
    channel = {row.relay: row.median for row in found if row.figure == "click to channel, ms"}
    if GO in channel:
        found += [
            Row("click to channel, of the Go relay's", name, 1, (median / channel[GO],), noise, _CHANNEL_OF_GO, 2)
            for name, median in channel.items()
            if name not in {GO, STOCK, DIRECT}
        ]  # fmt: skip
    return found


async def _cpu_rows(stage: Stage, plan: Plan, relays: Sequence[Started]) -> list[Row]:
    """Open and close calls, one after the other and without sound, and see what CPU the relay took for each.

    A key of ours is minted before and told apart: the relay in Go has none to mint. The stock way is not asked: it
    never closes its second leg.
    """
    minted: dict[str, list[float]] = {relay.name: [] for relay in relays if not relay.door.preview}
    taken: dict[str, list[float]] = {relay.name: [] for relay in relays}
    noises: list[Noise] = []
    for _ in range(plan.rounds):
        for relay in relays:
            keys = [""] * plan.opened
            if relay.name in minted:
                before = Reading.take((relay.pid,), stage.cores)
                keys = [await stage.load.mint(relay.door) for _ in keys]
                minted[relay.name].append(_each_ms(before, Reading.take((relay.pid,), stage.cores), plan))
            before = Reading.take((relay.pid,), stage.cores)
            calls = []
            for key in keys:
                calls.append(await stage.load.open(relay.door, key))
                await stage.load.close(calls[-1:])
            await asyncio.sleep(_QUIET_SECONDS * plan.waits)
            after = Reading.take((relay.pid,), stage.cores)
            taken[relay.name].append(_each_ms(before, after, plan))
            noises.append(before.noise_until(after, stage.cores))
            await stage.load.settle(calls, 0.0)
    noise = Noise.of(noises)
    return [
        *(Row("CPU ms to mint a key", name, 1, tuple(times), noise) for name, times in minted.items()),
        *(
            Row("CPU ms to open and close", name, 1, tuple(times), noise, None if name == GO else _CPU_MS)
            for name, times in taken.items()
        ),
    ]


def _each_ms(before: Reading, after: Reading, plan: Plan) -> float:
    return sum(before.cpu_until(after)) / plan.opened * 1e3


# --- calls opened beside others ------------------------------------------------------------------------------------


async def rows(stage: Stage, plan: Plan) -> list[Row]:
    """Measure calls that talk while others are opened and closed beside them, at every relay but the stock one."""
    found = []
    async with opener_process() as opener:
        for kind in kinds(stage.service.url, plan):
            if kind.name != STOCK:
                found += await _beside(stage, plan, kind, opener)
    return found


async def _beside(stage: Stage, plan: Plan, kind: Kind, opener: OpenerProcess) -> list[Row]:
    """In turns: nobody opens; calls are opened without the relay, which costs the load's core as much; through it."""
    stage.service.handed_to = None
    hold = _HOLD_SECONDS * plan.waits
    async with relay_process(kind, stage.cores) as relay:
        calls: list[Call] = []
        while len(calls) < plan.sessions:
            calls.append(await stage.load.open(relay.door))
        stage.service.handed_to = opener.service_url
        elsewhere: list[Opened] = []
        through: list[Opened] = []
        quiet = Group("nobody opens", calls, relay.pid, grain=_GRAIN_SECONDS, helper=opener.process.pid)
        decoy = Group("opened elsewhere", calls, relay.pid, grain=_GRAIN_SECONDS, helper=opener.process.pid)
        decoy.during = lambda: opener.opening(Door(opener.service_url), plan.rate, hold, elsewhere)
        churn = Group("opened through it", calls, relay.pid, grain=_GRAIN_SECONDS, helper=opener.process.pid)
        churn.during = lambda: opener.opening(relay.door, plan.rate, hold, through)
        groups = [quiet, decoy, churn]
        await measure(
            stage.wire, stage.cores, groups, max(1, plan.rounds // 2), plan.seconds * _LONGER,
            settle=SETTLE_SECONDS * plan.waits,
        )  # fmt: skip
        await stage.load.close(calls)
        await stage.load.settle(calls, _CLOSE_SECONDS * plan.waits)
    found = []
    for group in groups:
        promise = _P99_BESIDE if group is churn and kind.name != GO else None
        found.append(
            row_of(f"p99, ms, {group.name}", group, lambda each: max(each.latency_ms(99)), promise, 1, kind.name)
        )
    pace = tuple(len(each.channel_ms) / each.seconds for each in through)
    channel = tuple(statistics.median(each.channel_ms) if each.channel_ms else 0.0 for each in through)
    failed = tuple(float(each.failed + each.left_out) for each in through)
    found.append(Row("opened a second beside them", kind.name, len(calls), pace, churn.noise))
    found.append(Row("their click to channel, ms", kind.name, len(calls), channel, churn.noise))
    found.append(Row("of them failed or left out", kind.name, len(calls), failed, churn.noise, digits=0))
    return found
