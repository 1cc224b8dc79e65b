"""One round of `relay doctor`: what can be looked at side by side is, and every look has its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from relay.config import Settings
from relay.doctor import ice, issuers, local, ports, service, serving, stores
from relay.doctor.checks import Check, CheckName, Status, in_thread

# A check of several steps gets several times the bound of one.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """What the round is to do: `seconds` for each step, `mint` a key, `operations` the URL of a running relay."""

    config: str | None = None
    seconds: float = 5.0
    mint: bool = False
    operations: str | None = None


async def examine(wish: Wish, environ: Mapping[str, str]) -> tuple[Check, ...]:
    """Run every check; without settings that load only those that need none."""
    settings, found = local.configuration(wish.config, environ)
    if settings is None:
        return (*found, *local.versions())
    relay, missing = await serving.find(settings, wish.operations, wish.seconds)
    files = None if relay is None else relay.files()
    of_this_machine: list[tuple[CheckName, Callable[[], list[Check]]]] = [
        (CheckName.POLICIES, lambda: local.policies(settings)),
        (CheckName.DECISION_LOG, lambda: local.decision_log(settings)),
        (CheckName.CERTIFICATE, lambda: local.certificate(settings)),
        (CheckName.VERSIONS, local.versions),
        (CheckName.FILE_LIMIT, lambda: local.file_limit(settings, files)),
        (CheckName.EGRESS_PORTS, lambda: ice.egress_ports(settings)),
        (CheckName.ADMINISTRATORS, lambda: local.administrators(settings)),
    ]
    seconds = wish.seconds
    of_the_network: list[tuple[CheckName, Awaitable[list[Check]]]] = [
        (CheckName.HTTP_PORT, ports.http_port(settings, seconds)),
        (CheckName.OPERATIONS_PORT, ports.operations_port(settings, seconds)),
        (CheckName.MEDIA_UDP, ports.media_ports(settings, relay, seconds)),
        (CheckName.ADVERTISED, ports.advertised(settings)),
        *((CheckName.ICE_SERVER, ice.ice_server(each, settings.turn, seconds)) for each in settings.turn.urls),
        *((CheckName.SERVICE_TCP, service.service(each, seconds)) for each in service.service_urls(settings.upstream)),
        (CheckName.CREDENTIALS, service.credentials(settings, mint=wish.mint)),
        (CheckName.EGRESS_UDP, ice.egress_udp(settings, seconds)),
        (CheckName.EGRESS_PROXY, ice.egress_proxy(settings, seconds)),
        (CheckName.EGRESS_TURN, ice.egress_turn(settings.egress, seconds)),
        (CheckName.ISSUER, issuers.issuers(settings, seconds)),
        (CheckName.STORE, stores.store(settings)),
        (CheckName.REDIS, stores.redis(settings)),
    ]
    bound = seconds * _STEPS
    mint_bound = max(bound, settings.upstream.timeout_seconds * 2)
    rounds = await asyncio.gather(
        *(_bounded(name, in_thread(check), bound) for name, check in of_this_machine),
        *(
            _bounded(name, check, mint_bound if name is CheckName.CREDENTIALS else bound)
            for name, check in of_the_network
        ),
    )
    for checks in rounds:
        found.extend(checks)
    found.extend(missing if relay is None else serving.media_path(relay, _told(settings, found)))
    order = {name: position for position, name in enumerate(CheckName)}
    return tuple(sorted(found, key=lambda check: order[check.name]))


async def _bounded(name: CheckName, work: Awaitable[list[Check]], seconds: float) -> list[Check]:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return [Check(name, Status.FAIL, f"not done within {seconds:g} s", "try again with a longer --timeout")]


def _told(settings: Settings, found: list[Check]) -> str:
    """What browsers are told, in words: the addresses that were resolved, else the setting."""
    addresses = [check.subject for check in found if check.name is CheckName.ADVERTISED and check.subject]
    return ", ".join(addresses or map(str, settings.ice.advertise))
