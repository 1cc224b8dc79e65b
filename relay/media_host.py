"""Where media sides run: in this process, or in workers. Both look the same to what is above."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from relay.config import IceSettings, Settings, WorkerPorts
from relay.conversation import Host
from relay.core.headroom import Headroom
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.dtls import SharedCertificate
from relay.rtc.front import Front
from relay.rtc.plane import MediaPlane
from relay.rtc.public_ports import PublicPorts
from relay.rtc.shared_port import require_shareable
from relay.session import SessionHost
from relay.telemetry import Telemetry
from relay.telemetry.workers import WorkerFigures
from relay.workers.messages import OwnPorts, SetUp, SharedPorts
from relay.workers.pool import WorkerPool

# A scrape waits so long for the workers' counters; of a worker that takes longer the last ones are shown.
_REFRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MediaHost:
    """What runs sessions, and what is to be known of it.

    `plane` is this process's own: connection checks use it. `addresses` is what browsers are told. `refresh` brings
    counters that are elsewhere, `dropped` is what no session took, by cause.
    """

    host: Host
    plane: MediaPlane
    addresses: tuple[AdvertisedAddress, ...]
    refresh: Callable[[], Awaitable[None]]
    dropped: Callable[[], Counter[str]]
    workers: Callable[[], tuple[WorkerFigures, ...]]


@contextlib.asynccontextmanager
async def media_host(settings: Settings, telemetry: Telemetry, headroom: Headroom) -> AsyncIterator[MediaHost]:
    """Bind the public media ports and start what is to run sessions; on leaving, workers stop and ports are freed.

    `headroom` is told what workers have to carry.

    Raises OSError for a port that cannot be had and ConfigError for what cannot be served on this system.
    """
    with contextlib.ExitStack() as stack:
        ports = PublicPorts(settings.ice)
        stack.callback(ports.close)
        plane = MediaPlane(ports.endpoint, ports.candidates, SharedCertificate(), settings.egress)
        if settings.workers.count == 1:
            yield _here(plane, ports)
        else:
            async with _pool(settings, telemetry, headroom, ports) as pool:
                yield _in_workers(pool, plane, ports)


def _here(plane: MediaPlane, ports: PublicPorts) -> MediaHost:
    async def nothing_to_refresh() -> None:
        """All counters are in this process."""

    return MediaHost(SessionHost(plane), plane, ports.addresses, nothing_to_refresh, lambda: _dropped(ports), tuple)


def _in_workers(pool: WorkerPool, plane: MediaPlane, ports: PublicPorts) -> MediaHost:
    async def refresh() -> None:
        await pool.refresh(_REFRESH_SECONDS)

    addresses = ports.addresses + pool.addresses
    return MediaHost(pool, plane, addresses, refresh, lambda: _dropped(ports) + pool.dropped(), pool.figures)


@contextlib.asynccontextmanager
async def _pool(
    settings: Settings, telemetry: Telemetry, headroom: Headroom, ports: PublicPorts
) -> AsyncIterator[WorkerPool]:
    numbers = range(1, settings.workers.count + 1)
    if settings.workers.ports is WorkerPorts.SHARED:
        require_shareable()
        front = Front(ports.endpoint, ports.listener)
        shared = SharedPorts(ports.hosts, ports.endpoint.port, ports.candidates)
        set_ups = [SetUp(shared, settings.egress, settings.log) for _ in numbers]
    else:
        front = None
        set_ups = [SetUp(OwnPorts(_own(settings.ice, number)), settings.egress, settings.log) for number in numbers]
    pool = WorkerPool(set_ups, telemetry, front, headroom)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


def _own(ice: IceSettings, number: int) -> IceSettings:
    """The ports of one worker: those of the main process plus its number; 0 stays any free one."""
    return replace(
        ice,
        udp_port=ice.udp_port and ice.udp_port + number,
        tcp_port=ice.tcp_port and ice.tcp_port + number,
    )


def _dropped(ports: PublicPorts) -> Counter[str]:
    return Counter({cause.value: count for cause, count in ports.endpoint.dropped.items()})
