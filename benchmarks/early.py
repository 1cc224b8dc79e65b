"""What early upstream saves: a click to the first sound, while the service takes its time as on the internet."""

from __future__ import annotations

import asyncio
import contextlib
import statistics

from benchmarks.forwarding import DIRECT
from benchmarks.load import Door
from benchmarks.plan import Plan
from benchmarks.processes import OURS, ours, relay_process
from benchmarks.rounds import Noise, Reading
from benchmarks.stage import Stage
from benchmarks.table import Promise, Row

_MINT_SECONDS, _CALL_SECONDS = 0.150, 0.300
_BEFORE_SECONDS = 1.0
_AUDIO_SECONDS = 5.0
_HANG_UP_SECONDS = 0.2
_EARLY = f"{OURS}, early"
_BEFORE, _AT_CLICK = "first audio, key 1 s old, ms", "first audio, key at the click, ms"
_SHARE, _MORE_MS = Promise(0.5), Promise(30.0)


async def rows(stage: Stage, plan: Plan) -> list[Row]:
    """Click in turns without a relay, through ours, and through ours with early upstream."""
    service = stage.service
    service.greets = True
    kinds = [ours(service.url), ours(service.url, _EARLY, RELAY_UPSTREAM_EARLY="true")]
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(relay_process(kind, stage.cores)) for kind in kinds]
        doors = {DIRECT: Door(service.url)} | {relay.name: relay.door for relay in relays}
        # The first call pays for what a process loads once.
        for door in doors.values():
            await _click(stage, door, before=None)
        service.mint_seconds, service.call_seconds = _MINT_SECONDS, _CALL_SECONDS
        pids = [relay.pid for relay in relays]
        began = Reading.take(pids, stage.cores)
        seen: dict[tuple[str, str], list[float]] = {}
        for _ in range(max(1, plan.clicks // 2)):
            for figure, before in ((_BEFORE, _BEFORE_SECONDS), (_AT_CLICK, None)):
                for name, door in doors.items():
                    seen.setdefault((figure, name), []).append(await _click(stage, door, before=before))
        noise = began.noise_until(Reading.take(pids, stage.cores), stage.cores)
    return _found(seen, noise)


async def _click(stage: Stage, door: Door, *, before: float | None) -> float:
    """Milliseconds to the first audio, with a key minted so many seconds before the click, or at it."""
    key = ""
    if before is not None:
        key = await stage.load.mint(door)
        await asyncio.sleep(before)
    call = await stage.load.open(door, key)
    async with asyncio.timeout(_AUDIO_SECONDS):
        await call.sound.heard.wait()
    await stage.load.close([call])
    await stage.load.settle([call], _HANG_UP_SECONDS)
    return call.sound.ms + call.clicks.mint * 1e3


def _found(seen: dict[tuple[str, str], list[float]], noise: Noise) -> list[Row]:
    found = [Row(figure, name, 1, tuple(times), noise) for (figure, name), times in seen.items()]
    middle = {which: statistics.median(times) for which, times in seen.items()}
    share = middle[_BEFORE, _EARLY] / middle[_BEFORE, DIRECT]
    more = middle[_AT_CLICK, _EARLY] - middle[_AT_CLICK, DIRECT]
    found.append(Row("key 1 s old, of direct's", _EARLY, 1, (share,), noise, _SHARE, 2))
    found.append(Row("key at the click, more than direct, ms", _EARLY, 1, (more,), noise, _MORE_MS))
    return found
