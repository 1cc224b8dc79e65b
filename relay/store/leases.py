"""Leases in the database: a row for each session, counted and written in one transaction with all who ask meanwhile.

Whoever takes waits for whoever takes: SQLite has one writer, PostgreSQL an advisory lock. Time is the database's own
on PostgreSQL, so that no node's clock decides over another's lease; SQLite is one machine's, and takes its clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from relay.core.allowance import Bound, Scope
from relay.core.leases import LEASE_SECONDS, Claim
from relay.core.stored import StoreError, StoreOperation
from relay.core.tally import Key, keys_of
from relay.store.database import Database, Lock
from relay.store.tables import LEASES

_SCOPES = (Scope.USER, Scope.TENANT, Scope.RELAY)
# A session is being set up, and somebody waits for it.
_SECONDS = 5.0
# Sessions that one statement names, and wishes of one transaction.
_CHUNK = 500
# Wishes that may wait: a database that hangs is slower to refuse them than sessions are to come and go.
_MOST_WAITING = 10_000
# Wishes that nobody waits for are written no more often than this.
_GATHER_SECONDS = 0.5


class SqlLeases:
    """Implements `relay.core.leases.Leases`. `clock` gives Unix seconds in place of the database's own clock."""

    def __init__(
        self,
        database: Database,
        node: str,
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database = database
        self._node = node
        self._seconds = seconds
        self._clock = clock or (time.time if database.is_sqlite else None)
        self._waiting: list[tuple[_Wish, asyncio.Future[Scope | None]]] = []
        self._written_at = -math.inf
        self._at_once = asyncio.Event()
        self._closing = False
        self._worker: asyncio.Task[None] | None = None

    async def take(self, claim: Claim, limits: Bound) -> Scope | None:
        """Take a place if no limit is reached; else the scope whose limit is. Raises StoreError."""
        return await self._in_turn(_Wish(claim.session, claim, limits), at_once=bool(limits.scopes))

    async def renew(self, claims: Sequence[Claim]) -> frozenset[str]:
        """Keep places; the sessions that have none any more. Raises StoreError.

        What has lapsed is not renewed, though its row may still be there: its place may be another's.
        """

        def work(connection: Connection) -> frozenset[str]:
            kept: set[str] = set()
            self._database.lock(connection, Lock.LEASES)
            now = self._now(connection)
            for start in range(0, len(claims), _CHUNK):
                names = [claim.session for claim in claims[start : start + _CHUNK]]
                mine = and_(LEASES.c.session.in_(names), LEASES.c.expires_at > now)
                renewed = update(LEASES).where(mine).values(expires_at=now + self._seconds).returning(LEASES.c.session)
                kept.update(connection.scalars(renewed))
            return frozenset(claim.session for claim in claims) - kept

        return await self._database.run(work, operation=StoreOperation.LEASES) if claims else frozenset()

    async def release(self, session: str, *, at_once: bool = True) -> None:
        """Give a place back. Raises StoreError."""
        await self._in_turn(_Wish(session), at_once=at_once)

    def hurry(self) -> None:
        """Write at once whatever is asked for from now on, and what waits."""
        self._closing = True
        self._at_once.set()

    async def free_own(self) -> int:
        """Give back all that this node held before it was started anew; how many. Raises StoreError."""
        return await self._database.run(
            lambda connection: connection.execute(delete(LEASES).where(LEASES.c.node == self._node)).rowcount,
            operation=StoreOperation.LEASES,
        )

    async def _in_turn(self, wish: _Wish, *, at_once: bool) -> Scope | None:
        """Do this, in the order of asking, with all that waits in one transaction: each costs a write to the disk.

        Raises StoreError, at once if too much waits.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreError(f"{_MOST_WAITING} places wait to be written")
        done: asyncio.Future[Scope | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, done))
        if at_once:
            self._at_once.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await done

    async def _work(self) -> None:
        while self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._written_at + _GATHER_SECONDS):
                    await self._at_once.wait()
            batch = self._waiting[:_CHUNK]
            del self._waiting[:_CHUNK]
            if not self._waiting and not self._closing:
                self._at_once.clear()
            try:
                outcomes = await self._all([wish for wish, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits would do so for ever
                words = str(error) if isinstance(error, StoreError) else type(error).__name__
                for _, done in batch:
                    if not done.done():
                        done.set_exception(StoreError(words))
                continue
            finally:
                self._written_at = asyncio.get_running_loop().time()
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if not done.done():
                    done.set_result(outcome)

    async def _all(self, wishes: Sequence[_Wish]) -> list[Scope | None]:
        def work(connection: Connection) -> list[Scope | None]:
            self._database.lock(connection, Lock.LEASES)
            now = self._now(connection)
            # Who asks again because the answer was lost does not count against itself.
            sessions = [wish.session for wish in wishes]
            connection.execute(delete(LEASES).where(or_(LEASES.c.expires_at <= now, LEASES.c.session.in_(sessions))))
            counts = _counts(connection) if any(wish.limits.scopes for wish in wishes) else Counter()
            outcomes = [wish.hit(counts) for wish in wishes]
            taken = [wish.claim for wish, hit in zip(wishes, outcomes, strict=True) if hit is None and wish.claim]
            if taken:
                kept = {"node": self._node, "expires_at": now + self._seconds}
                rows = [{"session": each.session, "tenant": each.tenant, "subject": each.subject} for each in taken]
                connection.execute(LEASES.insert(), [row | kept for row in rows])
            return outcomes

        return await self._database.run(work, _SECONDS, operation=StoreOperation.LEASES)

    def _now(self, connection: Connection) -> float:
        if self._clock is not None:
            return self._clock()
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)


@dataclass(frozen=True, slots=True)
class _Wish:
    """To take the place of a claim, or without one, to give the session's back."""

    session: str
    claim: Claim | None = None
    limits: Bound = field(default_factory=Bound)

    def hit(self, counts: Counter[Key]) -> Scope | None:
        """The scope whose limit stands against it; else it is counted."""
        if self.claim is None:
            return None
        keys = keys_of(self.claim.tenant, self.claim.subject)
        for scope, key in zip(_SCOPES, keys, strict=True):
            if self.limits.of(scope) and counts[key] >= self.limits.of(scope):
                return scope
        counts.update(keys)
        return None


def _counts(connection: Connection) -> Counter[Key]:
    counts: Counter[Key] = Counter()
    users = select(LEASES.c.tenant, LEASES.c.subject, func.count()).group_by(LEASES.c.tenant, LEASES.c.subject)
    for tenant, subject, number in connection.execute(users):
        for key in keys_of(tenant, subject):
            counts[key] += number
    return counts
