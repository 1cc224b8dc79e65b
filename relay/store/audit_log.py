"""The audit log: what administrators did and tried, a hash chain that only grows at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from relay.core.audit_chain import TRIM, AuditLine, ChainCheck, audit_hash
from relay.core.decision_chain import GENESIS
from relay.core.stored import (
    AUDIT_BODY_MOST_BYTES,
    MEMORY_AUDIT,
    AuditNote,
    AuditRow,
    ChainVerdict,
    StoreOperation,
)
from relay.store.database import Database, Lock
from relay.store.fitting import between, fitted, json_text, number, read_object, rows_asked, same_texts
from relay.store.tables import AUDIT

_VERIFY_ROWS = 1_000
# A store in memory is trimmed when it has so many rows too many: each trim adds one itself.
_MEMORY_OVER = MEMORY_AUDIT // 10
# A search that meets a trim looks again; more often than this nobody trims.
_MOST_STARTS = 3


class Audit:
    """`clock` gives Unix seconds. Every method raises StoreError."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def append(self, note: AuditNote) -> AuditRow:
        """Add a row; it is on disk when this returns."""
        return await self._database.run(lambda connection: self.append_in(connection, note), operation=_AUDIT)

    def append_in(self, connection: Connection, note: AuditNote) -> AuditRow:
        """Add a row in a transaction that is under way: what it tells of and the row are kept together or not at all.

        Takes the audit lock: other locks are taken before it.
        """
        self._database.lock(connection, Lock.AUDIT)
        last = connection.execute(select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).first()
        line = AuditLine(
            number=1 if last is None else last.number + 1,
            at=self._clock(),
            actor=fitted(AUDIT.c.actor, note.actor),
            role=fitted(AUDIT.c.role, note.role),
            action=fitted(AUDIT.c.action, note.action),
            tenant=fitted(AUDIT.c.tenant, note.tenant),
            target=fitted(AUDIT.c.target, note.target),
            accepted=note.accepted,
            body=json_text(dict(note.body), AUDIT_BODY_MOST_BYTES),
            previous=GENESIS if last is None else last.hash,
        )
        line = replace(line, hash=audit_hash(line))
        connection.execute(insert(AUDIT), {name: getattr(line, name) for name in AuditLine.__slots__})
        if self._database.in_memory:
            # The numbers have no gaps.
            first = connection.execute(select(func.min(AUDIT.c.number))).scalar_one()
            over = line.number - first + 1 - MEMORY_AUDIT
            if over >= _MEMORY_OVER:
                self.trim_in(connection, math.inf, over)
        return _shown(line)

    async def search(
        self,
        *,
        tenant: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        accepted: bool | None = None,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """The newest of the rows looked for, PAGE_MOST at most; None says nothing, `before` is a number."""
        wanted = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(rows_asked(limit))
        wanted = wanted.where(*same_texts(AUDIT, tenant=tenant, actor=actor, action=action, target=target))
        wanted = wanted.where(*between(AUDIT.c.at, since, until))
        if accepted is not None:
            wanted = wanted.where(AUDIT.c.accepted == accepted)
        if before is not None:
            wanted = wanted.where(AUDIT.c.number < number(before))
        return await self._database.run(
            lambda connection: [_shown(_line(row)) for row in connection.execute(wanted)],
            operation=_AUDIT,
            reading=True,
        )

    async def head(self) -> AuditRow | None:
        """The last row."""
        rows = await self.search(limit=1)
        return rows[0] if rows else None

    async def get(self, wanted: int) -> AuditRow | None:
        """The row of this number."""
        rows = await self.search(before=number(wanted) + 1, limit=1)
        return rows[0] if rows and rows[0].number == wanted else None

    async def verify(self) -> ChainVerdict:
        """Read the whole log, a batch at a time, and say whether it is whole."""
        for _ in range(_MOST_STARTS):
            check = ChainCheck()
            while rows := await self._after(check.last):
                for row in rows:
                    check.feed(_line(row))
                    if check.broken:
                        break
                if check.broken:
                    break
            verdict = check.verdict()
            first = await self._after(None, 1)
            if verdict.ok or not first or first[0].number == check.first:
                break
            # It was trimmed under the reader's hands.
        return verdict

    def trim_in(self, connection: Connection, before: float, most: int) -> int:
        """Delete up to `most` of the oldest rows, those from before a time, and say so in the log; how many.

        The last row stays, whatever its age: the chain goes on from it.
        """
        self._database.lock(connection, Lock.AUDIT)
        oldest = select(AUDIT).order_by(AUDIT.c.number).limit(most + 1)
        rows = [_line(row) for row in connection.execute(oldest)]
        gone = 0
        while gone < min(most, len(rows) - 1) and rows[gone].at < before:
            gone += 1
        if not gone:
            return 0
        kept = rows[gone]
        connection.execute(delete(AUDIT).where(AUDIT.c.number < kept.number))
        body = {"kept_from": kept.number, "previous": kept.previous, "deleted": gone}
        self.append_in(connection, AuditNote("relay", "", TRIM, body=body))
        return gone

    def oldest_in(self, connection: Connection) -> float | None:
        """When the oldest row was written."""
        return connection.execute(select(func.min(AUDIT.c.at))).scalar()

    async def _after(self, last: int | None, most: int = _VERIFY_ROWS) -> Sequence[Row[Any]]:
        wanted = select(AUDIT).order_by(AUDIT.c.number).limit(most)
        if last is not None:
            wanted = wanted.where(AUDIT.c.number > last)
        return await self._database.run(
            lambda connection: connection.execute(wanted).all(), operation=_AUDIT, reading=True
        )


_AUDIT = StoreOperation.AUDIT


def _line(row: Row[Any]) -> AuditLine:
    return AuditLine(**row._mapping)  # noqa: SLF001 - the name SQLAlchemy gives a row's public mapping


def _shown(line: AuditLine) -> AuditRow:
    note = AuditNote(
        line.actor, line.role, line.action, line.tenant, line.target, line.accepted, read_object(line.body)
    )
    return AuditRow(line.number, line.at, note, line.previous, line.hash)
