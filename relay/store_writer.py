"""What sessions leave behind is written to the store behind their backs: no session ever waits for a database.

Records wait in memory, so many of each kind and no more; one above is dropped and counted. While the store is away they
wait; a batch that it refuses three times although it answers otherwise is dropped, and counted too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from relay.core.decision_chain import DecisionRecord
from relay.core.record import SessionRecord, session_row
from relay.core.stored import SessionRow, StoreQueue

T = TypeVar("T")
Taken_contra = TypeVar("Taken_contra", contravariant=True)

# A session's record is some kilobytes, with a long timeline a few hundred.
_MOST_SESSIONS = 1_000
_MOST_DECISIONS = 20_000
_SESSIONS_AT_ONCE = 50
_DECISIONS_AT_ONCE = 500
# It is written no more often: what comes meanwhile is written together.
_GATHER_SECONDS = 0.5
_PING_SECONDS = 15.0
_TRIES = 3
_LONGEST_PAUSE_SECONDS = 30.0
_CLOSE_SECONDS = 10.0


class Writable(Protocol[Taken_contra]):
    """What takes many rows at once."""

    async def add_many(self, rows: Sequence[Taken_contra], /) -> None:
        """Keep these, all or none. Raises StoreError."""
        ...


class WrittenStore(Protocol):
    """The store, as far as it is written here."""

    @property
    def sessions(self) -> Writable[SessionRow]:
        """Records of sessions."""
        ...

    @property
    def decisions(self) -> Writable[DecisionRecord]:
        """Decisions."""
        ...

    async def ping(self) -> None:
        """Ask for nothing. Raises StoreError."""
        ...


class StoreWriter:
    """Takes records in the event loop; `dropped` hears of what was lost. Made in the loop it writes in."""

    def __init__(
        self,
        store: WrittenStore,
        dropped: Callable[[StoreQueue, int], None],
        most_sessions: int = _MOST_SESSIONS,
        most_decisions: int = _MOST_DECISIONS,
    ) -> None:
        self._store = store
        self._dropped = dropped
        self._sessions = _Lane(StoreQueue.SESSIONS, most_sessions, _SESSIONS_AT_ONCE, store.sessions.add_many)
        self._decisions = _Lane(StoreQueue.DECISIONS, most_decisions, _DECISIONS_AT_ONCE, store.decisions.add_many)
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._writing = asyncio.create_task(self._write_until_closed(), name="store-writer")

    def session_ended(self, record: SessionRecord) -> None:
        """Keep the record of a session; never waits."""
        self._take(self._sessions, session_row(record))

    def decided(self, record: DecisionRecord) -> None:
        """Keep a decision; never waits."""
        self._take(self._decisions, record)

    async def close(self) -> None:
        """Write what waits, within ten seconds and without trying again; the rest is dropped."""
        self._closing.set()
        self._news.set()
        _, unfinished = await asyncio.wait({self._writing}, timeout=_CLOSE_SECONDS)
        for task in unfinished:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for lane in (self._sessions, self._decisions):
            if lane.waiting:
                self._dropped(lane.kind, len(lane.waiting))

    def _take(self, lane: _Lane[T], row: T) -> None:
        if len(lane.waiting) >= lane.most:
            self._dropped(lane.kind, 1)
            return
        lane.waiting.append(row)
        self._news.set()

    async def _write_until_closed(self) -> None:
        while not self._closing.is_set():
            if await self._is_news():
                self._news.clear()
                await self._drain(self._sessions)
                await self._drain(self._decisions)
                await self._pause(_GATHER_SECONDS)
            else:
                await self._answers()
        await self._drain(self._sessions)
        await self._drain(self._decisions)

    async def _is_news(self) -> bool:
        """Whether there is something to write; False after a while without."""
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _drain(self, lane: _Lane[T]) -> None:
        failures = 0
        while lane.waiting:
            batch = lane.first()
            try:
                await lane.write(batch)
            except Exception:  # noqa: BLE001 - a row that cannot be written must not keep all others from it
                failures += 1
                if self._closing.is_set():
                    return
                if failures < _TRIES or not await self._answers():
                    await self._pause(min(2.0 ** (failures - 1), _LONGEST_PAUSE_SECONDS))
                    continue
                self._dropped(lane.kind, len(batch))
            failures = 0
            lane.forget(len(batch))

    async def _answers(self) -> bool:
        try:
            await self._store.ping()
        except Exception:  # noqa: BLE001 - whatever it is, the records wait on
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


class _Lane(Generic[T]):
    """What waits of one kind, the oldest first."""

    def __init__(
        self, kind: StoreQueue, most: int, at_once: int, write: Callable[[Sequence[T]], Awaitable[None]]
    ) -> None:
        self.kind = kind
        self.most = most
        self.write = write
        self.waiting: deque[T] = deque()
        self._at_once = at_once

    def first(self) -> list[T]:
        """The next batch; it stays until it is forgotten."""
        return [self.waiting[index] for index in range(min(self._at_once, len(self.waiting)))]

    def forget(self, rows: int) -> None:
        """Let go of the oldest."""
        for _ in range(rows):
            self.waiting.popleft()
