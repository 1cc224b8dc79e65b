"""The keys of a store, in memory, with what it was asked; it can be away."""

from __future__ import annotations

import asyncio

from relay.core.access import Role
from relay.core.stored import KeyKind, KeyRow, StoreError
from relay.identity.keys import digest_of, new_key


class KeysInMemory:
    """What `relay.identity.keys.StoredKeys` asks for."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = {}
        self.asked: list[str] = []
        self.digests: list[str] = []
        self.touched: list[tuple[str, float]] = []
        self.lists = asyncio.Semaphore(0)
        self.away = False
        self.most_listed = 5_000

    def add(self, name, tenant, *, kind=KeyKind.TENANT, role=None, expires_at=None) -> str:
        """Make a key and keep its digest; the key itself is returned."""
        key = new_key()
        found = None if role is None else Role(role)
        self.rows[digest_of(key)] = KeyRow(
            f"key_{len(self.rows)}", kind, name, tenant, found, 0.0, "test", expires_at=expires_at
        )
        return key

    async def find(self, digest: str) -> KeyRow | None:
        self.digests.append(digest)
        self._ask("find")
        return self.rows.get(digest)

    async def get(self, key_id: str) -> KeyRow | None:
        self._ask("get")
        return next((row for row in self.rows.values() if row.id == key_id), None)

    async def list(self, kind: KeyKind, tenant: str | None) -> list[KeyRow]:
        self.lists.release()
        self._ask("list")
        found = [row for row in self.rows.values() if row.kind is kind and tenant in (None, row.tenant)]
        return found[: self.most_listed]

    async def touch(self, key_id: str, at: float) -> None:
        self._ask("touch")
        self.touched.append((key_id, at))

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise StoreError("away")
