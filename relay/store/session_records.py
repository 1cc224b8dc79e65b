"""Records of finished sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, or_, select

from relay.core.stored import (
    MEMORY_SESSIONS,
    SESSION_BODY_MOST_BYTES,
    TIMELINE_MOST_BYTES,
    SessionPage,
    SessionRow,
    StoreOperation,
    UnfitText,
)
from relay.store.database import Database
from relay.store.fitting import between, fitted, json_text, newest_that_fit, read_object, rows_asked, same_texts
from relay.store.tables import SESSIONS as TABLE
from relay.store.upsert import insert_for

_LISTED = tuple(column for column in TABLE.c if column.name != "timeline")
_SESSIONS = StoreOperation.SESSIONS
_TOO_MANY = select(TABLE.c.id).order_by(TABLE.c.ended_at.desc(), TABLE.c.id.desc()).offset(MEMORY_SESSIONS)


class SessionRecords:
    """Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: SessionRow) -> None:
        """Keep one record."""
        await self.add_many([row])

    async def add_many(self, rows: Sequence[SessionRow]) -> None:
        """Keep these, all or none; one that is kept already stays as it is, so that a try may be repeated."""
        if not rows:
            return

        def work(connection: Connection) -> None:
            connection.execute(insert_for(connection, TABLE).on_conflict_do_nothing(), [_values(row) for row in rows])
            if self._database.in_memory:
                connection.execute(delete(TABLE).where(TABLE.c.id.in_(_TOO_MANY)))

        await self._database.run(work, operation=_SESSIONS)

    async def get(self, session_id: str) -> SessionRow | None:
        """The record of a session, with its timeline."""
        wanted = select(TABLE).where(TABLE.c.id == fitted(TABLE.c.id, session_id))

        def work(connection: Connection) -> SessionRow | None:
            row = connection.execute(wanted).first()
            return None if row is None else _session(row, _timeline(row.timeline))

        return await self._database.run(work, operation=_SESSIONS)

    async def search(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        reason: str | None = None,
        policy: str | None = None,
        since: float | None = None,
        until: float | None = None,
        before_cursor: str | None = None,
        limit: int = 100,
    ) -> SessionPage:
        """Those looked for that ended last, without timelines; None says nothing, times are of the end.

        `before_cursor` is the `next` of a page; raises UnfitText for anything else.
        """
        most = rows_asked(limit)
        wanted = select(*_LISTED).order_by(TABLE.c.ended_at.desc(), TABLE.c.id.desc()).limit(most + 1)
        wanted = wanted.where(*same_texts(TABLE, tenant=tenant, subject=subject, reason=reason, policy=policy))
        wanted = wanted.where(*between(TABLE.c.ended_at, since, until))
        if before_cursor is not None:
            at, last = _cursor(before_cursor)
            wanted = wanted.where(or_(TABLE.c.ended_at < at, and_(TABLE.c.ended_at == at, TABLE.c.id < last)))

        def work(connection: Connection) -> SessionPage:
            rows = connection.execute(wanted).all()
            page = tuple(_session(row, None) for row in rows[:most])
            return SessionPage(page, f"{page[-1].ended_at.hex()}~{page[-1].id}" if len(rows) > most else None)

        return await self._database.run(work, operation=_SESSIONS, reading=True)


def _cursor(text: str) -> tuple[float, str]:
    at, separator, last = text.partition("~")
    try:
        if separator:
            return float.fromhex(at), fitted(TABLE.c.id, last)
    except (ValueError, OverflowError):
        pass
    raise UnfitText("before is not what a page gave as next")


def _values(row: SessionRow) -> dict[str, Any]:
    texts = {
        name: fitted(TABLE.c[name], getattr(row, name)) for name in ("id", "tenant", "subject", "policy", "reason")
    }
    return {
        **texts,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "body": json_text(dict(row.body), SESSION_BODY_MOST_BYTES),
        "timeline": newest_that_fit(row.timeline or (), TIMELINE_MOST_BYTES),
    }


def _session(row: Row[Any], timeline: tuple[dict[str, Any], ...] | None) -> SessionRow:
    return SessionRow(
        row.id,
        row.tenant,
        row.subject,
        row.policy,
        row.reason,
        row.started_at,
        row.ended_at,
        read_object(row.body),
        timeline,
    )


def _timeline(text: str) -> tuple[dict[str, Any], ...]:
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    return tuple(entries) if isinstance(entries, list) else ({"left_out": "unreadable"},)
