"""A relay in service, as its operations listener tells of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from relay.config import Settings
from relay.config_network import IceServer
from relay.core.lifecycle import LegName, Phase
from relay.core.rtp import DropCause
from relay.doctor.checks import Check, CheckName, Status
from relay.doctor.net import NetError, get
from relay.errors import EndReason
from relay.rtc.probe import ProbeError, stun_binding

_OK = 200
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to connect to for them
# How long a datagram to this machine may take to be counted.
_COUNTED_SECONDS = 0.5

Sample = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Serving:
    """A relay that answered, and its figures at that moment."""

    url: str
    samples: dict[Sample, float] = field(repr=False)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= set(has))

    def files(self) -> tuple[int, int] | None:
        """The limit of open files and how many are open, where the system tells."""
        limit, opened = int(self.total("process_max_fds")), int(self.total("process_open_fds"))
        return (limit, opened) if limit else None


def local(host: str) -> str:
    """The address at which a listener bound to `host` is reached from this machine."""
    return _WILDCARDS.get(host, host)


def local_url(scheme: str, host: str, port: int) -> str:
    """The URL at which a listener is reached from this machine."""
    shown = local(host)
    return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"


async def serving(url: str, seconds: float) -> Serving:
    """Read the figures of the relay whose operations listener is at `url`. Raises NetError if none is there."""
    answer = await get(url, "/metrics", seconds)
    text = answer.body.decode("utf-8", "replace")
    if answer.status != _OK or "relay_build_info" not in text:
        raise NetError("what answers there is not a relay's operations listener")
    try:
        samples = {
            (sample.name, tuple(sample.labels.items())): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except ValueError:
        raise NetError("the figures there cannot be read") from None
    return Serving(url.rstrip("/"), samples)


async def takes_datagrams(relay: Serving, host: str, port: int, seconds: float) -> bool:
    """Whether a datagram to this address reaches the relay: it answers no stranger, but it counts each."""
    before = _refused_checks(await serving(relay.url, seconds))
    # A plain Binding request belongs to no session: counted, not answered.
    try:
        await stun_binding(IceServer("stun", host, port, "udp"), host, min(_COUNTED_SECONDS, seconds))
    except ProbeError:
        now = await serving(relay.url, seconds)
        return _refused_checks(now) > before
    return False


def media_path(relay: Serving, advertised: str) -> list[Check]:
    """What became of the sessions so far: a client or service that media cannot reach ends with a reason of its own."""
    ended = int(relay.total("relay_sessions_ended_total"))
    active = int(relay.total("relay_sessions_active", phase=Phase.ACTIVE))
    blocked = [
        (
            EndReason.CLIENT_UNREACHABLE,
            f"the port is blocked between the clients and {advertised}, or they are told an address they cannot reach",
            "open it (docs/network.md has a letter for the network team), correct ice.advertise, or offer TURN",
        ),
        (
            EndReason.SERVICE_UNREACHABLE,
            "UDP and TCP are blocked between this machine and the service's media addresses",
            "let outbound 3478/udp and 3478/tcp pass (OpenAI: 443/tcp), or set egress.turn_url",
        ),
    ]
    found: list[Check] = []
    for reason, why, advice in blocked:
        number = int(relay.total("relay_sessions_ended_total", reason=reason))
        if number:
            status = Status.FAIL if number == ended and not active else Status.WARN
            seen = f"{number} of {ended} sessions ended {reason}: signalling works and media does not; {why}"
            found.append(Check(CheckName.MEDIA_PATH, status, seen, advice, relay.url))
    if not found:
        seen = f"{active} sessions are active, {ended} ended, none for want of a way for media"
        found.append(Check(CheckName.MEDIA_PATH, Status.OK, seen, subject=relay.url))
    return found


async def find(settings: Settings, url: str | None, seconds: float) -> tuple[Serving | None, list[Check]]:
    """The relay in service: the one at `url`, else one where these settings put its operations listener."""
    admin = settings.admin
    if url is None and admin.port == 0:
        return None, [_nobody("admin.port is 0: give the address of a running relay with --operations")]
    place = url or local_url("http", admin.host, admin.port)
    try:
        return await serving(place, seconds), []
    except NetError as error:
        if url is None:
            return None, [_nobody(f"no relay is running at {place}: what becomes of its sessions is not known")]
        advice = "give the URL of the operations listener (admin.host, admin.port)"
        return None, [Check(CheckName.MEDIA_PATH, Status.FAIL, str(error), advice, place)]


def _nobody(seen: str) -> Check:
    return Check(CheckName.MEDIA_PATH, Status.SKIP, seen)


def _refused_checks(relay: Serving) -> float:
    return relay.total("relay_media_packets_dropped_total", leg=LegName.DOWNSTREAM, cause=DropCause.STUN_MALFORMED)


async def accepts(host: str, port: int, seconds: float) -> bool:
    """Whether somebody accepts TCP connections there."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(local(host), port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
