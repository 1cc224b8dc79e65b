"""The relay's own ephemeral keys: what a browser holds in place of anything that reaches the service.

A key is fresh, in use while a session is being set up, or spent once the service accepted the call; a refusal makes it
fresh again. Values are kept as SHA-256 only. Unknown, expired, forged and used-up keys are one and the same outcome.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from relay.core.lifecycle import Dialect
from relay.core.policy_resolve import Identity
from relay.core.quota import TokenBucket

PREFIX = "ek_"
MATERIAL_BYTES = 32
# A spent key still hangs its session up: for as long as sessions of the service last, and a while after the end.
SPENT_SECONDS = 7200.0
AFTER_END_SECONDS = 300.0
_PURGE_EVERY_SECONDS = 10.0
# Offers that one key may be tried with: at once, and then one in so many seconds. A refusal leaves a key as it was, and
# every try may cost a set-up and a call at the service: a key in a browser must not be enough to keep others out.
TRIES_AT_ONCE = 10
SECONDS_PER_TRY = 6


@dataclass(frozen=True, slots=True)
class Grant:
    """What was asked for when the key was minted, unjudged, and who asked.

    `client_session` is in `dialect`; `size` is what it took in the request, in bytes; `owner` names the client key;
    `identity` is who asked, and from which page; `key_id` the tenant key they proved it with, if it was one.
    """

    dialect: Dialect
    model: str | None
    client_session: dict[str, Any] | None
    owner: str
    size: int = 0
    identity: Identity = field(default_factory=Identity)
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key; `expires_at` in Unix seconds."""

    value: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The key is good and now in use: call `succeed` or `release`."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Replay:
    """The key was spent moments ago on the identical offer: this is what was answered."""

    session_id: str
    answer: str


@dataclass(frozen=True, slots=True)
class InUse:
    """Another request is using the key at this moment."""


@dataclass(frozen=True, slots=True)
class TriedTooOften:
    """The key is good and was tried with too many offers; another may be served after `SECONDS_PER_TRY`."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such key, or no longer."""


@dataclass(frozen=True, slots=True)
class Held:
    """Who a key belongs to, the session it opened, if it did, who asked for the key, and with which tenant key."""

    owner: str
    session_id: str | None
    identity: Identity = field(default_factory=Identity)
    key_id: str | None = None


def key_id(value: str) -> str:
    """What stands for a key where its value has no business."""
    return _digest(value).hex()


class KeysExhaustedError(Exception):
    """As many keys as may exist are waiting to be used; if `of_owner`, of those that one owner may have."""

    def __init__(self, *, of_owner: bool = False) -> None:
        super().__init__()
        self.of_owner = of_owner


class _Stage(Enum):
    FRESH = auto()
    IN_USE = auto()
    SPENT = auto()


@dataclass(slots=True)
class _Key:
    grant: Grant
    expires_at: float
    tries: TokenBucket
    # What was asked for as text: read, it takes many times the bytes that are counted.
    wish: bytes | None = None
    stage: _Stage = _Stage.FRESH
    session_id: str | None = None
    offer_hash: bytes = b""
    answer: str | None = None
    spent_at: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """What one owner's keys that wait to be used take."""

    keys: int = 0
    size: int = 0


class EphemeralKeys:
    """Every key that is alive. Bounded in number and in bytes of what was asked with them; overflow refuses to mint.

    One owner's keys that wait never take more than is left for all others: whoever mints without end has half of it at
    most, two who do so a third each, and there is room for one more.
    """

    def __init__(self, *, capacity: int = 10_000, grant_bytes: int = 33_554_432, replay_seconds: float = 30.0) -> None:
        self._capacity = capacity
        self._grant_bytes = grant_bytes
        self._replay_seconds = replay_seconds
        self._keys: dict[bytes, _Key] = {}
        self._by_session: dict[str, bytes] = {}
        self._bytes_held = 0
        self._of_owner: dict[str, _Waiting] = {}
        self._purge_at = 0.0

    def __len__(self) -> int:
        return len(self._keys)

    def mint(self, material: bytes, grant: Grant, now: float, lifetime: int) -> Minted:
        """Make a key of 32 random bytes that lives `lifetime` seconds. Raises KeysExhaustedError."""
        if len(material) != MATERIAL_BYTES:
            raise ValueError(f"a key is made of {MATERIAL_BYTES} random bytes")
        if now >= self._purge_at or self._is_full(grant) or self._has_share(grant):
            self._purge(now)
        if self._is_full(grant):
            raise KeysExhaustedError
        if self._has_share(grant):
            raise KeysExhaustedError(of_owner=True)
        value = PREFIX + material.hex()
        expires_at = int(now) + lifetime
        asked = grant.client_session
        wish = None if asked is None else json.dumps(asked, separators=(",", ":")).encode()
        tries = TokenBucket(1 / SECONDS_PER_TRY, TRIES_AT_ONCE, now)
        self._keys[_digest(value)] = _Key(replace(grant, client_session=None), expires_at, tries, wish)
        self._bytes_held += grant.size
        held = self._of_owner.setdefault(grant.owner, _Waiting())
        held.keys += 1
        held.size += grant.size
        return Minted(value, expires_at)

    def begin(self, value: str, offer: str, now: float) -> Begun | Replay | InUse | TriedTooOften | Unknown:
        """Start to use a key for an offer."""
        key = self._keys.get(_digest(value))
        if key is None or (key.stage is _Stage.FRESH and key.expires_at <= now):
            return Unknown()
        match key.stage:
            case _Stage.FRESH:
                if not key.tries.take(now):
                    return TriedTooOften()
                key.stage = _Stage.IN_USE
                key.offer_hash = _digest(offer)
                asked = None if key.wish is None else json.loads(key.wish)
                return Begun(replace(key.grant, client_session=asked))
            case _Stage.IN_USE:
                return InUse()
            case _Stage.SPENT:
                return self._replay(key, offer, now)

    def succeed(self, value: str, session_id: str, answer: str, now: float) -> None:
        """The service accepted the call: the key is spent, and stays the credential of this session's client."""
        digest = _digest(value)
        key = self._keys[digest]
        self._waits_no_more(key.grant)
        key.grant = replace(key.grant, size=0)
        key.wish = None
        key.stage = _Stage.SPENT
        key.session_id = session_id
        key.answer = answer
        key.spent_at = now
        key.expires_at = now + SPENT_SECONDS
        self._by_session[session_id] = digest

    def release(self, value: str) -> None:
        """The call was refused, by us or by the service: the key can be used again until it expires."""
        key = self._keys[_digest(value)]
        key.stage = _Stage.FRESH
        key.offer_hash = b""

    def holder(self, value: str, now: float) -> Held | None:
        """Who holds this key; None if it is unknown or expired, which it cannot while it opens a session."""
        key = self._keys.get(_digest(value))
        if key is None or (key.stage is not _Stage.IN_USE and key.expires_at <= now):
            return None
        return Held(key.grant.owner, key.session_id, key.grant.identity, key.grant.key_id)

    def forget(self, session_id: str, now: float) -> None:
        """The session is over: its answer is dropped now, its key a little later (a late hang-up is no intruder)."""
        digest = self._by_session.pop(session_id, None)
        if digest is not None:
            key = self._keys[digest]
            key.answer = None
            key.expires_at = min(key.expires_at, now + AFTER_END_SECONDS)

    def _replay(self, key: _Key, offer: str, now: float) -> Replay | Unknown:
        recent = now - key.spent_at <= self._replay_seconds
        if not recent or key.answer is None or key.session_id is None or key.offer_hash != _digest(offer):
            return Unknown()
        return Replay(key.session_id, key.answer)

    def _is_full(self, grant: Grant) -> bool:
        return len(self._keys) >= self._capacity or self._bytes_held + grant.size > self._grant_bytes

    def _has_share(self, grant: Grant) -> bool:
        """Whether with another key this owner would take more than is left."""
        held = self._of_owner.get(grant.owner, _Waiting())
        return (
            held.keys >= self._capacity - len(self._keys)
            or held.size + grant.size > self._grant_bytes - self._bytes_held
        )

    def _waits_no_more(self, grant: Grant) -> None:
        self._bytes_held -= grant.size
        held = self._of_owner[grant.owner]
        held.keys -= 1
        held.size -= grant.size
        if not held.keys:
            del self._of_owner[grant.owner]

    def _purge(self, now: float) -> None:
        self._purge_at = now + _PURGE_EVERY_SECONDS
        for digest, key in list(self._keys.items()):
            if key.stage is _Stage.IN_USE:
                continue
            if key.expires_at <= now:
                self._drop(digest, key)
            elif now - key.spent_at > self._replay_seconds:
                key.answer = None

    def _drop(self, digest: bytes, key: _Key) -> None:
        del self._keys[digest]
        if key.stage is not _Stage.SPENT:
            self._waits_no_more(key.grant)
        if key.session_id is not None:
            self._by_session.pop(key.session_id, None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
