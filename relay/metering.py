"""How much is used: seconds, tokens and dollars of all sessions of this node, counted in this one place.

Counted in memory at once, added to the store every few seconds and whenever a session ends. What is compared with a
limit is what the store held when it was last read, which includes other nodes, and what this node has not added yet.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.core.allowance import DAY_SECONDS, Account, Scope, Spent, day_of
from relay.core.stored import UsageDelta
from relay.core.tally import Key, Tally, keys_of

FLUSH_SECONDS = 5.0
# Subjects that are kept apart between two flushes, and while the store is away.
MOST_SUBJECTS = 10_000
_SCOPES = (Scope.USER, Scope.TENANT, Scope.RELAY)


class UsageStore(Protocol):
    """Where usage is kept for all nodes; both raise StoreError."""

    async def add(self, deltas: Sequence[UsageDelta], writer: str, batch: str, at: float) -> None:
        """Add all of a batch or nothing; nothing if the writer added it or a later one. `batch` names them in order."""
        ...

    async def spent(
        self, day: str, subjects: Sequence[tuple[str, str]], tenants: Sequence[str], *, relay: bool
    ) -> dict[Key, Spent]:
        """What these used on a day, by their keys; who used nothing may be left out."""
        ...


@dataclass(frozen=True, slots=True)
class Who:
    """Whose usage a session is."""

    tenant: str
    subject: str


@dataclass(slots=True)
class _Running:
    who: Who
    counted_to: float


@dataclass(frozen=True, slots=True)
class _Read:
    """What the store held; `at` in monotonic seconds."""

    day: str
    spent: Spent
    at: float


class Metering:
    """The usage of one node. `clock` gives Unix seconds, `monotonic` those that durations are measured in."""

    def __init__(
        self,
        store: UsageStore,
        most_subjects: int = MOST_SUBJECTS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._most = most_subjects
        self._clock = clock
        self._monotonic = monotonic
        self._writer = secrets.token_hex(16)
        self._batches = 0
        self._running: dict[str, _Running] = {}
        self._counts: Counter[Key] = Counter()
        self._pending = Tally(most_subjects)
        # What is on its way to the store, or was and nobody knows whether it came there.
        self._batch: tuple[str, Tally] | None = None
        # None: wanted and not read yet.
        self._read: dict[Key, _Read | None] = {}
        self._lock = asyncio.Lock()

    def start(self, session: str, who: Who) -> None:
        """Count a session's time from now on."""
        self._running[session] = _Running(who, self._monotonic())
        self._counts.update(keys_of(who.tenant, who.subject))
        self._pending.add(day_of(self._clock()), who.tenant, who.subject, Spent(), sessions=1)

    def stop(self, session: str) -> bool:
        """Count it no longer; False if it was not counted."""
        if session not in self._running:
            return False
        self._accrue((session,))
        who = self._running.pop(session).who
        self._counts.subtract(keys_of(who.tenant, who.subject))
        self._counts = +self._counts
        return True

    def used(self, who: Who, tokens: int, dollars: float) -> None:
        """Count what the service counted."""
        self._pending.add(day_of(self._clock()), who.tenant, who.subject, Spent(0.0, tokens, dollars))

    def accrue(self) -> None:
        """Count the time of all sessions up to now."""
        self._accrue(self._running)

    def accounts(self, who: Who, scopes: Iterable[Scope]) -> dict[Scope, Account]:
        """What these scopes used today, up to the last `accrue`. From now on they are read from the store."""
        day = day_of(self._clock())
        found: dict[Scope, Account] = {}
        keys = dict(zip(_SCOPES, keys_of(who.tenant, who.subject), strict=True))
        for scope in scopes:
            key = keys[scope]
            read = self._read.setdefault(key, None)
            spent = Spent() if read is None or read.day != day else read.spent
            spent += self._pending.of(day, key)
            if self._batch is not None:
                spent += self._batch[1].of(day, key)
            found[scope] = Account(spent, self._counts[key])
        return found

    async def know(self, who: Who, scopes: Sequence[Scope]) -> None:
        """Have read lately what these scopes used. Raises StoreError; `accounts` then tells what this node knows."""
        self.accounts(who, scopes)
        keys = dict(zip(_SCOPES, keys_of(who.tenant, who.subject), strict=True))
        if all(self._is_fresh(self._read.get(keys[scope])) for scope in scopes):
            return
        async with self._lock:
            if all(self._is_fresh(self._read.get(keys[scope])) for scope in scopes):
                return
            # For all who wait as well, which then need not ask: many who come at once are one question.
            await self._save()
            await self._look_up([key for key, read in self._read.items() if not self._is_fresh(read)])

    async def sync(self) -> None:
        """Add to the store what is not there yet, then read what others added. Raises StoreError."""
        async with self._lock:
            self.accrue()
            # Who has no session any more and was not asked for lately is forgotten.
            self._read = {key: read for key, read in self._read.items() if self._counts[key] or self._is_fresh(read)}
            await self._save()
            await self._look_up(list(self._read))

    def _accrue(self, sessions: Iterable[str]) -> None:
        now, unix = self._monotonic(), self._clock()
        today, into_today = day_of(unix), unix % DAY_SECONDS
        for session in sessions:
            running = self._running[session]
            seconds = max(0.0, now - running.counted_to)
            running.counted_to = max(running.counted_to, now)
            who, before_midnight = running.who, max(0.0, seconds - into_today)
            if before_midnight > 0:
                yesterday = day_of(unix - into_today - 1)
                self._pending.add(yesterday, who.tenant, who.subject, Spent(before_midnight))
            self._pending.add(today, who.tenant, who.subject, Spent(seconds - before_midnight))

    async def _save(self) -> None:
        """Add what is pending. A batch that failed is sent again as it was: the store knows whether it has it."""
        for _ in range(2):
            if self._batch is None:
                if not len(self._pending):
                    return
                self._batches += 1
                self._batch = (f"{self._batches:016d}", self._pending)
                self._pending = Tally(self._most)
            name, tally = self._batch
            await self._store.add(tally.deltas(), self._writer, name, self._clock())
            self._batch = None
            for key, read in self._read.items():
                if read is not None:
                    self._read[key] = _Read(read.day, read.spent + tally.of(read.day, key), read.at)

    async def _look_up(self, keys: Sequence[Key]) -> None:
        if not keys:
            return
        day, at = day_of(self._clock()), self._monotonic()
        subjects = [(key[0], key[1]) for key in keys if len(key) == 2]  # noqa: PLR2004 - tenant and subject
        tenants = [key[0] for key in keys if len(key) == 1]
        found = await self._store.spent(day, subjects, tenants, relay=() in keys)
        self._read.update({key: _Read(day, found.get(key, Spent()), at) for key in keys})

    def _is_fresh(self, read: _Read | None) -> bool:
        if read is None or read.day != day_of(self._clock()):
            return False
        return self._monotonic() - read.at < FLUSH_SECONDS * 2
