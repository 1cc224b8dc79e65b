"""What metering asks of the table of usage: add each batch once, and tell what was used today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from relay.core.allowance import Spent
from relay.core.stored import StoreOperation, UsageDelta
from relay.store.database import Database
from relay.store.tables import USAGE, USAGE_WRITERS

_CHUNK = 200
# After so long no process asks whether its last batch was added.
_WRITER_SECONDS = 172_800
_KEY = ("day", "tenant", "subject")
_COUNTED = ("sessions", "seconds", "tokens", "dollars")


class UsageCounts:
    """Implements `relay.metering.UsageStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deltas: Sequence[UsageDelta], writer: str, batch: str, at: float) -> None:
        """Add to what is there, all of it or nothing; nothing if this batch was the last one of its writer.

        A writer is one process, which never learns of some batches whether they came here. Raises StoreError.
        """

        def work(connection: Connection) -> None:
            if not self._is_new(connection, writer, batch, at):
                return
            insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
            added = insert(USAGE)
            sums = {name: USAGE.c[name] + added.excluded[name] for name in _COUNTED}
            # In one order, whoever adds: two nodes must not wait for each other's rows.
            rows = sorted(deltas, key=lambda each: (each.day, each.tenant, each.subject))
            connection.execute(
                added.on_conflict_do_update(index_elements=list(_KEY), set_=sums),
                [{name: getattr(row, name) for name in (*_KEY, *_COUNTED)} for row in rows],
            )

        if deltas:
            await self._database.run(work, operation=StoreOperation.USAGE)

    async def spent(
        self,
        day: str,
        subjects: Sequence[tuple[str, str]] = (),
        tenants: Sequence[str] = (),
        *,
        relay: bool = False,
    ) -> dict[tuple[str, ...], Spent]:
        """What these used: `(tenant, subject)`, `(tenant,)`, and `()` for all. Raises StoreError."""

        def work(connection: Connection) -> dict[tuple[str, ...], Spent]:
            found: dict[tuple[str, ...], Spent] = {}
            for start in range(0, len(subjects), _CHUNK):
                pair = tuple_(USAGE.c.tenant, USAGE.c.subject)
                asked = _sums(USAGE.c.tenant, USAGE.c.subject).where(pair.in_(subjects[start : start + _CHUNK]))
                found.update(_read(connection, asked, day))
            for start in range(0, len(tenants), _CHUNK):
                asked = _sums(USAGE.c.tenant).where(USAGE.c.tenant.in_(tenants[start : start + _CHUNK]))
                found.update(_read(connection, asked, day))
            if relay:
                found.update(_read(connection, _sums(), day))
            return found

        return await self._database.run(work, operation=StoreOperation.USAGE) if subjects or tenants or relay else {}

    def _is_new(self, connection: Connection, writer: str, batch: str, at: float) -> bool:
        last = connection.scalar(select(USAGE_WRITERS.c.batch).where(USAGE_WRITERS.c.writer == writer))
        if last == batch:
            return False
        connection.execute(delete(USAGE_WRITERS).where(USAGE_WRITERS.c.at < at - _WRITER_SECONDS))
        connection.execute(delete(USAGE_WRITERS).where(USAGE_WRITERS.c.writer == writer))
        connection.execute(USAGE_WRITERS.insert().values(writer=writer, batch=batch, at=at))
        return True


def _sums(*keys: ColumnElement[str]) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [*keys, *(func.sum(USAGE.c[name]) for name in ("seconds", "tokens", "dollars"))]
    return select(*columns).group_by(*keys)


def _read(connection: Connection, asked: Select[Any], day: str) -> dict[tuple[str, ...], Spent]:
    found: dict[tuple[str, ...], Spent] = {}
    for *key, seconds, tokens, dollars in connection.execute(asked.where(USAGE.c.day == day)):
        found[tuple(key)] = Spent(float(seconds or 0), int(tokens or 0), float(dollars or 0))
    return found
