"""What was used, by day of UTC, tenant and subject: sums that only grow, each batch of a process added once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, select, tuple_

from relay.core.allowance import Spent
from relay.core.stored import MEMORY_USAGE_DAYS, MEMORY_USAGE_ROWS, StoreOperation, UsageBy, UsageDelta, UsageRow
from relay.store.database import Database
from relay.store.fitting import fitted, number
from relay.store.tables import USAGE, USAGE_WRITERS
from relay.store.upsert import insert_for

_CHUNK = 200
# After so long no process asks whether its last batch was added.
_WRITER_SECONDS = 172_800
_KEY = ("day", "tenant", "subject")
_SUMS = ("sessions", "seconds", "tokens", "dollars")
_MOST_ROWS = 5_000
_COLUMNS = {UsageBy.DAY: ("day",), UsageBy.TENANT: ("tenant",), UsageBy.SUBJECT: ("tenant", "subject")}


class Usages:
    """Every method raises StoreError; days are as `2026-11-22`, ValueError for others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deltas: Sequence[UsageDelta], writer: str, batch: str, at: float) -> None:
        """Add to what is there, all of it or nothing; nothing if the writer has added this batch or a later one.

        A writer is one process, which never learns of some batches whether they came here; `batch` names them in
        order, by texts of one length. `at` is in Unix seconds.
        """
        if not deltas:
            return
        # In one order, whoever adds: two nodes must not wait for each other's rows.
        rows = [{**dict(zip(_KEY, key, strict=True)), **sums} for key, sums in sorted(_merged(deltas).items())]

        def work(connection: Connection) -> None:
            if _is_new(connection, writer, batch, at):
                insert = insert_for(connection, USAGE)
                more = {name: USAGE.c[name] + insert.excluded[name] for name in _SUMS}
                connection.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=more), rows)
                if self._database.in_memory:
                    _make_room(connection, at)

        await self._database.run(work, operation=StoreOperation.USAGE)

    async def spent(
        self,
        day: str,
        subjects: Sequence[tuple[str, str]] = (),
        tenants: Sequence[str] = (),
        *,
        relay: bool = False,
    ) -> dict[tuple[str, ...], Spent]:
        """What these used: `(tenant, subject)`, `(tenant,)`, and `()` for all; who used nothing is left out."""

        def work(connection: Connection) -> dict[tuple[str, ...], Spent]:
            found: dict[tuple[str, ...], Spent] = {}
            for start in range(0, len(subjects), _CHUNK):
                pair = tuple_(USAGE.c.tenant, USAGE.c.subject)
                asked = _summed("tenant", "subject").where(pair.in_(subjects[start : start + _CHUNK]))
                found.update(_read(connection, asked, day, USAGE.c.tenant, USAGE.c.subject))
            for start in range(0, len(tenants), _CHUNK):
                asked = _summed("tenant").where(USAGE.c.tenant.in_(tenants[start : start + _CHUNK]))
                found.update(_read(connection, asked, day, USAGE.c.tenant))
            if relay:
                found.update(_read(connection, _summed(), day))
            return found

        wanted = subjects or tenants or relay
        return await self._database.run(work, operation=StoreOperation.USAGE) if wanted else {}

    async def report(
        self, since: str, until: str, tenant: str | None, by: UsageBy, limit: int = _MOST_ROWS
    ) -> list[UsageRow]:
        """Sums from `since` to the day before `until`; of most dollars, then seconds, first, but days in order."""
        names = _COLUMNS[by]
        columns = [USAGE.c[name] for name in names]
        wanted = _summed(*names).where(USAGE.c.day >= _day(since), USAGE.c.day < _day(until)).group_by(*columns)
        if tenant is not None:
            wanted = wanted.where(USAGE.c.tenant == fitted(USAGE.c.tenant, tenant))
        most_first = (func.sum(USAGE.c.dollars).desc(), func.sum(USAGE.c.seconds).desc(), *columns)
        wanted = wanted.order_by(*(columns if by is UsageBy.DAY else most_first)).limit(max(1, min(limit, _MOST_ROWS)))
        rows = await self._database.run(
            lambda connection: connection.execute(wanted).all(), operation=StoreOperation.USAGE, reading=True
        )
        # What is confined to a tenant says so.
        whose = {} if tenant is None else {"tenant": tenant}
        return [UsageRow(**{**whose, **{name: getattr(row, name) for name in names}}, **_sums(row)) for row in rows]


def _is_new(connection: Connection, writer: str, batch: str, at: float) -> bool:
    """Note that a batch is added; False if it, or a later one, was. In one statement: two may try at once."""
    connection.execute(delete(USAGE_WRITERS).where(USAGE_WRITERS.c.at < at - _WRITER_SECONDS))
    insert = insert_for(connection, USAGE_WRITERS).values(writer=writer, batch=batch, at=at)
    noted = insert.on_conflict_do_update(
        index_elements=["writer"], set_={"batch": batch, "at": at}, where=USAGE_WRITERS.c.batch < batch
    )
    return connection.execute(noted.returning(USAGE_WRITERS.c.writer)).first() is not None


def _make_room(connection: Connection, at: float) -> None:
    """Delete what a store in memory has no room for; never what is of today, which limits of the day are held to."""
    today = datetime.fromtimestamp(at, UTC).date()
    first = today - timedelta(days=MEMORY_USAGE_DAYS - 1)
    connection.execute(delete(USAGE).where(USAGE.c.day < first.isoformat()))
    over = connection.execute(select(func.count()).select_from(USAGE)).scalar_one() - MEMORY_USAGE_ROWS
    if over > 0:
        key = tuple_(*(USAGE.c[name] for name in _KEY))
        old = select(*(USAGE.c[name] for name in _KEY)).where(USAGE.c.day < today.isoformat())
        connection.execute(delete(USAGE).where(key.in_(old.order_by(USAGE.c.day).limit(over))))


def _merged(deltas: Sequence[UsageDelta]) -> dict[tuple[str, str, str], dict[str, Any]]:
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for delta in deltas:
        key = (_day(delta.day), fitted(USAGE.c.tenant, delta.tenant), fitted(USAGE.c.subject, delta.subject))
        sums = merged.setdefault(key, dict.fromkeys(_SUMS, 0))
        for name in _SUMS:
            sums[name] += getattr(delta, name)
    return merged


def _summed(*names: str) -> Select[Any]:
    return select(
        *(USAGE.c[name] for name in names), *(func.coalesce(func.sum(USAGE.c[name]), 0).label(name) for name in _SUMS)
    )


def _read(
    connection: Connection, asked: Select[Any], day: str, *keys: ColumnElement[str]
) -> dict[tuple[str, ...], Spent]:
    found: dict[tuple[str, ...], Spent] = {}
    for row in connection.execute(asked.where(USAGE.c.day == _day(day)).group_by(*keys)):
        sums = _sums(row)
        found[tuple(row[: len(keys)])] = Spent(sums["seconds"], sums["tokens"], sums["dollars"])
    return found


def _sums(row: Row[Any]) -> dict[str, Any]:
    # The sum of whole numbers is a decimal to PostgreSQL.
    whole = {name: number(int(getattr(row, name))) for name in ("sessions", "tokens")}
    return {**whole, "seconds": float(row.seconds), "dollars": float(row.dollars)}


def _day(text: str) -> str:
    """The day as it is kept. Raises ValueError."""
    return date.fromisoformat(text).isoformat()
