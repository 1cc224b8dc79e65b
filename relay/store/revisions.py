"""Policy revisions: whole sets of files, numbered from 1, never changed, and deleted in memory alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, delete, func, insert, select

from relay.core.stored import (
    FILES_MOST_BYTES,
    MEMORY_REVISIONS,
    NOTE_MOST,
    AuditNote,
    Revision,
    RevisionRow,
    StaleRevision,
    StoreOperation,
)
from relay.store.audit_log import Audit
from relay.store.database import Database, Lock
from relay.store.fitting import demanded, demanded_json, demanded_name, fitted, number, rows_asked
from relay.store.tables import POLICY_REVISIONS as TABLE

_ROW = (TABLE.c.number, TABLE.c.hash, TABLE.c.author, TABLE.c.at, TABLE.c.note)
_REVISIONS = StoreOperation.REVISIONS


class PolicyRevisions:
    """Every method raises StoreError."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def head(self) -> Revision | None:
        """The newest revision."""
        return await self._database.run(lambda connection: _read(connection, None), operation=_REVISIONS)

    async def head_number(self) -> int | None:
        """The number of the newest revision, without reading it: what a node asks to see whether there is news."""
        newest = select(func.max(TABLE.c.number))
        return await self._database.run(lambda connection: connection.execute(newest).scalar(), operation=_REVISIONS)

    async def get(self, wanted: int) -> Revision | None:
        """The revision of this number."""
        return await self._database.run(lambda connection: _read(connection, wanted), operation=_REVISIONS)

    async def list(self, before: int | None = None, limit: int = 50) -> list[RevisionRow]:
        """The newest revisions, below `before` if that is given, without their files."""
        wanted = select(*_ROW).order_by(TABLE.c.number.desc()).limit(rows_asked(limit))
        if before is not None:
            wanted = wanted.where(TABLE.c.number < number(before))
        rows = await self._database.run(lambda connection: connection.execute(wanted).all(), operation=_REVISIONS)
        return [RevisionRow(*row) for row in rows]

    async def publish(
        self,
        files: Mapping[str, str],
        hash: str,  # noqa: A002 - the word of the table, the value and the API
        author: str,
        note: str,
        expected: int | None,
        audit: AuditNote,
        at: float,
    ) -> Revision:
        """Add a revision after `expected`, the newest number the caller saw (None: none), and its audit row.

        Of several with the same `expected` one wins. Raises StaleRevision for the others, and UnfitText.
        """
        demanded_name(TABLE.c.hash, hash)
        demanded("note", note, NOTE_MOST)
        kept = dict(files)

        def work(connection: Connection) -> Revision:
            text = demanded_json("the set of files", kept, FILES_MOST_BYTES)
            self._database.lock(connection, Lock.REVISIONS)
            head = connection.execute(select(func.max(TABLE.c.number))).scalar()
            if head != expected:
                raise StaleRevision(head)
            row = RevisionRow((head or 0) + 1, hash, fitted(TABLE.c.author, author), at, note)
            connection.execute(insert(TABLE), {**asdict(row), "files": text})
            if self._database.in_memory:
                # Where nobody else publishes, the one in force is this one or the one before.
                connection.execute(delete(TABLE).where(TABLE.c.number <= row.number - MEMORY_REVISIONS))
            self._audit.append_in(connection, audit)
            return Revision(row.number, hash, row.author, at, note, kept)

        return await self._database.run(work, operation=_REVISIONS)


def _read(connection: Connection, wanted: int | None) -> Revision | None:
    asked = select(*_ROW, TABLE.c.files).order_by(TABLE.c.number.desc()).limit(1)
    if wanted is not None:
        asked = asked.where(TABLE.c.number == number(wanted))
    row = connection.execute(asked).first()
    return None if row is None else Revision(*row[:-1], files=json.loads(row[-1]))
