"""The sessions' side of the program: what admits them, counts them and ends them, put together once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from relay.config import Settings
from relay.core.ephemeral_keys import EphemeralKeys
from relay.core.headroom import AdmissionLimits, Headroom
from relay.core.lifecycle import SessionLimits
from relay.draining import Drain
from relay.early import EarlySessions
from relay.hang_up_list import HangUpList
from relay.live_sessions import end_unrecorded, governed
from relay.media_host import MediaHost
from relay.node_id import node_id
from relay.policy_keeping import PolicyKeeping
from relay.quota_stores import open_quotas
from relay.quotas import Quotas
from relay.record_keeping import RecordKeeping
from relay.registry import Registry
from relay.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What sessions need of the rest of the program."""

    settings: Settings
    telemetry: Telemetry
    records: RecordKeeping
    keeping: PolicyKeeping
    media: MediaHost
    headroom: Headroom
    upstream: HangUpList


@dataclass(frozen=True, slots=True)
class SessionSide:
    """All sessions, the keys that open them, what they may use, and the one drain."""

    registry: Registry
    keys: EphemeralKeys
    quotas: Quotas
    drain: Drain


@contextlib.asynccontextmanager
async def session_side(parts: SessionParts) -> AsyncIterator[SessionSide]:
    """Let sessions run; on leaving, those that are left end, their places are free and their usage is written.

    Raises ConfigError for places that cannot be counted where the settings say.
    """
    settings, telemetry, records = parts.settings, parts.telemetry, parts.records
    async with contextlib.AsyncExitStack() as stack:
        directory = settings.state.directory
        node = node_id(None if directory is None else Path(directory))
        quotas = await open_quotas(settings, records.store.database, node, telemetry.quotas, stack)
        keys = EphemeralKeys()
        registry = _registry(parts, quotas, keys)
        _attach(registry, parts)
        stack.push_async_callback(registry.drain, 0)
        drain = Drain(registry, settings.limits.drain_seconds, telemetry)
        stack.push_async_callback(drain.close)
        yield SessionSide(registry, keys, quotas, drain)


def session_limits(settings: Settings) -> SessionLimits:
    """The limits of one session, from the settings."""
    limits = settings.limits
    return SessionLimits(
        ice_seconds=limits.ice_seconds,
        dtls_seconds=limits.dtls_seconds,
        channel_seconds=limits.channel_seconds,
        policy_seconds=limits.policy_seconds,
        disconnected_seconds=limits.disconnected_seconds,
        consent_seconds=limits.consent_seconds,
        reattach_seconds=limits.reattach_seconds,
        events_per_second=limits.events_per_second,
        client_bytes_per_second=limits.client_bytes_per_second,
        client_burst_bytes=limits.client_burst_bytes,
        outbox_bytes=limits.outbox_bytes,
        packets_per_second=limits.packets_per_second,
    )


def admission_limits(settings: Settings) -> AdmissionLimits:
    """When new sessions are refused, from the settings."""
    admission, ports = settings.admission, settings.egress.udp_ports
    return AdmissionLimits(
        max_sessions=settings.limits.max_sessions,
        ports=0 if ports is None else ports.last - ports.first + 1,
        cpu=admission.cpu,
        loop_lag_seconds=admission.loop_lag_seconds,
        files=admission.files,
        setups=admission.setups,
        setup_cpu_seconds=admission.setup_cpu_seconds,
    )


def _registry(parts: SessionParts, quotas: Quotas, keys: EphemeralKeys) -> Registry:
    early, telemetry = parts.settings.upstream.early, parts.telemetry
    return Registry(
        parts.media.host,
        parts.upstream,
        telemetry,
        parts.keeping.policies,
        session_limits(parts.settings),
        parts.headroom,
        quotas,
        on_end=lambda session_id: keys.forget(session_id, time.time()),
        early=EarlySessions(telemetry.sessions, parts.settings.upstream.early_most) if early else None,
    )


def _attach(registry: Registry, parts: SessionParts) -> None:
    """Tell those who watch sessions, or act on all of them, where they are."""
    telemetry, keeping = parts.telemetry, parts.keeping
    telemetry.sessions.attach(
        registry.live.counters,
        ready=lambda: not registry.readiness(),
        draining=lambda: registry.draining,
        endpoint_drops=parts.media.dropped,
    )
    telemetry.room.watch(registry.capacity)
    keeping.trials.watch(lambda: governed(registry.live))
    keeping.policies.on_change = registry.policies_changed
    if parts.records.log is not None:
        parts.records.log.on_failing = lambda: end_unrecorded(registry.live)
