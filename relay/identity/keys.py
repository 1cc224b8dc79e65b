"""The keys that were given out: those of the settings, and those of the store, known without asking it each time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, Protocol

from relay.config_values import Secret
from relay.core.quota import TokenBucket
from relay.core.stored import KeyKind, KeyRow, StoreError

PREFIX = "rk_"
_MATERIAL_BYTES = 32
_KEY = re.compile(r"rk_[A-Za-z0-9_-]{43}\Z")
# A key revoked on another node is seen here within this and the time the store takes.
REFRESH_SECONDS = 3.0
# For how long what was last read counts while the store is away. Beyond that nobody knows what was revoked.
TRUST_SECONDS = 60.0
_MOST_KNOWN = 10_000
_MOST_UNLISTED = 200
# Keys that are seen for the first time are looked up: so many at once and in a second, whoever asks.
_LOOK_UPS = 50


class KeysUnreadError(Exception):
    """Whether this key is good cannot be said now: the store is away."""


class StoredKeys(Protocol):
    """The keys in the store. All raise StoreError."""

    async def find(self, digest: str) -> KeyRow | None:
        """The key with this SHA-256, in hexadecimal digits."""
        ...

    async def get(self, key_id: str) -> KeyRow | None:
        """The key of this id."""
        ...

    async def list(self, kind: KeyKind, tenant: str | None) -> Sequence[KeyRow]:
        """Every key of a kind; `tenant` None: of all tenants."""
        ...

    async def touch(self, key_id: str, at: float) -> None:
        """Note that a key was used; at most once a minute for each it is written."""
        ...


def new_key() -> str:
    """A key to give out; the store keeps its `digest_of` alone."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_MATERIAL_BYTES)).rstrip(b"=").decode()


def digest_of(credential: str) -> str:
    """SHA-256 of a key: of 32 random bytes nobody finds what it was made from."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


class ConfiguredKeys:
    """Keys of the settings, as hashes. An owner id is part of such a hash: it names a key and cannot be turned back."""

    def __init__(self, keys: Iterable[Secret]) -> None:
        self._digests = tuple(hashlib.sha256(key.reveal().encode()).digest() for key in keys)

    def __len__(self) -> int:
        return len(self._digests)

    def owner_of(self, credential: str) -> str | None:
        """The owner id if this is one of the keys; takes the same time whichever it is, or none."""
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        found = None
        for known in self._digests:
            if hmac.compare_digest(known, digest):
                found = known
        return None if found is None else found.hex()[:32]


class KeyRing:
    """The keys of the store as this node knows them; without a store there are none.

    A key that was used before costs no question. `warn` is told once when the store cannot be read, and once when it
    can again.
    """

    def __init__(
        self,
        stored: StoredKeys | None = None,
        warn: Callable[[str], None] = lambda _event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stored = stored
        self._warn = warn
        self._clock = clock
        self._rows: dict[str, KeyRow] = {}
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._read_at = clock()
        self._failing = False
        self._look_ups = TokenBucket(_LOOK_UPS, _LOOK_UPS, clock())
        self._used: dict[str, float] = {}
        self._turn = asyncio.Lock()

    @property
    def age(self) -> float:
        """Seconds since the store was last read; 0 without one."""
        return 0.0 if self._stored is None else self._clock() - self._read_at

    def has(self, kind: KeyKind, now: float) -> bool:
        """Whether any key of this kind opens something."""
        return any(row.kind is kind and row.opens(now) for row in self._rows.values())

    async def find(self, credential: str, kind: KeyKind, now: float) -> KeyRow | None:
        """The row of a key that opens what keys of this kind open, now in Unix seconds. Raises KeysUnreadError."""
        if self._stored is None or _KEY.match(credential) is None:
            return None
        digest = digest_of(credential)
        row = self._rows.get(self._ids.get(digest, ""))
        if row is None:
            row = await self._look_up(digest)
        if self.age > TRUST_SECONDS:
            raise KeysUnreadError
        if row is None or row.kind is not kind or not row.opens(now):
            return None
        self._used[row.id] = now
        return row

    def knows(self, credential: str) -> bool:
        """Whether this key was found in the store before: to ask for it again costs nothing."""
        return digest_of(credential) in self._ids

    def opens(self, key_id: str, now: float) -> bool:
        """Whether a key that was good is still."""
        row = self._rows.get(key_id)
        return row is not None and row.opens(now) and self.age <= TRUST_SECONDS

    async def refresh(self) -> None:
        """Read every key now, and write down which were used."""
        async with self._turn:  # an answer from before a change must not come after one from behind it
            await self._refresh()

    async def changed(self, key_id: str) -> None:
        """This node changed a key: what was known of it counts no more, also where the store cannot be read again."""
        async with self._turn:
            self._rows.pop(key_id, None)
            await self._refresh()

    async def watch(self) -> NoReturn:
        """Keep up with what other nodes do to the keys."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

    async def _refresh(self) -> None:
        if self._stored is None:
            return
        began = self._clock()
        try:
            rows = {row.id: row for kind in KeyKind for row in await self._stored.list(kind, None)}
            # A list has an end; keys in use that stand behind it are asked for one by one.
            unlisted = [key_id for key_id in dict.fromkeys(self._ids.values()) if key_id not in rows]
            for key_id in unlisted[-_MOST_UNLISTED:]:
                if (row := await self._stored.get(key_id)) is not None:
                    rows[key_id] = row
            self._rows, self._read_at = rows, began
            used, self._used = self._used, {}
            for key_id, at in used.items():
                await self._stored.touch(key_id, at)
        except StoreError:
            if not self._failing:
                self._warn("key_store_failing")
            self._failing = True
            return
        if self._failing:
            self._warn("key_store_works_again")
        self._failing = False

    async def _look_up(self, digest: str) -> KeyRow | None:
        # Where strangers could make the store busy, a key seen for the first time waits its turn like theirs.
        if self._stored is None or not self._look_ups.take(self._clock()):
            raise KeysUnreadError
        try:
            row = await self._stored.find(digest)
        except StoreError:
            raise KeysUnreadError from None
        if row is not None:
            known = self._rows.get(row.id)
            if known is not None and known.revoked_at is not None:
                row = known  # answers come out of turn, and what was revoked stays so
            self._rows[row.id] = row
            self._ids[digest] = row.id
            if len(self._ids) > _MOST_KNOWN:
                self._ids.popitem(last=False)
        return row
