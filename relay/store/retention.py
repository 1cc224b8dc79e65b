"""What is old is deleted: a batch at a time, so that nobody else waits long, until nothing old is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Table, delete, select, tuple_

from relay.core.stored import StoreOperation
from relay.store.audit_log import Audit
from relay.store.database import Database
from relay.store.tables import DECISIONS, SESSIONS, USAGE

_BATCH = 500
_DAY_SECONDS = 86_400.0
_MOST_BATCHES = 10_000
_RETENTION = StoreOperation.RETENTION


@dataclass(frozen=True, slots=True)
class RetentionDays:
    """How many days what is kept; 0: for ever."""

    sessions: int = 90
    decisions: int = 90
    usage: int = 400
    audit: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted, by table."""

    sessions: int = 0
    decisions: int = 0
    usage: int = 0
    audit: int = 0


class Retention:
    """Deletes what is older than `days` say. `clock` gives Unix seconds."""

    def __init__(
        self, database: Database, audit: Audit, days: RetentionDays, clock: Callable[[], float], batch: int = _BATCH
    ) -> None:
        self._database = database
        self._audit = audit
        self._days = days
        self._clock = clock
        self._batch = batch

    async def delete_old(self) -> Deleted:
        """Delete everything that is old by now; how much it was. Raises StoreError.

        After 10,000 batches it stops all the same, and the next time goes on.
        """
        now, days = self._clock(), self._days
        first_day = (datetime.fromtimestamp(now, UTC) - timedelta(days=days.usage)).date().isoformat()
        return Deleted(
            sessions=await self._delete(days.sessions, SESSIONS, SESSIONS.c.ended_at, self._before(days.sessions)),
            decisions=await self._delete(days.decisions, DECISIONS, DECISIONS.c.at, self._before(days.decisions)),
            usage=await self._delete(days.usage, USAGE, USAGE.c.day, first_day),
            audit=await self._trim_audit(),
        )

    def _before(self, days: int) -> float:
        return self._clock() - days * _DAY_SECONDS

    async def _delete(self, days: int, table: Table, age: ColumnElement[object], before: object) -> int:
        if not days:
            return 0
        key = tuple_(*table.primary_key.columns)
        old = select(*table.primary_key.columns).where(age < before).order_by(age).limit(self._batch)
        return await self._repeat(lambda connection: connection.execute(delete(table).where(key.in_(old))).rowcount)

    async def _trim_audit(self) -> int:
        if not self._days.audit:
            return 0
        before = self._before(self._days.audit)
        oldest = await self._database.run(self._audit.oldest_in, operation=_RETENTION)
        # Every trim adds a row itself: one a day is enough.
        if oldest is None or oldest >= before - _DAY_SECONDS:
            return 0
        return await self._repeat(lambda connection: self._audit.trim_in(connection, before, self._batch))

    async def _repeat(self, delete_batch: Callable[[Connection], int]) -> int:
        whole = 0
        for _ in range(_MOST_BATCHES):
            gone = await self._database.run(delete_batch, operation=_RETENTION)
            whole += gone
            if gone < self._batch:
                break
        return whole
