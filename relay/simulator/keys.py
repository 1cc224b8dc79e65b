"""Ephemeral keys: what each one may start, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.simulator.identifiers import ephemeral_key
from relay.simulator.session_object import SessionObject
from relay.simulator.shapes import Dialect

MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """One minted secret. `expires_at` is unix seconds."""

    value: str
    dialect: Dialect
    expires_at: float
    session: SessionObject


@dataclass(slots=True)
class KeyRing:
    """Every key minted, the oldest forgotten above MAX_KEYS."""

    single_use: bool
    _keys: dict[str, EphemeralKey] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def mint(self, session: SessionObject, expires_at: float) -> EphemeralKey:
        """Make a key for this session; `expires_at` is unix seconds."""
        while len(self._keys) >= MAX_KEYS:
            oldest = next(iter(self._keys))
            del self._keys[oldest]
            self._used.discard(oldest)
        key = EphemeralKey(ephemeral_key(), session.dialect, expires_at, session)
        self._keys[key.value] = key
        return key

    def find(self, value: str) -> EphemeralKey | None:
        """Return the key with this value, expired or not."""
        return self._keys.get(value)

    def fault(self, key: EphemeralKey, now: float) -> str | None:
        """Why this key may not start a session at `now`; None when it may."""
        if now >= key.expires_at:
            return "expired"
        if self.single_use and key.value in self._used:
            return "already used"
        return None

    def spend(self, key: EphemeralKey) -> None:
        """Note that the key has started a session."""
        self._used.add(key.value)
