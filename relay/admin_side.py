"""The administrators' side of the program: everything that the admin API needs, put together once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from aiohttp import web

import relay
from relay.api import DrainDoor
from relay.api.admin import PolicyState, Ports, StoreState, StreamPace, admin_routes, create_admin_app
from relay.api.admin.policies import policy_routes
from relay.api.admin_auth import AdminGate, FailedSignIn, known_hosts
from relay.config import Settings
from relay.config_values import is_loopback
from relay.core.kill_switch import KillSwitch
from relay.core.pool import MemberState
from relay.core.stored import (
    AuditNote,
    AuditRow,
    ChainVerdict,
    DecisionRow,
    SessionPage,
    SessionRow,
    StoreError,
    UsageBy,
    UsageRow,
)
from relay.identity.key_office import KeyOffice
from relay.identity.opening import Identities
from relay.media_host import MediaHost
from relay.policy_keeping import PolicyKeeping
from relay.quotas import Quotas
from relay.session_side import SessionSide
from relay.store import Store
from relay.telemetry import Telemetry

_ACTION_SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What the rest of the program has built; `members` are what is shown of the upstream pool."""

    settings: Settings
    telemetry: Telemetry
    keeping: PolicyKeeping
    media: MediaHost
    sessions: SessionSide
    store: Store
    identities: Identities
    members: Callable[[], list[MemberState]]
    pace: StreamPace | None = None


@dataclass(frozen=True, slots=True)
class AdminSide:
    """The admin API as an application, and the door beside it that drains."""

    application: web.Application
    drain: DrainDoor


@contextlib.asynccontextmanager
async def admin_side(parts: AdminParts) -> AsyncIterator[AdminSide]:
    """What the operations listener serves to administrators; what it follows is followed until left."""
    settings, telemetry, store = parts.settings, parts.telemetry, parts.store
    rows = RowsBehind(store)
    gate = AdminGate(
        parts.identities.admins,
        telemetry.doors,
        time.time,
        hosts=known_hosts(settings.admin.hosts, settings.admin.host, is_local=is_loopback(settings.admin.host)),
        trusted_proxies=settings.http.trusted_proxies,
        on_failed=lambda failed: rows.write(_told(failed)),
    )
    ports = Ports(
        relay=RelayState(parts),
        live=parts.sessions.registry.live,
        archive=StoredSessions(store),
        usage=StoredUsage(store, parts.sessions.quotas),
        decisions=StoredDecisions(store),
        audit=StoredAudit(store),
        keys=KeyOffice(store.keys, parts.identities.ring.changed),
        switch=parts.keeping.switch,
        sign_in=parts.identities.sign_in,
    )
    routes, stream = admin_routes(
        ports, gate, policy_routes(parts.keeping.governance, parts.keeping.trials), parts.pace
    )
    app = create_admin_app(routes, gate, ports.audit, telemetry.admin)
    app.on_shutdown.append(stream.close)
    drain = DrainDoor(
        parts.sessions.drain.ask,
        parts.sessions.registry,
        settings.limits.drain_seconds,
        gate,
        # Without a key of the settings whoever is on this machine may, as with a signal.
        open_to_all=settings.admin.key is None and is_loopback(settings.admin.host),
        write=rows.write,
    )
    try:
        yield AdminSide(app, drain)
    finally:
        await rows.close()


class RelayState:
    """The process as administrators see it; implements `relay.api.admin.ports.Relay`."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        self.version = relay.__version__
        self.node = socket.gethostname()
        self.started_at = time.time()
        self.limits: Mapping[str, Any] = asdict(parts.settings.quotas)

    @property
    def draining(self) -> bool:
        """Whether no session is admitted any more."""
        return self._parts.sessions.registry.draining

    def readiness(self) -> dict[str, str]:
        """Why no session can be opened now."""
        return self._parts.sessions.registry.readiness()

    def capacity(self) -> Mapping[str, float]:
        """How much of each resource is in use."""
        return {resource.value: ratio for resource, ratio in self._parts.sessions.registry.capacity().items()}

    def policies(self) -> PolicyState:
        """What is in force."""
        keeping = self._parts.keeping
        revision, names = keeping.governance.in_force, keeping.policies.revisions
        if revision is None:
            return PolicyState(managed=False, revision=None, hash="", names=names)
        return PolicyState(managed=True, revision=revision.number, hash=revision.hash, names=names)

    def kill_switch(self) -> KillSwitch:
        """Whom any kill switch stops."""
        return self._parts.keeping.policies.switch

    def store(self) -> StoreState:
        """Which store there is, and whether it answered last."""
        return StoreState(self._parts.store.kind, self._parts.telemetry.store.is_up)

    def workers(self) -> list[dict[str, Any]]:
        """Each media worker."""
        return [
            {"worker": each.index, "state": each.state.value, "sessions": each.sessions, "restarts": each.restarts}
            for each in self._parts.media.workers()
        ]

    def members(self) -> list[dict[str, Any]]:
        """Each member of the upstream pool."""
        return [asdict(member) for member in self._parts.members()]

    async def refresh(self) -> None:
        """Bring the workers' counters."""
        await self._parts.media.refresh()

    def drain(self) -> int:
        """Begin to drain."""
        return self._parts.sessions.drain.ask()


@dataclass(frozen=True, slots=True)
class StoredSessions:
    """The sessions that are over."""

    stored: Store

    async def get(self, session_id: str) -> SessionRow | None:
        """One, with its timeline."""
        return await self.stored.sessions.get(session_id)

    async def search(self, wanted: Mapping[str, Any], before: str | None, limit: int) -> SessionPage:
        """The last that ended."""
        return await self.stored.sessions.search(**wanted, before_cursor=before, limit=limit)


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """What was used."""

    stored: Store
    quotas: Quotas

    async def settle(self) -> None:
        """Have what this node counted in the store."""
        await self.quotas.settle()

    async def report(self, since: str, until: str, tenant: str | None, by: UsageBy) -> Sequence[UsageRow]:
        """Both days included; the store leaves the last one out."""
        after = date.fromisoformat(until) + timedelta(days=1)
        return await self.stored.usage.report(since, after.isoformat(), tenant, by)


@dataclass(frozen=True, slots=True)
class StoredDecisions:
    """What policies decided."""

    stored: Store

    async def search(self, wanted: Mapping[str, Any], before: int | None, limit: int) -> Sequence[DecisionRow]:
        """The newest below a number."""
        return await self.stored.decisions.search(**wanted, before=before, limit=limit)


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """What administrators did."""

    stored: Store

    async def append(self, note: AuditNote) -> object:
        """Write a row."""
        return await self.stored.audit.append(note)

    async def search(self, wanted: Mapping[str, Any], before: int | None, limit: int) -> Sequence[AuditRow]:
        """The newest below a number."""
        return await self.stored.audit.search(**wanted, before=before, limit=limit)

    async def verify(self) -> ChainVerdict:
        """Whether the log is whole."""
        return await self.stored.audit.verify()


class RowsBehind:
    """Writes rows of the audit log that nobody waits for: failed sign-ins, a drain. So few that they need no queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing: set[asyncio.Task[None]] = set()

    def write(self, note: AuditNote) -> None:
        """Write it behind the back of who asked."""
        task = asyncio.create_task(self._write(note), name="audit-row")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _write(self, note: AuditNote) -> None:
        # The store tells by itself that it is away, and what the row tells of does not depend on it.
        with contextlib.suppress(StoreError):
            await self._store.audit.append(note)


def _told(failed: FailedSignIn) -> AuditNote:
    told = {"address": failed.address, "problem": failed.problem.value, "left_out": failed.left_out}
    return AuditNote("", "", _ACTION_SIGN_IN, accepted=False, body=told)
