"""A relay with two stand-ins for Azure behind it, in two regions; and pools of services that are no programs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from relay.app import Running, running
from relay.config import PoolMember, Secret, UpstreamProtocol
from relay.core.pool import Condition, MemberState, PoolFacts
from relay.simulator import Simulator, SimulatorSettings
from relay.telemetry import Telemetry
from relay.upstream import Member, Upstream, UpstreamPool
from support.service import DEPLOYMENT, SECRETS, TRANSCRIPTION, relay_settings

NORTH_NAME = "contoso-rt-north"
"""What the first of two members calls the deployment."""
POOL_SECRETS = (*SECRETS, NORTH_NAME, "key-of-south", "swedencentral", "eastus2")
_KEYS = {"north": "simulator-resource-key", "south": "key-of-south"}


def pool_of(telemetry: Telemetry, **services: Upstream) -> UpstreamPool:
    """A pool of services by name, each at `https://NAME.example`."""
    members = [Member(PoolFacts(name), f"https://{name}.example", each) for name, each in services.items()]
    return UpstreamPool(members, "d", 15.0, telemetry.members)


@dataclass(slots=True)
class Pair:
    """Both members and the relay. The first that may be tried is; `later` seconds the pool believes to have passed."""

    relay: Running
    north: Simulator
    south: Simulator
    later: float = 0.0

    @property
    def url(self) -> str:
        return self.relay.public_url

    @property
    def pool(self) -> UpstreamPool:
        return self.relay.registry._upstream.pool

    def state(self, member: str) -> MemberState:
        """How it stands with a member."""
        return next(each for each in self.pool.state() if each.name == member)

    def condition(self, member: str) -> Condition:
        return self.state(member).state

    def value(self, name: str, **labels: str) -> float:
        """A metric's value, 0 before it is there."""
        return self.relay.metrics.get_sample_value(name, labels) or 0.0


def asked(service: Simulator) -> tuple[int, int]:
    """How many mints and calls a service has seen."""
    state = service.state()
    return len(state["mints"]), len(state["calls"])


def northern(port: int = 0) -> Simulator:
    """The first member's service."""
    return Simulator(_service(deployments=(NORTH_NAME,), api_key=_KEYS["north"], port=port))


@contextlib.asynccontextmanager
async def pair(
    *,
    protocol: UpstreamProtocol = UpstreamProtocol.AZURE_GA,
    service_seconds: float = 5.0,
    early_most: int = 0,
    weights: tuple[int, int] = (1, 1),
    **sections: Any,
) -> AsyncIterator[Pair]:
    """Run all three; options as of `support.service.bench`."""
    south = Simulator(_service(deployments=(DEPLOYMENT,), api_key=_KEYS["south"]))
    async with northern() as north, south:
        members = (
            PoolMember("north", north.url, "swedencentral", weights[0], NORTH_NAME, north.url, Secret(_KEYS["north"])),
            PoolMember("south", south.url, "eastus2", weights[1], None, south.url, Secret(_KEYS["south"])),
        )
        settings = relay_settings("", **sections)
        upstream = replace(settings.upstream, pool=members, protocol=protocol, timeout_seconds=service_seconds,
                           endpoint="", webrtc_endpoint=None, api_key=None,
                           early=early_most > 0, early_most=early_most or 50)  # fmt: skip
        async with running(replace(settings, upstream=upstream)) as relay:
            both = Pair(relay, north, south)
            both.pool._draw = lambda: 0.0
            both.pool.now = lambda: time.monotonic() + both.later
            yield both


def _service(**settings: Any) -> SimulatorSettings:
    return SimulatorSettings(transcription_deployments=(TRANSCRIPTION,), **settings)
