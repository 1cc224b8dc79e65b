"""Packets leave at their time, to the microsecond, as far as the core is ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from benchmarks.stream import Stream
from benchmarks.voice import FRAME_SECONDS
from benchmarks.wire import Wire

# Having fallen this far behind (a core taken away from us), packets are left out, not sent in a burst; the phase stays.
_LATE_SECONDS = 0.1
# How long the event loop may wait for its turn while audio is paced, and how many packets go out before one reads.
_TURN_SECONDS = 0.002
_BURST = 4


@contextlib.asynccontextmanager
async def paced(wire: Wire, streams: Sequence[Stream], grain: float, start: float) -> AsyncIterator[None]:
    """Listen on streams, and have those whose source is here send 50 packets a second from monotonic time `start`."""
    for stream in streams:
        stream.resume()
    pacing = asyncio.create_task(_pace(wire, [stream for stream in streams if stream.source is not None], grain, start))
    try:
        yield
        if pacing.done():
            await pacing
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)


async def _pace(wire: Wire, streams: Sequence[Stream], grain: float, start: float) -> None:
    many = len(streams)
    apart = FRAME_SECONDS / many
    turn = time.monotonic()
    number = burst = 0
    while True:
        now = time.monotonic()
        wait = start + number * apart - now
        if now - turn > _TURN_SECONDS:
            await asyncio.sleep(0)
            turn = time.monotonic()
        elif -wait > _LATE_SECONDS:
            number += int(-wait / FRAME_SECONDS) * many
        elif wait > 0:
            wire.serve(min(max(wait, grain), _TURN_SECONDS))
            burst = 0
        elif burst == _BURST:
            wire.serve(0.0)
            burst = 0
        else:
            streams[number % many].send()
            number += 1
            burst += 1
