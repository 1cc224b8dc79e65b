"""What the admin API asks of the rest of the relay. Whatever speaks to the store raises StoreError."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from relay.core.access import Administrator, Role
from relay.core.kill_switch import KillSwitch
from relay.core.live_session import LiveSession
from relay.core.stored import (
    AuditNote,
    AuditRow,
    ChainVerdict,
    DecisionRow,
    KeyKind,
    KeyRow,
    SessionPage,
    SessionRow,
    UsageBy,
    UsageRow,
)
from relay.core.timeline import Timeline
from relay.errors import EndReason


class Live(Protocol):
    """The sessions that run in this process."""

    def views(self, tenant: str | None = None, most: int = ...) -> tuple[list[LiveSession], int]:
        """What is known of the newest, of one tenant or of all; and how many there are."""
        ...

    def find(self, session_id: str) -> tuple[LiveSession, Timeline] | None:
        """One session and what happened in it; None if it does not run."""
        ...

    def end(self, session_id: str, reason: EndReason, detail: str = "") -> bool:
        """End a session; whether it runs."""
        ...

    def end_tenant(self, tenant: str, reason: EndReason, detail: str = "") -> int:
        """End every session of a tenant; how many there are."""
        ...


class Archive(Protocol):
    """The sessions that are over."""

    async def get(self, session_id: str) -> SessionRow | None:
        """One, with its timeline."""
        ...

    async def search(self, wanted: Mapping[str, Any], before: str | None, limit: int) -> SessionPage:
        """The last that ended; `wanted` may hold tenant, subject, reason, since, until. Raises UnfitText (`before`)."""
        ...


class Usage(Protocol):
    """What was used."""

    async def settle(self) -> None:
        """Have what this node counted, up to a second ago, in what `report` tells, if the store answers."""
        ...

    async def report(self, since: str, until: str, tenant: str | None, by: UsageBy) -> Sequence[UsageRow]:
        """Rows for days of UTC from `since` to `until`, both included."""
        ...


class Decisions(Protocol):
    """What policies decided."""

    async def search(self, wanted: Mapping[str, Any], before: int | None, limit: int) -> Sequence[DecisionRow]:
        """The newest below a number; `wanted` may hold session, tenant, policy, verdict, rule, since, until."""
        ...


class Audit(Protocol):
    """What administrators did."""

    async def append(self, note: AuditNote) -> object:
        """Write a row; it is kept when this returns."""
        ...

    async def search(self, wanted: Mapping[str, Any], before: int | None, limit: int) -> Sequence[AuditRow]:
        """The newest below a number; `wanted` may hold tenant, actor, action, target, accepted, since, until."""
        ...

    async def verify(self) -> ChainVerdict:
        """Read the whole log and say whether it is whole."""
        ...


class Keys(Protocol):
    """The keys of tenants and of administrators; what is changed is in force on this node when a method returns."""

    async def list(self, kind: KeyKind | None, tenant: str | None) -> Sequence[KeyRow]:
        """Keys, the newest first."""
        ...

    async def get(self, key_id: str) -> KeyRow | None:
        """One of them."""
        ...

    async def create(
        self, kind: KeyKind, name: str, tenant: str | None, role: Role | None, expires_at: float | None, note: AuditNote
    ) -> tuple[KeyRow, str]:
        """Make a key; the key itself is nowhere but in what is returned."""
        ...

    async def rotate(self, key_id: str, overlap_seconds: float, note: AuditNote) -> tuple[KeyRow, str] | None:
        """Make another like this one, which ends after the overlap; None if this one opens nothing any more."""
        ...

    async def revoke(self, key_id: str, note: AuditNote) -> KeyRow | None:
        """Let a key open nothing from now on; None as for `rotate`."""
        ...


class Switch(Protocol):
    """The kill switch of the store."""

    async def read(self) -> KillSwitch:
        """Whom it stops now."""
        ...

    async def move(self, wanted: KillSwitch, note: str, administrator: Administrator) -> KillSwitch:
        """Let it stop exactly these: stored with its audit rows, and in force on this node when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class StoreState:
    """Which store there is, and whether it answered when it was last asked."""

    kind: str
    ok: bool


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What is in force; `revision` and `hash` where policies are managed over the API, else None and ""."""

    managed: bool
    revision: int | None
    hash: str
    names: Mapping[str, str] = field(default_factory=dict)


class Relay(Protocol):
    """The state of the process as a whole."""

    version: str
    node: str
    started_at: float
    limits: Mapping[str, Any]
    """The configured quotas, by the names of their settings."""

    def readiness(self) -> dict[str, str]:
        """Why no session can be opened now, as `{check: reason}`."""
        ...

    @property
    def draining(self) -> bool:
        """Whether no session is admitted any more."""
        ...

    def capacity(self) -> Mapping[str, float]:
        """How much of each resource is in use; 1 is where sessions are refused."""
        ...

    def policies(self) -> PolicyState:
        """What is in force."""
        ...

    def kill_switch(self) -> KillSwitch:
        """Whom any kill switch stops, that of the file included."""
        ...

    def store(self) -> StoreState:
        """Which store there is."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """Each media worker; none in one process."""
        ...

    def members(self) -> list[dict[str, Any]]:
        """Each member of the upstream pool, as `GET /upstreams` shows it."""
        ...

    async def refresh(self) -> None:
        """Bring counters that are in other processes; takes a second at most."""
        ...

    def drain(self) -> int:
        """Begin to drain, or find it under way; how many sessions are left."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything behind the admin API. `sign_in` tells what the console needs to sign somebody in."""

    relay: Relay
    live: Live
    archive: Archive
    usage: Usage
    decisions: Decisions
    audit: Audit
    keys: Keys
    switch: Switch
    sign_in: Callable[[], Awaitable[Mapping[str, str] | None]]
