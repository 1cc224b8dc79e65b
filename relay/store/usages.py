"""What was used, by day of UTC, tenant and subject: sums that only grow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from relay.core.stored import StoreOperation, UsageBy, UsageDelta, UsageRow
from relay.store.database import Database
from relay.store.fitting import fitted, number
from relay.store.tables import USAGE as TABLE
from relay.store.upsert import insert_for

_KEY = ("day", "tenant", "subject")
_SUMS = ("sessions", "seconds", "tokens", "dollars")
_MOST_ROWS = 5_000
_USAGE = StoreOperation.USAGE
_COLUMNS = {UsageBy.DAY: ("day",), UsageBy.TENANT: ("tenant",), UsageBy.SUBJECT: ("tenant", "subject")}


class Usages:
    """Every method raises StoreError; days are as `2026-11-22`, ValueError for others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deltas: Sequence[UsageDelta]) -> None:
        """Add these to what is there, all or none."""
        if not deltas:
            return
        # In one order, so that two nodes never wait for each other's rows in a circle.
        rows = [{**dict(zip(_KEY, key, strict=True)), **sums} for key, sums in sorted(_merged(deltas).items())]

        def work(connection: Connection) -> None:
            insert = insert_for(connection, TABLE)
            more = {name: TABLE.c[name] + insert.excluded[name] for name in _SUMS}
            connection.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=more), rows)

        await self._database.run(work, operation=_USAGE)

    async def of(self, day: str, tenant: str, subject: str) -> UsageRow:
        """What a subject of a tenant used on a day."""
        wanted = select(*(TABLE.c[name] for name in _SUMS)).where(
            TABLE.c.day == _day(day),
            TABLE.c.tenant == fitted(TABLE.c.tenant, tenant),
            TABLE.c.subject == fitted(TABLE.c.subject, subject),
        )
        row = await self._database.run(lambda connection: connection.execute(wanted).first(), operation=_USAGE)
        return UsageRow(day, tenant, subject, **({} if row is None else _sums(row)))

    async def totals(self, day: str, tenant: str | None = None) -> UsageRow:
        """What a tenant, or with None the whole relay, used on a day."""
        wanted = _summed().where(TABLE.c.day == _day(day))
        if tenant is not None:
            wanted = wanted.where(TABLE.c.tenant == fitted(TABLE.c.tenant, tenant))
        row = await self._database.run(lambda connection: connection.execute(wanted).one(), operation=_USAGE)
        return UsageRow(day=day, tenant=tenant, **_sums(row))

    async def report(
        self, since: str, until: str, tenant: str | None, by: UsageBy, limit: int = _MOST_ROWS
    ) -> list[UsageRow]:
        """Sums from `since` to the day before `until`; of most dollars, then seconds, first, but days in order."""
        names = _COLUMNS[by]
        columns = [TABLE.c[name] for name in names]
        wanted = _summed(*names).where(TABLE.c.day >= _day(since), TABLE.c.day < _day(until)).group_by(*columns)
        if tenant is not None:
            wanted = wanted.where(TABLE.c.tenant == fitted(TABLE.c.tenant, tenant))
        most_first = (func.sum(TABLE.c.dollars).desc(), func.sum(TABLE.c.seconds).desc(), *columns)
        wanted = wanted.order_by(*(columns if by is UsageBy.DAY else most_first)).limit(max(1, min(limit, _MOST_ROWS)))
        rows = await self._database.run(lambda connection: connection.execute(wanted).all(), operation=_USAGE)
        # What is confined to a tenant says so.
        whose = {} if tenant is None else {"tenant": tenant}
        return [UsageRow(**{**whose, **{name: getattr(row, name) for name in names}}, **_sums(row)) for row in rows]


def _merged(deltas: Sequence[UsageDelta]) -> dict[tuple[str, str, str], dict[str, Any]]:
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for delta in deltas:
        key = (_day(delta.day), fitted(TABLE.c.tenant, delta.tenant), fitted(TABLE.c.subject, delta.subject))
        sums = merged.setdefault(key, dict.fromkeys(_SUMS, 0))
        for name in _SUMS:
            sums[name] += getattr(delta, name)
    return merged


def _summed(*names: str) -> Select[Any]:
    return select(
        *(TABLE.c[name] for name in names), *(func.coalesce(func.sum(TABLE.c[name]), 0).label(name) for name in _SUMS)
    )


def _sums(row: Row[Any]) -> dict[str, Any]:
    # The sum of whole numbers is a decimal to PostgreSQL.
    whole = {name: number(int(getattr(row, name))) for name in ("sessions", "tokens")}
    return {**whole, "seconds": float(row.seconds), "dollars": float(row.dollars)}


def _day(text: str) -> str:
    """The day as it is kept. Raises ValueError."""
    return date.fromisoformat(text).isoformat()
