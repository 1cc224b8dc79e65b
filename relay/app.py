"""The composition root: every object is built here once, served, and drained."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from relay import garbage
from relay.admin_side import AdminParts, admin_side
from relay.api import (
    CONSOLE,
    Certificate,
    DoorSettings,
    DrainDoor,
    Listener,
    create_operations_app,
    create_public_app,
    load_pages,
    web_directory,
)
from relay.config import Settings
from relay.config_values import is_loopback
from relay.core.ephemeral_keys import EphemeralKeys
from relay.core.headroom import AdmissionLimits, Headroom
from relay.core.lifecycle import SessionLimits
from relay.decision_log import DecisionLog, DecisionLogPlace
from relay.draining import Drain
from relay.early import EarlySessions
from relay.errors import ConfigError
from relay.governance import Governance
from relay.hang_up_list import HangUpList
from relay.identity.callers import Callers
from relay.identity.opening import Identities, open_identities
from relay.kept_calls import KeptCalls
from relay.live_sessions import end_unrecorded, governed
from relay.load import max_files, watch_load
from relay.media_host import MediaHost, media_host
from relay.node_id import node_id
from relay.policies import Policies
from relay.policy_keeping import policy_keeping
from relay.policy_trials import PolicyTrials
from relay.quota_stores import open_quotas
from relay.quotas import Quotas
from relay.registry import Registry
from relay.rtc import forwarding
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.check_peer import ConnectionChecks
from relay.store import RetentionDays, Store, open_store
from relay.store_upkeep import keep_up
from relay.store_writer import StoreWriter
from relay.stored_switch import StoredSwitch
from relay.telemetry import Telemetry, configure_logging, open_traces, render_metrics
from relay.telemetry.workers import WorkerMetrics
from relay.upstream import create_pool
from relay.upstream.http import environment_proxy
from relay.watches import lasting

_MOST_HTTP_CONNECTIONS = 2_000
# Whoever can connect, with or without a key, must not be able to use up the open files that sessions need.
_HTTP_SHARE_OF_FILES = 4


@dataclass(frozen=True, slots=True)
class Running:
    """A relay in service: its registry, its metrics, its policies, and where it can be reached."""

    registry: Registry
    telemetry: Telemetry
    metrics: CollectorRegistry
    policies: Policies
    public_url: str
    operations_url: str
    media_addresses: tuple[AdvertisedAddress, ...]
    drain: Drain
    store: Store
    governance: Governance
    trials: PolicyTrials
    switch: StoredSwitch
    identities: Identities
    operations: Listener


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Start a relay and stop it on leaving; sessions still alive then are ended.

    Raises ConfigError for settings that cannot be served and OSError for an address that cannot be had.
    """
    settings.require_servable()
    metrics = CollectorRegistry()
    traces = open_traces(enabled=settings.traces.enabled)
    telemetry = Telemetry(metrics, prices=_prices(settings), traces=traces)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, traces.close)
        log = _decision_log(settings, telemetry)
        if log is not None:
            stack.push_async_callback(log.close)
        recordable = (lambda: True) if log is None else (lambda: not log.failing)
        store = await _open_store(settings, telemetry, stack)
        keeping = await stack.enter_async_context(policy_keeping(settings, store, telemetry, recordable))
        policies = keeping.policies
        headroom = Headroom(admission_limits(settings), time.monotonic())
        media = await stack.enter_async_context(media_host(settings, telemetry, headroom))
        metrics.register(WorkerMetrics(media.workers))
        checks = ConnectionChecks(media.plane)
        stack.push_async_callback(checks.close)
        upstream = _upstream(settings, telemetry)
        stack.push_async_callback(upstream.close)
        telemetry.service.watch_expiry("entra", lambda: upstream.pool.credential_expires_at)
        directory = settings.state.directory
        node = node_id(None if directory is None else Path(directory))
        quotas = await open_quotas(settings, store.database, node, telemetry.quotas, stack)
        keys = EphemeralKeys()
        registry = Registry(
            media.host,
            upstream,
            telemetry,
            policies,
            session_limits(settings),
            headroom,
            quotas,
            on_end=lambda session_id: keys.forget(session_id, time.time()),
            early=EarlySessions(telemetry.sessions, settings.upstream.early_most) if settings.upstream.early else None,
        )
        keeping.trials.watch(lambda: governed(registry.live))
        telemetry.sessions.attach(
            registry.live.counters,
            ready=lambda: not registry.readiness(),
            draining=lambda: registry.draining,
            endpoint_drops=media.dropped,
        )
        telemetry.room.watch(registry.capacity)
        policies.on_change = registry.policies_changed
        if log is not None:
            log.on_failing = lambda: end_unrecorded(registry.live)
        stack.push_async_callback(registry.drain, 0)
        drain = Drain(registry, settings.limits.drain_seconds, telemetry)
        stack.push_async_callback(drain.close)
        identities = await stack.enter_async_context(
            open_identities(settings, telemetry, environment_proxy, store.keys)
        )
        admin = await stack.enter_async_context(
            admin_side(
                AdminParts(settings, telemetry, registry, keeping, media, drain, store, identities, upstream.pool_state)
            )
        )
        up = asyncio.Event()
        public = _public_listener(settings, telemetry, registry, policies, keys, checks, identities.callers, quotas)
        operations = _operations_listener(settings, telemetry, registry, metrics, media, drain, up.is_set, admin)
        for listener in (operations, public):
            await listener.start()
            stack.push_async_callback(listener.stop)
        upstream.hang_up_what_was_left()
        watches = {"loop-lag": telemetry.watch_loop, **keeping.watches(),
                   "quotas": quotas.watch, "leases": quotas.renew, "usage": quotas.keep,
                   "store": lambda: keep_up(store, telemetry.store),
                   "load": lambda: watch_load(lambda sample: headroom.take(sample, time.monotonic()))}  # fmt: skip
        for name, watch in watches.items():
            stack.callback(asyncio.create_task(lasting(name, watch, telemetry), name=name).cancel)
        up.set()
        yield Running(
            registry,
            telemetry,
            metrics,
            policies,
            _url("https" if settings.http.tls_cert_file else "http", settings.http.host, public.port),
            _url("http", settings.admin.host, operations.port),
            media.addresses,
            drain,
            store,
            keeping.governance,
            keeping.trials,
            keeping.switch,
            identities,
            operations,
        )


async def serve(settings: Settings, announce: Callable[[Running], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends every session now, within seconds.

    SIGHUP reads the policies.

    `announce` is called once the relay is ready. Raises as `running` does.
    """
    configure_logging(settings.log.level, settings.log.format)
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Until the policies are there, the signal to read them has nothing to do.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with running(settings) as relay:
        loop.add_signal_handler(signal.SIGHUP, relay.policies.ask_reload)
        for warning in settings.warnings:
            relay.telemetry.warn("configuration", message=warning)
        relay.telemetry.started(
            relay.public_url, relay.operations_url, [str(each) for each in relay.media_addresses], forwarding.NAME
        )
        if announce is not None:
            announce(relay)
        garbage.settle()
        await stop.wait()
        draining = relay.drain.begin()
        hurry = asyncio.create_task(stop_now.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurry):
            task.cancel()
        await asyncio.gather(draining, hurry, return_exceptions=True)


def _public_listener(
    settings: Settings,
    telemetry: Telemetry,
    registry: Registry,
    policies: Policies,
    keys: EphemeralKeys,
    checks: ConnectionChecks,
    callers: Callers,
    quotas: Quotas,
) -> Listener:
    http = settings.http
    doors = DoorSettings(settings.clients.key_seconds, http.allowed_origins, http.trusted_proxies, turn=settings.turn)
    application = create_public_app(
        doors,
        callers=callers,
        ephemeral_keys=keys,
        sessions=registry,
        checks=checks,
        policy_for=policies.admit_key,
        telemetry=telemetry.doors,
        pages=load_pages(web_directory()),
        may_mint=quotas.may_mint,
    )
    certificate = _certificate(settings)
    if certificate is not None:
        telemetry.service.watch_expiry("tls_cert", lambda: certificate.expires_at)
    return Listener(
        application,
        host=http.host,
        port=http.port,
        telemetry=telemetry.doors,
        certificate=certificate,
        max_connections=min(_MOST_HTTP_CONNECTIONS, max_files() // _HTTP_SHARE_OF_FILES or _MOST_HTTP_CONNECTIONS),
    )


def _operations_listener(
    settings: Settings,
    telemetry: Telemetry,
    registry: Registry,
    metrics: CollectorRegistry,
    media: MediaHost,
    drain: Drain,
    started: Callable[[], bool],
    admin_api: web.Application,
) -> Listener:
    async def scraped() -> tuple[bytes, str]:
        await media.refresh()
        return render_metrics(metrics)

    admin = settings.admin
    door = DrainDoor(drain.ask, settings.limits.drain_seconds, admin.key, is_loopback(admin.host))
    application = create_operations_app(
        sessions=registry,
        render_metrics=scraped,
        telemetry=telemetry.doors,
        details={"media_addresses": [str(each) for each in media.addresses]},
        drain=door,
        started=started,
        admin=admin_api,
        console=load_pages(web_directory() / CONSOLE),
    )
    return Listener(application, host=admin.host, port=admin.port, telemetry=telemetry.doors)


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


def _upstream(settings: Settings, telemetry: Telemetry) -> HangUpList:
    """The members of the pool, behind the list of calls that are to be hung up."""
    directory = settings.state.directory
    kept = KeptCalls(None if directory is None else Path(directory))
    pool = create_pool(settings.upstream, telemetry.members)
    telemetry.members.watch(pool.state)
    return HangUpList(pool, kept, telemetry)


def _prices(settings: Settings) -> dict[str, dict[str, float]]:
    return {each.deployment: each.dollars for each in settings.cost.prices}


def _decision_log(settings: Settings, telemetry: Telemetry) -> DecisionLog | None:
    wanted = settings.decision_log
    if wanted.directory is None:
        return None
    place = DecisionLogPlace(Path(wanted.directory), wanted.file_bytes, wanted.sync_seconds, wanted.head_seconds)
    log = DecisionLog(place, telemetry.decisions)
    telemetry.decisions.keep(log.write, lambda: log.queue_depth)
    return log


async def _open_store(settings: Settings, telemetry: Telemetry, stack: contextlib.AsyncExitStack) -> Store:
    """The store, to which finished sessions and decisions are written; closed with the stack. Raises ConfigError."""
    wanted = settings.store
    days = RetentionDays(wanted.sessions_days, wanted.decisions_days, wanted.usage_days, wanted.audit_days)
    store = await open_store(settings.store_url.reveal(), days)
    stack.push_async_callback(store.close)
    telemetry.store.opened(store.kind)
    store.listen(telemetry.store.asked)
    writer = StoreWriter(store, telemetry.store.dropped)
    stack.push_async_callback(writer.close)
    telemetry.sessions.keep(writer.session_ended)
    telemetry.decisions.keep(writer.decided)
    return store


def _certificate(settings: Settings) -> Certificate | None:
    cert, key = settings.http.tls_cert_file, settings.http.tls_key_file
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("http.tls_cert_file and http.tls_key_file belong together: set both or none")
    return Certificate(cert, key)


def _url(scheme: str, host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{scheme}://{shown}:{port}"
