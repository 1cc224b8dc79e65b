"""When a connection to the service is used for its own sake, so that the next set-up finds one open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Warmth:
    """How long connections are kept; a set-up on one needs no name resolution, no connecting and no TLS handshake.

    One that nobody used for `idle_seconds` is closed: gateways forget it silently after a minute or more. While the
    service was asked something in the last `in_use_seconds`, one connection to each of its hosts is used every
    `refresh_seconds`.
    """

    idle_seconds: float = 50.0
    refresh_seconds: float = 40.0
    in_use_seconds: float = 600.0


class KeepWarm:
    """Calls `refresh` with an origin when its connections have been idle; False from it: they cannot be kept.

    Between two refreshings it holds a timer for each origin, of which a service has one or two. Needs a running loop.
    """

    def __init__(self, warmth: Warmth, refresh: Callable[[str], Awaitable[bool]]) -> None:
        self._warmth = warmth
        self._refresh = refresh
        self._loop = asyncio.get_running_loop()
        self._used: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refreshing: set[asyncio.Task[None]] = set()
        self._closed = False

    def used(self, url: str) -> None:
        """The service answered a request at this URL."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        self._used[origin] = self._loop.time()
        self._later(origin, self._warmth.refresh_seconds)

    async def close(self) -> None:
        """Stop; may be called twice."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    def _later(self, origin: str, seconds: float) -> None:
        """Look in so many seconds; a timer that runs is left: it looks at what was used meanwhile."""
        if not self._closed and origin not in self._timers:
            self._timers[origin] = self._loop.call_later(seconds, self._due, origin)

    def _due(self, origin: str) -> None:
        del self._timers[origin]
        idle = self._loop.time() - self._used[origin]
        if idle < self._warmth.refresh_seconds:
            self._later(origin, self._warmth.refresh_seconds - idle)
        elif idle < self._warmth.in_use_seconds:
            task = asyncio.create_task(self._run(origin), name="keep a connection to the service warm")
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _run(self, origin: str) -> None:
        if await self._refresh(origin):
            self._later(origin, self._warmth.refresh_seconds)
