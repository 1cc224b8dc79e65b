"""Where keys are made, replaced and revoked: the only place that ever holds a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from relay.core.access import Role
from relay.core.claims import is_tenant
from relay.core.stored import AuditNote, KeyKind, KeyRow, UnfitText
from relay.identity.keys import digest_of, new_key


class StoredKeys(Protocol):
    """The keys in the store; every change and its audit row are one. All raise StoreError."""

    async def list(self, kind: KeyKind | None = None, tenant: str | None = None) -> Sequence[KeyRow]:
        """Keys, the newest first."""
        ...

    async def get(self, key_id: str) -> KeyRow | None:
        """One of them."""
        ...

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
        """Keep a key by its digest. Raises UnfitText."""
        ...

    async def rotate(
        self, key_id: str, digest: str, overlap_seconds: float, created_by: str, audit: AuditNote
    ) -> KeyRow | None:
        """Keep another key like this one, which ends after the overlap; None if it opens nothing any more."""
        ...

    async def revoke(self, key_id: str, audit: AuditNote) -> KeyRow | None:
        """Let a key open nothing from now on; None as for `rotate`."""
        ...


async def _nobody(_key_id: str) -> None:
    """Nobody on this node knows keys."""


class KeyOffice:
    """Gives out keys. `changed` hears the id after each change: then this node acts on it when a method returns."""

    def __init__(self, stored: StoredKeys, changed: Callable[[str], Awaitable[None]] = _nobody) -> None:
        self._stored = stored
        self._changed = changed

    async def list(self, kind: KeyKind | None, tenant: str | None) -> Sequence[KeyRow]:
        """Keys, the newest first."""
        return await self._stored.list(kind, tenant)

    async def get(self, key_id: str) -> KeyRow | None:
        """One of them."""
        return await self._stored.get(key_id)

    async def create(
        self, kind: KeyKind, name: str, tenant: str | None, role: Role | None, expires_at: float | None, note: AuditNote
    ) -> tuple[KeyRow, str]:
        """Make a key; the key itself is nowhere but in what is returned. Raises UnfitText, StoreError."""
        # Names stand in logs and pages: nothing that moves a cursor or turns a line around.
        if not name.strip() or not name.isprintable():
            raise UnfitText("name: no text, or a character that is not shown")
        if tenant is not None and not is_tenant(tenant):
            raise UnfitText("tenant: 1 to 128 letters, digits and . _ : @ / -")
        key = new_key()
        row = await self._stored.create(kind, name, tenant, role, digest_of(key), note.actor, expires_at, note)
        await self._changed(row.id)
        return row, key

    async def rotate(self, key_id: str, overlap_seconds: float, note: AuditNote) -> tuple[KeyRow, str] | None:
        """Make another like this one, which ends after the overlap; None if this one opens nothing any more."""
        key = new_key()
        row = await self._stored.rotate(key_id, digest_of(key), overlap_seconds, note.actor, note)
        await self._changed(key_id)
        return None if row is None else (row, key)

    async def revoke(self, key_id: str, note: AuditNote) -> KeyRow | None:
        """Let a key open nothing from now on; None as for `rotate`."""
        row = await self._stored.revoke(key_id, note)
        await self._changed(key_id)
        return row
