"""What forwarding costs: CPU per packet, added one-way latency, memory, each beside the stock way and one in Go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.far_ends import far_ends
from benchmarks.load import Call, Door, Load, talking
from benchmarks.machine import usages
from benchmarks.plan import Plan
from benchmarks.processes import COMPILED, GO, STOCK, Kind, Started, all_of_ours, in_go, relay_process, stock
from benchmarks.rounds import SETTLE_SECONDS, Group, Noise, Reading, measure
from benchmarks.stage import Stage
from benchmarks.table import Promise, Row, ratios, row_of

DIRECT = "no relay"
_PERCENTS = (50, 95, 99)
_SCRAPE_SECONDS = 5.0
_FIRST_TALK_SECONDS = 1.5
_CLOSE_SECONDS = 3.0
# Near saturation it goes on transcoding what it was sent, on the core of the relay whose turn is next.
_STOCK_DRAIN_SECONDS = 1.5
# Of the median relay latency over the direct one; p99 has no promise.
_ADDED = {50: Promise(0.1), 95: Promise(1.0), 99: None}
_MEMORY = Promise(400.0)
_OF_GO = Promise(0.75)
_OF_GO_COMPILED = Promise(0.65)
_OF_STOCK = Promise(40.0, at_most=False)


@dataclass(slots=True)
class _Relay:
    """A relay that is started for its turns and stopped after them, and what it took to hold its calls."""

    kind: Kind
    many: int
    cpu: list[Group]
    latency: list[Group]
    kb_per_session: float = 0.0
    threads: tuple[int, int] = (0, 0)
    noise: Noise = field(default_factory=Noise)


async def rows(stage: Stage, plan: Plan) -> list[Row]:
    """Measure one relay after the other, alone on its core, and direct calls before each round of them."""
    async with far_ends() as far:
        load = stage.load_to(far)
        direct = Group(DIRECT, [await load.open(Door(far.url)) for _ in range(plan.few)], helper=far.pid)
        relays = [_relay(kind, plan, far.pid) for kind in kinds(far.url, plan)]
        for number in range(plan.visits):
            await _measure(stage, plan, [direct])
            for relay in relays:
                await _visit(stage, plan, load, relay, first=not number)
        await load.close(direct.calls)
        await load.settle(direct.calls, _CLOSE_SECONDS * plan.waits)
    cpu = [group for relay in relays for group in relay.cpu]
    latency = [direct, *(group for relay in relays for group in relay.latency)]
    return cpu_rows(cpu) + latency_rows(latency, cpu) + _memory_rows(relays)


def _relay(kind: Kind, plan: Plan, helper: int) -> _Relay:
    if kind.name == STOCK:
        drain = _STOCK_DRAIN_SECONDS * plan.waits
        return _Relay(kind, max(plan.stock), [Group(kind.name, (), helper=helper, drain=drain) for _ in plan.stock], [])
    alone = [Group(kind.name, (), helper=helper)], [Group(kind.name, (), helper=helper)]
    return _Relay(kind, max(plan.sessions, plan.few), *alone)


async def _visit(stage: Stage, plan: Plan, load: Load, relay: _Relay, *, first: bool) -> None:
    """Start a relay, open its calls, have it take one turn of each kind, and stop it."""
    async with relay_process(relay.kind, stage.cores) as started:
        calls: list[Call] = []
        if first:
            await _weigh(stage, plan, load, relay, started, calls)
        await _open(load, started, calls, relay.many)
        sizes = plan.stock if relay.kind.name == STOCK else (plan.sessions,)
        for group, many in [*zip(relay.cpu, sizes, strict=True), *((group, plan.few) for group in relay.latency)]:
            group.calls, group.pid = calls[:many], started.pid
            if started.metrics:
                group.during = lambda: scraped(stage.http, started.metrics)
        await _measure(stage, plan, [*relay.cpu, *relay.latency])
        await load.close(calls)
        await load.settle(calls, _CLOSE_SECONDS * plan.waits)


async def _measure(stage: Stage, plan: Plan, groups: Sequence[Group]) -> None:
    await measure(stage.wire, stage.cores, groups, 1, plan.seconds, settle=SETTLE_SECONDS * plan.waits)


async def _open(load: Load, started: Started, calls: list[Call], many: int) -> None:
    while len(calls) < many:
        calls.append(await load.open(started.door))


async def _weigh(stage: Stage, plan: Plan, load: Load, relay: _Relay, started: Started, calls: list[Call]) -> None:
    """Open the calls in two halves: the second shows what one session more costs, with sound in all."""
    weights = []
    before = Reading.take((started.pid,), stage.cores)
    half = max(1, relay.many // 2)
    for until in (half, relay.many):
        await _open(load, started, calls, until)
        async with talking(stage.wire, calls):
            await asyncio.sleep(_FIRST_TALK_SECONDS * plan.waits)
        processes = usages(started.pid)
        weights.append((sum(each.rss_kb for each in processes), sum(each.threads for each in processes)))
    (lighter, threads), (heavier, more_threads) = weights
    relay.kb_per_session = (heavier - lighter) / max(1, relay.many - half)
    relay.threads = threads, more_threads
    relay.noise = before.noise_until(Reading.take((started.pid,), stage.cores), stage.cores)


def kinds(service_url: str, plan: Plan) -> list[Kind]:
    """Every relay that is compared: ours, Go if there is one, stock."""
    go = [in_go(plan.go, service_url)] if plan.go else []
    return [*all_of_ours(service_url), *go, stock(service_url)]


@contextlib.asynccontextmanager
async def scraped(http: aiohttp.ClientSession, url: str) -> AsyncIterator[None]:
    """Read a relay's metrics now and every 5 s, as a monitoring system does."""

    async def scrape() -> None:
        await asyncio.sleep(1.0)
        while True:
            async with http.get(url) as response:
                await response.read()
            await asyncio.sleep(_SCRAPE_SECONDS)

    task = asyncio.create_task(scrape())
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- figures -------------------------------------------------------------------------------------------------------


def cpu_rows(groups: Sequence[Group]) -> list[Row]:
    """CPU per forwarded packet, then ours against the others."""
    found = [row_of("CPU µs a packet", group, lambda each: each.cpu_us_per_packet) for group in groups]
    ours = [row for row in found if row.relay not in {GO, STOCK}]
    go = [row for row in found if row.relay == GO]
    stocks = [row for row in found if row.relay == STOCK]
    compared = [
        ratios("CPU, of the Go relay's", row, other, _OF_GO_COMPILED if row.relay == COMPILED else _OF_GO)
        for row in ours
        for other in go
    ]
    compared += [
        ratios(f"CPU, stock's with {other.sessions} over ours", row, other, _OF_STOCK, inverse=True)
        for row in ours
        for other in stocks
    ]
    lost = [
        row_of("packets lost, %", group, lambda each: 100 * each.loss, digits=2)
        for group in groups
        if group.name != STOCK
    ]
    return found + compared + lost


def latency_rows(groups: Sequence[Group], all_groups: Sequence[Group]) -> list[Row]:
    """One-way latency without a relay, then what each adds in the worse direction, turn by turn; stock's is whole."""
    direct = groups[0]
    found = []
    for percent in _PERCENTS:
        base = [each.latency_ms(percent) for each in direct.slices]
        found.append(
            Row(f"latency p{percent}, ms", DIRECT, len(direct.calls), tuple(map(max, base)), direct.noise, digits=3)
        )
        for group in groups[1:]:
            here = [each.latency_ms(percent) for each in group.slices]
            added = tuple(max(a - b for a, b in zip(*pair, strict=True)) for pair in zip(here, base, strict=True))
            judged = None if group.name == GO else _ADDED[percent]
            found.append(
                Row(f"added latency p{percent}, ms", group.name, len(group.calls), added, group.noise, judged, 3)
            )
        for group in all_groups:
            if group.name == STOCK:
                # A short turn may hold no edge at all.
                times = tuple(filter(None, (max(each.latency_ms(percent)) for each in group.slices))) or (0.0,)
                found.append(Row(f"latency p{percent}, ms", STOCK, len(group.calls), times, group.noise, digits=1))
    return found


def _memory_rows(relays: Sequence[_Relay]) -> list[Row]:
    found = []
    for relay in relays:
        name, many = relay.kind.name, relay.many
        if many < 2:
            continue
        memory, threads = (None, None) if name in {GO, STOCK} else (_MEMORY, Promise(0.0))
        more = float(relay.threads[1] - relay.threads[0])
        found.append(Row("kB a session", name, many, (relay.kb_per_session,), relay.noise, memory, 0))
        found.append(Row("threads more than with half of them", name, many, (more,), relay.noise, threads, 0))
    return found
