"""Keys by their digests: those of tenants for the mint doors, those of administrators for the admin API."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from relay.core.access import Role
from relay.core.stored import KEYS_MOST, AuditNote, KeyKind, KeyRow, StoreOperation
from relay.store.audit_log import Audit
from relay.store.database import Database
from relay.store.fitting import demanded_name, fitted
from relay.store.tables import KEYS

_ID_BYTES = 12
_TOUCH_SECONDS = 60.0
# Above it all is forgotten, and keys are touched once more than needed.
_MOST_TOUCHED = 10_000
_COLUMNS = tuple(column for column in KEYS.c if column.name != "digest")
_KEYS = StoreOperation.KEYS


class Keys:
    """`clock` gives Unix seconds. Every method raises StoreError."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], float]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._touched: dict[str, float] = {}

    async def create(
        self,
        kind: KeyKind,
        name: str,
        tenant: str | None,
        role: Role | None,
        digest: str,
        created_by: str,
        expires_at: float | None,
        audit: AuditNote,
    ) -> KeyRow:
        """Keep a key by the SHA-256 of it, in hex; `audit` gets the key's id as its target. Raises UnfitText."""
        demanded_name(KEYS.c.name, name)
        demanded_name(KEYS.c.tenant, tenant or "")
        row = KeyRow(
            id=f"key_{secrets.token_hex(_ID_BYTES)}",
            kind=kind,
            name=name,
            tenant=tenant,
            role=role,
            created_at=self._clock(),
            created_by=fitted(KEYS.c.created_by, created_by),
            expires_at=expires_at,
        )
        demanded_name(KEYS.c.digest, digest)
        await self._database.run(lambda connection: self._insert(connection, row, digest, audit), operation=_KEYS)
        return row

    async def list(self, kind: KeyKind | None = None, tenant: str | None = None) -> list[KeyRow]:
        """Keys, also those that open nothing any more, the newest first; of one tenant, if that is given.

        KEYS_MOST at most.
        """
        wanted = select(*_COLUMNS).order_by(KEYS.c.created_at.desc(), KEYS.c.id).limit(KEYS_MOST)
        if kind is not None:
            wanted = wanted.where(KEYS.c.kind == kind.value)
        if tenant is not None:
            wanted = wanted.where(KEYS.c.tenant == fitted(KEYS.c.tenant, tenant))
        rows = await self._database.run(lambda connection: connection.execute(wanted).all(), operation=_KEYS)
        return [_key(row) for row in rows]

    async def get(self, key_id: str) -> KeyRow | None:
        """The key of this id."""
        return await self._one(KEYS.c.id == fitted(KEYS.c.id, key_id))

    async def find(self, digest: str) -> KeyRow | None:
        """The key with this digest, whether it still opens or not."""
        return await self._one(KEYS.c.digest == fitted(KEYS.c.digest, digest))

    async def revoke(self, key_id: str, audit: AuditNote) -> KeyRow | None:
        """Let a key open nothing from now on; None if there is no such key, or it was revoked before."""
        now = self._clock()

        def work(connection: Connection) -> KeyRow | None:
            row = self._open_in(connection, key_id)
            if row is None:
                return None
            connection.execute(update(KEYS).where(KEYS.c.id == row.id).values(revoked_at=now))
            self._audit.append_in(connection, replace(audit, target=row.id))
            return replace(row, revoked_at=now)

        return await self._database.run(work, operation=_KEYS)

    async def rotate(
        self, key_id: str, digest: str, overlap_seconds: float, created_by: str, audit: AuditNote
    ) -> KeyRow | None:
        """Make another key like this one, which itself ends after the overlap, or earlier if it was to; the new one.

        With no overlap the old one is revoked. None as in `revoke`, and for a key that has expired.
        """
        now = self._clock()
        demanded_name(KEYS.c.digest, digest)

        def work(connection: Connection) -> KeyRow | None:
            old = self._open_in(connection, key_id)
            if old is None or not old.opens(now):
                return None
            if overlap_seconds > 0:
                ends = min(now + overlap_seconds, now + overlap_seconds if old.expires_at is None else old.expires_at)
                changed = {"expires_at": ends}
            else:
                changed = {"revoked_at": now}
            connection.execute(update(KEYS).where(KEYS.c.id == old.id).values(changed))
            new = replace(
                old,
                id=f"key_{secrets.token_hex(_ID_BYTES)}",
                created_at=now,
                created_by=fitted(KEYS.c.created_by, created_by),
                used_at=None,
            )
            self._insert(connection, new, digest, replace(audit, body={**audit.body, "replaces": old.id}))
            return new

        return await self._database.run(work, operation=_KEYS)

    async def touch(self, key_id: str, at: float) -> None:
        """Note that a key was used; at most once a minute for each it reaches the database."""
        if at - self._touched.get(key_id, float("-inf")) < _TOUCH_SECONDS:
            return
        if len(self._touched) >= _MOST_TOUCHED:
            self._touched.clear()
        self._touched[key_id] = at
        used = update(KEYS).where(KEYS.c.id == fitted(KEYS.c.id, key_id)).values(used_at=at)
        await self._database.run(lambda connection: connection.execute(used), operation=_KEYS)

    def _insert(self, connection: Connection, row: KeyRow, digest: str, audit: AuditNote) -> None:
        values = {column.name: getattr(row, column.name) for column in _COLUMNS}
        values |= {"tenant": row.tenant or "", "role": "" if row.role is None else row.role.value, "digest": digest}
        connection.execute(insert(KEYS), {**values, "kind": row.kind.value})
        self._audit.append_in(connection, replace(audit, target=row.id))

    def _open_in(self, connection: Connection, key_id: str) -> KeyRow | None:
        mine = select(*_COLUMNS).where(KEYS.c.id == fitted(KEYS.c.id, key_id), KEYS.c.revoked_at.is_(None))
        row = connection.execute(mine.with_for_update()).first()
        return None if row is None else _key(row)

    async def _one(self, condition: Any) -> KeyRow | None:
        wanted = select(*_COLUMNS).where(condition)
        row = await self._database.run(lambda connection: connection.execute(wanted).first(), operation=_KEYS)
        return None if row is None else _key(row)


def _key(row: Row[Any]) -> KeyRow:
    values = dict(row._mapping)  # noqa: SLF001 - the name SQLAlchemy gives a row's public mapping
    role = Role(values["role"]) if values["role"] else None
    return KeyRow(**{**values, "kind": KeyKind(values["kind"]), "tenant": values["tenant"] or None, "role": role})
