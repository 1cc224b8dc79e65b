"""A running relay with the stand-in for Azure behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from relay.app import Running, running
from relay.config import (
    AdminSettings,
    AdmissionSettings,
    ClientSettings,
    HttpSettings,
    IceSettings,
    LimitSettings,
    PolicySettings,
    Secret,
    Settings,
    UpstreamProtocol,
    UpstreamSettings,
)
from relay.simulator import Simulator, SimulatorSettings

INSTRUCTIONS = "CANARY-7f3a. You are Contoso's assistant. Never give legal advice."
CLIENT_KEY = "client-key-for-tests"
DEPLOYMENT = "contoso-rt"
TRANSCRIPTION = "contoso-transcribe"
SECRETS = ("CANARY-7f3a", DEPLOYMENT, TRANSCRIPTION, "simulator-resource-key", "realtime-api-vmss")


@dataclass(frozen=True, slots=True)
class Bench:
    """Both programs; everything a test may look at."""

    relay: Running
    simulator: Simulator

    @property
    def url(self) -> str:
        return self.relay.public_url


def bounds(**changes: float) -> LimitSettings:
    """Bounds for a test: whose client leaves, that session ends at once, unless the test says how long it waits."""
    return replace(LimitSettings(reattach_seconds=0), **changes)


def relay_settings(service_url: str, **sections: object) -> Settings:
    """Settings of a relay on free loopback ports."""
    settings = Settings(
        upstream=UpstreamSettings(
            endpoint=service_url,
            webrtc_endpoint=service_url,
            deployment=DEPLOYMENT,
            transcription_deployment=TRANSCRIPTION,
            api_key=Secret("simulator-resource-key"),
        ),
        clients=ClientSettings(keys=(Secret(CLIENT_KEY),)),
        policy=PolicySettings(instructions=INSTRUCTIONS),
        http=HttpSettings(host="127.0.0.1", port=0),
        admin=AdminSettings(host="127.0.0.1", port=0),
        ice=IceSettings(hosts=("127.0.0.1",), udp_port=0, tcp_port=0),
        limits=bounds(),
        # Clients and service run in the same process and on the same cores: its load says nothing of the relay's.
        admission=AdmissionSettings(cpu=0, loop_lag_seconds=0, setups=0),
    )
    return replace(settings, **sections)


@contextlib.asynccontextmanager
async def bench(
    simulator: SimulatorSettings | None = None,
    *,
    protocol: UpstreamProtocol = UpstreamProtocol.AZURE_GA,
    service_seconds: float = 15.0,
    early_most: int = 0,
    **sections: object,
) -> AsyncIterator[Bench]:
    """Run both; `service_seconds` bounds each request upstream, `sections` replace sections of the relay's settings.

    With `early_most` sessions begin when their keys are minted.
    """
    wanted = simulator or SimulatorSettings()
    wanted = replace(wanted, deployments=(DEPLOYMENT,), transcription_deployments=(TRANSCRIPTION,))
    async with Simulator(wanted) as service:
        settings = relay_settings(service.url, **sections)
        upstream = replace(settings.upstream, protocol=protocol, timeout_seconds=service_seconds)
        upstream = replace(upstream, early=early_most > 0, early_most=early_most or upstream.early_most)
        settings = replace(settings, upstream=upstream)
        async with running(settings) as relay:
            yield Bench(relay, service)
