"""The real doors, keys, registry and quotas over a media side and a service that do nothing but answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from relay.api import DoorSettings, Listener, create_public_app
from relay.config import QuotaSettings, Secret, Settings, StoreSettings
from relay.core.ephemeral_keys import EphemeralKeys, Grant
from relay.core.headroom import AdmissionLimits, Headroom
from relay.core.lifecycle import (
    Dialect,
    Ended,
    Ending,
    EndSession,
    Fact,
    Negotiated,
    Phase,
    PhaseChanged,
    Reanswered,
    ServiceAnswered,
    SessionCounters,
    SessionLimits,
    SessionStart,
)
from relay.core.policy import policy_from_instructions
from relay.core.policy_resolve import Identity
from relay.early import EarlySessions
from relay.hang_up_list import HangUpList
from relay.identity.callers import Callers
from relay.identity.keys import ConfiguredKeys, KeyRing
from relay.kept_calls import KeptCalls
from relay.policies import Policies, one_policy
from relay.quota_stores import open_quotas
from relay.quotas import Quotas
from relay.registry import Registry
from relay.store import Database
from relay.telemetry import Telemetry
from relay.upstream import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal
from support.pool import pool_of

OFFER = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
LIMITS = AdmissionLimits(max_sessions=10_000, ports=0, cpu=0, loop_lag_seconds=0, files=0, setups=0)


class LightSession:
    """A media side that says what a real one would."""

    def __init__(self, start: SessionStart, emit: Callable[[Fact], None]) -> None:
        self._emit = emit
        self._over = False
        asyncio.get_running_loop().call_soon(emit, Negotiated(start.offer and "v=0 answer", "v=0 offer"))

    def command(self, command: Any) -> None:
        if self._over:
            return
        match command:
            case ServiceAnswered():
                self._emit(PhaseChanged(Phase.CONNECTING))
            case EndSession(reason, detail):
                self._over = True
                self._emit(Ending(reason))
                self._emit(Ended(reason, detail, SessionCounters()))
            case _ if hasattr(command, "number"):
                self._emit(Reanswered(command.number, "v=0 answer", restart=False))

    def counters(self) -> SessionCounters:
        return SessionCounters()


class LightHost:
    def start(self, start: SessionStart, emit: Callable[[Fact], None]) -> LightSession:
        return LightSession(start, emit)

    def readiness(self) -> dict[str, str]:
        return {}


class LightService:
    """Accepts every call, unless told to refuse, and when it may; knows how many there are at one time."""

    dialect = Dialect.GA
    credential_expires_at = None

    def __init__(self) -> None:
        self.refusal: ServiceRefusal | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.calls = self.most = self.begun = self.made = 0

    async def mint(self, session: dict[str, Any]) -> ServiceKey:
        self.begun += 1
        self.asked.set()
        await self.may_answer.wait()
        if self.refusal is not None:
            raise ServiceError(self.refusal, Operation.MINT, "no")
        return ServiceKey("key")

    async def call(self, key: ServiceKey, offer: str, deployment: str) -> ServiceCall:
        self.calls += 1
        self.made += 1
        self.most = max(self.most, self.calls)
        return ServiceCall("v=0", f"rtc_{self.made}")

    async def hang_up(self, call: ServiceCall) -> None:
        self.calls -= 1

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class LightRelay:
    """One node."""

    registry: Registry
    keys: EphemeralKeys
    quotas: Quotas
    service: LightService
    telemetry: Telemetry
    url: str
    http: aiohttp.ClientSession
    number: int = 0

    def key(self, subject: str = "alice", tenant: str = "default") -> str:
        """A valid key of somebody's."""
        self.number += 1
        grant = Grant(Dialect.GA, None, None, subject, identity=Identity(tenant, subject))
        return self.keys.mint(self.number.to_bytes(32, "big"), grant, time.time(), 600).value

    async def post(self, key: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of an offer with a key."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
        async with self.http.post(f"{self.url}/v1/realtime/calls", data=OFFER, headers=headers) as response:
            return response.status, dict(response.headers), await response.text()

    async def posts(self, keys: list[str]) -> Counter[int]:
        """How many of so many offers at one time got which status."""
        return Counter(status for status, _, _ in await asyncio.gather(*map(self.post, keys)))

    async def hang_up(self, location: str, key: str) -> None:
        """Hang up and wait until the session is forgotten and its place is free."""
        session_id = location.rpartition("/")[2]
        _, task = self.registry.live._running[session_id]
        async with self.http.post(
            f"{self.url}{location}/hangup", headers={"Authorization": f"Bearer {key}"}
        ) as response:
            assert response.status == 200
        await task
        await self.places_free()

    async def places_free(self) -> None:
        """Wait until everything that was to be given back is."""
        slots = self.quotas._slots
        await asyncio.sleep(0)
        while slots._tasks:
            await asyncio.wait(slots._tasks)


@contextlib.asynccontextmanager
async def light_relay(
    database: Database, *, node: str = "one", redis_url: str | None = None, early_most: int = 0, **quotas: Any
) -> AsyncIterator[LightRelay]:
    """A node with these quotas; places and mints in Redis, if a URL is given."""
    telemetry = Telemetry(CollectorRegistry())
    policies = Policies(one_policy(policy_from_instructions("Be brief.", "rt")), None, telemetry.policies)
    store = StoreSettings(redis_url=None if redis_url is None else Secret(redis_url))
    settings = replace(Settings(), quotas=QuotaSettings(**quotas), store=store)
    service, keys = LightService(), EphemeralKeys()
    async with contextlib.AsyncExitStack() as stack:
        upstream = HangUpList(pool_of(telemetry, rt=service), KeptCalls(None), telemetry)
        stack.push_async_callback(upstream.close)
        held = await open_quotas(settings, database, node, telemetry.quotas, stack)
        registry = Registry(
            LightHost(), upstream, telemetry, policies, SessionLimits(), Headroom(LIMITS, time.monotonic()), held,
            on_end=lambda session_id: keys.forget(session_id, time.time()),
            early=EarlySessions(telemetry.sessions, early_most) if early_most else None,
        )  # fmt: skip
        stack.push_async_callback(registry.drain, 0)
        app = create_public_app(
            DoorSettings(),
            callers=Callers(ConfiguredKeys([Secret("client-key-of-alice-0001")]), KeyRing()),
            ephemeral_keys=keys,
            sessions=registry,
            checks=None,
            policy_for=policies.admit_key,
            telemetry=telemetry.doors,
            pages={},
            may_mint=held.may_mint,
        )
        listener = Listener(app, host="127.0.0.1", port=0, telemetry=telemetry.doors, grace_seconds=0.5)
        await listener.start()
        stack.push_async_callback(listener.stop)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        url = f"http://127.0.0.1:{listener.port}"
        yield LightRelay(registry, keys, held, service, telemetry, url, http)
