"""Decisions of the policies, to be searched; the decision log's files are the proof, these rows the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from relay.core.decision_chain import DecisionRecord
from relay.core.stored import MEMORY_DECISIONS, DecisionRow, StoreOperation
from relay.store.database import Database
from relay.store.fitting import between, fitted, number, rows_asked, same_texts
from relay.store.tables import DECISIONS as TABLE

_NAMES = tuple(each.name for each in fields(DecisionRecord))
_DECISIONS = StoreOperation.DECISIONS


class Decisions:
    """Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_many(self, records: Sequence[DecisionRecord]) -> None:
        """Keep these, all or none."""
        if not records:
            return

        def work(connection: Connection) -> None:
            connection.execute(insert(TABLE), [_values(record) for record in records])
            if self._database.in_memory:
                newest = select(func.max(TABLE.c.number)).scalar_subquery()
                connection.execute(delete(TABLE).where(TABLE.c.number <= newest - MEMORY_DECISIONS))

        await self._database.run(work, operation=_DECISIONS)

    async def search(
        self,
        *,
        session: str | None = None,
        tenant: str | None = None,
        subject: str | None = None,
        policy: str | None = None,
        verdict: str | None = None,
        rule: str | None = None,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[DecisionRow]:
        """The newest of those looked for, PAGE_MOST at most; None says nothing, `before` is a number."""
        texts = same_texts(
            TABLE, session=session, tenant=tenant, subject=subject, policy=policy, verdict=verdict, rule=rule
        )
        wanted = select(TABLE).where(*texts, *between(TABLE.c.at, since, until))
        wanted = wanted.order_by(TABLE.c.number.desc()).limit(rows_asked(limit))
        if before is not None:
            wanted = wanted.where(TABLE.c.number < number(before))
        return await self._database.run(
            lambda connection: [_decision(row) for row in connection.execute(wanted)],
            operation=_DECISIONS,
            reading=True,
        )


def _values(record: DecisionRecord) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in _NAMES}
    return {
        name: fitted(TABLE.c[name], str(value)) if isinstance(value, str) else value for name, value in values.items()
    }


def _decision(row: Row[Any]) -> DecisionRow:
    return DecisionRow(row.number, DecisionRecord(**{name: getattr(row, name) for name in _NAMES}))
