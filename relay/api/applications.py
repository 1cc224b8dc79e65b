"""The two web applications: the public one with doors and talk page, and the operations one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from relay.api.admin.openapi import PREFIX
from relay.api.auth import Gatekeeper
from relay.api.calls import CallDoors
from relay.api.client_address import Network
from relay.api.connection_check import ConnectionCheckDoor, ConnectionChecks
from relay.api.cors import Origins
from relay.api.door_names import CALL_PATHS, HANGUP_PATHS, ICE_SERVERS_PATHS, PATHS, STATS_PATHS, Door
from relay.api.drain import DrainDoor
from relay.api.failure_limit import FailureLimit
from relay.api.ice_servers import IceServers, IceServersDoor
from relay.api.middleware import common_headers, errors, origin_rules
from relay.api.mint import MintDoors
from relay.api.pages import Page, SignIn, console_policy, page_routes
from relay.api.probes import Probes
from relay.api.telemetry_port import DoorTelemetry
from relay.config import TurnSettings
from relay.core.doors import Sessions
from relay.core.ephemeral_keys import EphemeralKeys
from relay.core.policy import EffectivePolicy
from relay.core.policy_resolve import Identity
from relay.identity.callers import Callers


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """How the doors behave: lives in seconds, origins as browsers send them, networks whose forwarded headers count."""

    key_seconds: int = 60
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    body_seconds: float = 15.0
    turn: TurnSettings = field(default_factory=TurnSettings)


async def _may_always(_identity: Identity) -> None:
    """No limit of mints."""


async def _no_provider() -> None:
    """Nobody signs in at a provider."""


def create_public_app(
    settings: DoorSettings,
    *,
    callers: Callers,
    ephemeral_keys: EphemeralKeys,
    sessions: Sessions,
    checks: ConnectionChecks,
    policy_for: Callable[[Identity, str | None], EffectivePolicy | None],
    telemetry: DoorTelemetry,
    pages: Mapping[str, Page],
    may_mint: Callable[[Identity], Awaitable[None]] = _may_always,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """Everything a browser can reach.

    `policy_for` and `may_mint`, which raises ApiError, are asked when a key is minted; `clock` gives Unix seconds.
    """
    gate = Gatekeeper(callers, ephemeral_keys, FailureLimit(), telemetry, settings.trusted_proxies, clock)
    mint = MintDoors(
        gate,
        sessions,
        policy_for,
        settings.key_seconds,
        settings.body_seconds,
        telemetry.decided,
        may_mint,
    )
    servers = IceServers(settings.turn)
    calls = CallDoors(gate, sessions, settings.body_seconds, servers)
    check = ConnectionCheckDoor(gate, checks, settings.body_seconds)
    origins = Origins(settings.allowed_origins, settings.trusted_proxies)
    app = web.Application(middlewares=[common_headers(), origin_rules(origins, telemetry), errors(telemetry)])
    app.add_routes(_door_routes(mint, calls, check))
    app.add_routes(_ice_server_routes(IceServersDoor(gate, servers)))
    app.add_routes(Probes(sessions).routes())
    app.add_routes(page_routes(pages))
    return app


def create_operations_app(
    *,
    sessions: Sessions,
    render_metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    telemetry: DoorTelemetry,
    details: Mapping[str, object],
    drain: DrainDoor,
    started: Callable[[], bool] = lambda: True,
    admin: web.Application | None = None,
    console: Mapping[str, Page] | None = None,
    sign_in: SignIn = _no_provider,
) -> web.Application:
    """What operators and their machines read, and the one thing they do.

    `render_metrics` gives the exposition and its content type, `details` is what `/readyz` tells besides reasons.
    `admin` is the admin API, `console` the pages that use it, by their paths below `/console`;
    `sign_in` tells what place those may speak to besides.
    """

    async def metrics(_request: web.Request) -> web.Response:
        body, content_type = await render_metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(middlewares=[common_headers(), errors(telemetry)])
    app.add_routes(Probes(sessions, details, started).routes())
    app.add_routes([web.get("/metrics", metrics), web.post("/drain", drain.post)])
    if admin is not None:
        app.add_subapp(PREFIX, admin)
    app.add_routes([web.get("/console", _to_console)] if console else [])
    below = {f"/console{path}": page for path, page in (console or {}).items()}
    app.add_routes(page_routes(below, console_policy(sign_in), microphone="()"))
    return app


async def _to_console(_request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": "/console/"})


def _door_routes(mint: MintDoors, calls: CallDoors, check: ConnectionCheckDoor) -> list[web.RouteDef]:
    handlers = {
        Door.PREVIEW_SESSIONS: mint.preview_sessions,
        Door.BETA_SESSIONS: mint.preview_sessions,
        Door.GA_CLIENT_SECRETS: mint.client_secrets,
        Door.PREVIEW_CALL: calls.preview,
        Door.BETA_CALL: calls.preview,
        Door.GA_CALLS: calls.ga,
        Door.CONNECTION_CHECK: check.answer,
    }
    routes = [web.post(path, handlers[door]) for path, door in PATHS.items()]
    routes += [web.post(path, calls.reoffer) for path in CALL_PATHS]
    routes += [web.post(path, calls.stats) for path in STATS_PATHS]
    return routes + [web.post(path, calls.hang_up) for path in HANGUP_PATHS]


def _ice_server_routes(door: IceServersDoor) -> list[web.RouteDef]:
    return [web.get(path, door.show, allow_head=False) for path in ICE_SERVERS_PATHS]
