"""The composition root: every object is built here once, served, and drained.

`running` is the order of the program. What is entered later is left earlier: nobody can ask any more before sessions
end, sessions are over before their places and usage are written, all of that before records, store and log close.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from relay import garbage
from relay.admin_side import AdminParts, admin_side
from relay.api import Listener
from relay.config import Settings
from relay.core.headroom import Headroom
from relay.draining import Drain
from relay.governance import Governance
from relay.hang_up_list import HangUpList
from relay.identity.opening import Identities, open_identities
from relay.kept_calls import KeptCalls
from relay.listeners import Served, operations_listener, operations_url, public_listener, public_url
from relay.load import allow_all_files, watch_load
from relay.media_host import media_host
from relay.policies import Policies
from relay.policy_keeping import PolicyKeeping, policy_keeping
from relay.policy_trials import PolicyTrials
from relay.quotas import Quotas
from relay.record_keeping import record_keeping
from relay.registry import Registry
from relay.rtc import forwarding
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.check_peer import ConnectionChecks
from relay.session_side import SessionParts, admission_limits, session_side
from relay.store import Store
from relay.store_upkeep import keep_up
from relay.stored_switch import StoredSwitch
from relay.telemetry import Telemetry, configure_logging, open_traces
from relay.telemetry.workers import WorkerMetrics
from relay.upstream import create_pool
from relay.upstream.http import environment_proxy
from relay.watches import lasting


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
    async with contextlib.AsyncExitStack() as stack:
        enter, leave = stack.enter_async_context, stack.push_async_callback
        telemetry = _telemetry(settings, metrics, stack)
        records = await enter(record_keeping(settings, telemetry))
        store = records.store
        keeping = await enter(policy_keeping(settings, store, telemetry, records.can_record))
        headroom = Headroom(admission_limits(settings), time.monotonic())
        media = await enter(media_host(settings, telemetry, headroom))
        metrics.register(WorkerMetrics(media.workers))
        checks = ConnectionChecks(media.plane)
        leave(checks.close)
        upstream = _upstream(settings, telemetry)
        leave(upstream.close)
        sessions = await enter(
            session_side(SessionParts(settings, telemetry, records, keeping, media, headroom, upstream))
        )
        identities = await enter(open_identities(settings, telemetry, environment_proxy, store.keys))
        shown = AdminParts(settings, telemetry, keeping, media, sessions, store, identities, upstream.pool_state)
        admin = await enter(admin_side(shown))
        up = asyncio.Event()
        served = Served(settings, telemetry, metrics, keeping.policies, media, checks, sessions, identities, admin)
        public, operations = public_listener(served), operations_listener(served, up.is_set)
        for listener in (operations, public):
            await listener.start()
            leave(listener.stop)
        upstream.hang_up_what_was_left()
        for name, watch in _watches(telemetry, keeping, sessions.quotas, store, headroom).items():
            stack.callback(asyncio.create_task(lasting(name, watch, telemetry), name=name).cancel)
        up.set()
        yield _running(served, keeping, store, public, operations)


def _running(served: Served, keeping: PolicyKeeping, store: Store, public: Listener, operations: Listener) -> Running:
    return Running(
        served.sessions.registry,
        served.telemetry,
        served.metrics,
        keeping.policies,
        public_url(served.settings, public),
        operations_url(served.settings, operations),
        served.media.addresses,
        served.sessions.drain,
        store,
        keeping.governance,
        keeping.trials,
        keeping.switch,
        served.identities,
        operations,
    )


async def serve(settings: Settings, announce: Callable[[Running], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends every session now, within seconds.

    SIGHUP reads the policies.

    `announce` is called once the relay is ready. Raises as `running` does.
    """
    configure_logging(settings.log.level, settings.log.format)
    allow_all_files()
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


def _telemetry(settings: Settings, metrics: CollectorRegistry, stack: contextlib.AsyncExitStack) -> Telemetry:
    traces = open_traces(enabled=settings.traces.enabled)
    stack.push_async_callback(asyncio.to_thread, traces.close)
    prices = {each.deployment: each.dollars for each in settings.cost.prices}
    return Telemetry(metrics, prices=prices, traces=traces)


def _upstream(settings: Settings, telemetry: Telemetry) -> HangUpList:
    """The members of the pool, behind the list of calls that are to be hung up."""
    directory = settings.state.directory
    kept = KeptCalls(None if directory is None else Path(directory))
    pool = create_pool(settings.upstream, telemetry.members)
    telemetry.members.watch(pool.state)
    telemetry.service.watch_expiry("entra", lambda: pool.credential_expires_at)
    return HangUpList(pool, kept, telemetry)


def _watches(
    telemetry: Telemetry, keeping: PolicyKeeping, quotas: Quotas, store: Store, headroom: Headroom
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What runs for as long as the relay, by name."""
    return {
        **keeping.watches(),
        **quotas.watches(),
        "store": lambda: keep_up(store, telemetry.store),
        "load": lambda: watch_load(lambda sample: headroom.take(sample, time.monotonic()), telemetry.timer_late),
    }
