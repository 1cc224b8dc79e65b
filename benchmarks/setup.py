"""How long a caller waits: from the click to the first sound, straight to the service and through the relay.

The service takes its time to mint and to take a call, as it does on the internet. The key is minted either a while
before the click, as a page does that asks for it when it loads, or at the click. Beside that: the CPU time that opening
and closing a session takes of the relay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.machine import Cores, describe, usage
from benchmarks.peer import Peer, Remote
from benchmarks.processes import CLIENT_KEY, relay_command, relay_environment, relay_process
from benchmarks.service import Service

MINT_SECONDS, CALL_SECONDS = 0.150, 0.300
# A source this dense hides no more than this of when the way was open.
_PACE_SECONDS = 0.005
_SECONDS = 15.0
_WARM_UP = 2
_QUIET_SECONDS = 0.5
# Targets: with the key minted before, this share of the direct run; minted at the click, so many ms more than it.
MOST_SHARE, MOST_MORE_MS, MOST_CPU_MS = 0.5, 30.0, 10.0
_MET, _MISSED, _FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Waits:
    """Medians in milliseconds from the click: to the door's answer, to the first event, to the first sound."""

    way: str
    minted: str
    answer_ms: float
    created_ms: float
    sound_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured. CPU milliseconds of the relay to open and close one session."""

    waits: tuple[Waits, ...]
    cpu_ms: float
    open_ms: float


class Caller:
    """Calls some base URL and says when what came."""

    def __init__(self, http: aiohttp.ClientSession, certificate: RTCCertificate, base_url: str) -> None:
        self._http = http
        self._certificate = certificate
        self._base = f"{base_url}/openai/v1/realtime"

    async def mint(self) -> str:
        """Ask for a key."""
        wish = {"session": {"type": "realtime", "model": "gpt-realtime"}}
        return str(json.loads(await self._post("client_secrets", headers={"api-key": CLIENT_KEY}, json=wish))["value"])

    async def call(self, *, before: float | None) -> tuple[float, float, float]:
        """One call, its key minted so many seconds before the click, or at it; milliseconds as in `Waits`."""
        async with asyncio.timeout(_SECONDS), self._client() as client:
            key = "" if before is None else await self.mint()
            await asyncio.sleep(before or 0.0)
            click = time.monotonic()
            key = key or await self.mint()
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
            answer = await self._post("calls", headers=headers, data=client.offer())
            answered = time.monotonic()
            created, sound = _first(client, "on_text"), _first(client, "on_rtp")
            await client.connect(Remote.parse(answer))
            ends = answered, await created, await sound
            return tuple((each - click) * 1e3 for each in ends)  # type: ignore[return-value]  # three of them

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Peer]:
        client = Peer(self._certificate, controlling=True)
        try:
            yield client
        finally:
            await client.close()

    async def _post(self, path: str, **request: Any) -> str:
        async with self._http.post(f"{self._base}/{path}", **request) as response:
            text = await response.text()
            if response.status not in {200, 201}:
                raise ConnectionError(f"{path}: {response.status} {text[:200]}")
            return text


def _first(client: Peer, listener: str) -> asyncio.Future[float]:
    """When a listener of the client is called for the first time."""
    first: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def hear(*_: object) -> None:
        if not first.done():
            first.set_result(time.monotonic())

    setattr(client, listener, hear)
    return first


async def _sing(service: Service) -> None:
    """Have the service's end of every call send sound, from the moment it can."""
    while True:
        for peer in list(service.calls.values()):
            with contextlib.suppress(ConnectionError, OSError):
                peer.send_audio(b"\xf8\xff\xfe")
        await asyncio.sleep(_PACE_SECONDS)


@contextlib.asynccontextmanager
async def _service(mint_seconds: float, call_seconds: float) -> AsyncIterator[Service]:
    service = Service(RTCCertificate.generateCertificate(), mint_seconds, call_seconds)
    async with service.served():
        singing = asyncio.create_task(_sing(service))
        try:
            yield service
        finally:
            singing.cancel()
            await asyncio.gather(singing, return_exceptions=True)


async def measure(calls: int, sessions: int, before: float) -> Figures:
    """Measure `calls` clicks of each kind, in turns, `before` seconds after a mint or with it; CPU over `sessions`."""
    cores = Cores.choose()
    certificate = RTCCertificate.generateCertificate()
    waits: list[Waits] = []
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        service = await stack.enter_async_context(_service(MINT_SECONDS, CALL_SECONDS))
        callers = {"direct": Caller(http, certificate, service.url)}
        for way, early in (("relay", "false"), ("relay, early", "true")):
            environment = _environment(service.url, RELAY_UPSTREAM_EARLY=early)
            relay = await stack.enter_async_context(relay_process(relay_command(), environment, cores))
            callers[way] = Caller(http, certificate, relay.url)
        for lead, minted in ((before, "before"), (None, "at the click")):
            found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in callers}
            for number in range(calls + _WARM_UP):
                for way, caller in callers.items():
                    timed = await caller.call(before=lead)
                    if number >= _WARM_UP:
                        found[way].append(timed)
            waits += [Waits(way, minted, *map(statistics.median, zip(*times, strict=True)))
                      for way, times in found.items()]  # fmt: skip
    return Figures(tuple(waits), *await cpu(sessions, cores, certificate))


async def cpu(sessions: int, cores: Cores, certificate: RTCCertificate) -> tuple[float, float]:
    """CPU milliseconds of the relay for each session opened and closed, and the median ms to `session.created`."""
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        service = await stack.enter_async_context(_service(0.0, 0.0))
        relay = await stack.enter_async_context(relay_process(relay_command(), _environment(service.url), cores))
        caller = Caller(http, certificate, relay.url)
        for _ in range(_WARM_UP):
            await caller.call(before=None)
        began = usage(relay.pid).cpu_seconds
        opened = [(await caller.call(before=None))[1] for _ in range(sessions)]
        await asyncio.sleep(_QUIET_SECONDS)  # the last one's closing counts too
        spent = usage(relay.pid).cpu_seconds - began
        return spent * 1e3 / sessions, statistics.median(opened)


def _environment(service_url: str, **more: str) -> dict[str, str]:
    return relay_environment(service_url, RELAY_LIMITS_REATTACH_SECONDS="0", **more)


def verdicts(figures: Figures) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    sound = {(each.way, each.minted): each.sound_ms for each in figures.waits}
    share = sound["relay, early", "before"] / sound["direct", "before"]
    more = sound["relay, early", "at the click"] - sound["direct", "at the click"]
    return [
        (f"early, key minted before: {share:.2f} of the direct run, at most {MOST_SHARE}", share <= MOST_SHARE),
        (f"early, minted at the click: {more:+.0f} ms, at most +{MOST_MORE_MS:.0f} ms", more <= MOST_MORE_MS),
        (
            f"CPU to open and close: {figures.cpu_ms:.1f} ms, at most {MOST_CPU_MS:.0f} ms",
            figures.cpu_ms <= MOST_CPU_MS,
        ),
    ]


def _print(figures: Figures, show: Callable[..., None] = print) -> None:
    show(f"\n{'way':<14}{'key minted':<14}{'answer ms':>11}{'session.created ms':>20}{'first sound ms':>16}")
    for each in figures.waits:
        show(f"{each.way:<14}{each.minted:<14}{each.answer_ms:>11.0f}{each.created_ms:>20.0f}{each.sound_ms:>16.0f}")
    show(f"\na service without delay: {figures.cpu_ms:.1f} ms of CPU to open and close a session, "
         f"{figures.open_ms:.0f} ms from the click to session.created\n")  # fmt: skip
    for text, met in verdicts(figures):
        show(f"{'met   ' if met else 'MISSED'}  {text}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.setup", description="How long a caller waits.")
    parser.add_argument("--calls", type=int, default=15, help="clicks of each kind (15)")
    parser.add_argument("--sessions", type=int, default=100, help="sessions opened and closed for CPU time (100)")
    parser.add_argument("--before", type=float, default=1.0, help="seconds from a mint before the click to it (1)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("needs Linux: CPU time is read from /proc", file=sys.stderr)
        return _FAILED
    if arguments.calls < 1 or arguments.sessions < 1 or arguments.before < 0:
        parser.error("calls and sessions must be 1 or more, before 0 or more")
    for name, value in describe().items():
        print(f"{name:<10}{value}")
    try:
        figures = asyncio.run(measure(arguments.calls, arguments.sessions, arguments.before))
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        print(f"could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        return _FAILED
    _print(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": describe(), **asdict(figures)}, indent=2) + "\n")
    return _MET if all(met for _, met in verdicts(figures)) else _MISSED


if __name__ == "__main__":
    sys.exit(main())
