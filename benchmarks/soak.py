"""Whether the relay grows: sessions are opened and closed for as long as you like while others talk all the time.

Exit code: 0 nothing grew and nothing was left over, 1 something did, 2 it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.growth import HEAD, Growth, Sample, growths
from benchmarks.load import Call, Load, talking
from benchmarks.machine import usages
from benchmarks.processes import Started, ours, relay_process
from benchmarks.rounds import percentile
from benchmarks.stage import Exit, common_options, keep, machine_lines, need_linux, run, stage
from benchmarks.watched import PROBE_ENV

# What must be gone when every session is.
LIVING = (
    "relay.session.Session",
    "relay.conversation.Conversation",
    "relay.rtc.bridge.Bridge",
    "relay.rtc.leg.Leg",
    "relay.rtc.ice_lite.IceLiteAgent",
    "relay.rtc.path.Path",
)
_GRAIN_SECONDS = 0.001
_PROBE_SECONDS = 10.0
_WORDS = 5
# A session whose client vanished ends when consent has expired, 30 s later.
_LEFT_OVER_SECONDS = 60.0
_LOOK_SECONDS = 2.0
# A client that went away is waited for, so that this too is done over and over.
_WAITED_FOR = "2"


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a soak: its length, sessions that talk all along, and each second's new ones, how long they stay.

    A share of them, `abrupt`, vanishes without a goodbye. `every` seconds there is a sample.
    """

    seconds: float
    sessions: int
    rate: float
    hold: float
    abrupt: float
    every: float


class Churn:
    """Opens sessions at a steady rate; each says a few words and ends."""

    def __init__(self, load: Load, relay: Started, shape: Shape) -> None:
        self.opened = self.failed = 0
        self._load = load
        self._relay = relay
        self._shape = shape
        self._under_way: set[asyncio.Task[None]] = set()
        self._chance = random.Random(31)

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """Open sessions meanwhile, and see every one of them out."""
        opening = asyncio.create_task(self._open())
        try:
            yield
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await asyncio.gather(*self._under_way)

    async def _open(self) -> None:
        """One after the other: a relay that is slower than the rate gets fewer, not a queue."""
        while True:
            due = time.monotonic() + 1 / self._shape.rate
            try:
                call = await self._load.open(self._relay.door)
            except (OSError, TimeoutError, aiohttp.ClientError):
                self.failed += 1
            else:
                self.opened += 1
                task = asyncio.create_task(self._stay(call))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _stay(self, call: Call) -> None:
        for stream in call.streams:
            stream.resume()
        for _ in range(_WORDS):
            for stream in call.streams:
                stream.send()
            await asyncio.sleep(self._shape.hold / _WORDS)
        if self._chance.random() < self._shape.abrupt:
            await call.client.vanish()
            await self._load.settle([call], _LEFT_OVER_SECONDS)
        else:
            await self._load.close([call])
            await self._load.settle([call], self._shape.hold)


@dataclass(slots=True)
class Watcher:
    """Sees the relay from outside, and from inside through `watched`."""

    relay: Started
    calls: Sequence[Call]
    churn: Churn
    probe: socket.socket
    began: float = field(default_factory=time.monotonic)

    async def sample(self) -> Sample:
        """Look; raises TimeoutError when the relay does not answer."""
        told = await self.ask()
        streams = [stream for call in self.calls for stream in call.streams]
        sent, received = sum(each.sent for each in streams), sum(each.received for each in streams)
        times = sorted(each for stream in streams for each in stream.take_times())
        for stream in streams:
            stream.time(on=True)
        processes = usages(self.relay.pid)
        return Sample(
            at=round(time.monotonic() - self.began, 1),
            opened=self.churn.opened,
            failed=self.churn.failed,
            rss_kb=sum(each.rss_kb for each in processes),
            descriptors=sum(each.descriptors for each in processes),
            threads=sum(each.threads for each in processes),
            tasks=told["tasks"],
            objects=sum(told["objects"].values()),
            living={name: told["objects"].get(name, 0) for name in LIVING},
            loop_lag_ms=round(told["loop_lag_ms"], 1),
            lost_percent=round(100 * max(0, sent - received) / max(1, sent), 3),
            p99_ms=round(percentile(times, 99) / 1e6, 2),
        )

    async def when_over(self) -> Sample:
        """Look again and again until no session is left, or until that is in vain."""
        deadline = time.monotonic() + _LEFT_OVER_SECONDS
        # Nobody tells from outside when the last one is gone.
        while any((sample := await self.sample()).living.values()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        return sample

    async def ask(self) -> dict[str, Any]:
        """Have the relay's process look at itself."""
        os.kill(self.relay.pid, signal.SIGUSR2)
        async with asyncio.timeout(_PROBE_SECONDS):
            told: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(self.probe, 1 << 16))
        return told


async def measure(shape: Shape) -> list[Sample]:
    """Sample all along, and once more when every session is over.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    samples: list[Sample] = []

    def keep_sample(sample: Sample) -> None:
        samples.append(sample)
        print(sample.line(), flush=True)

    with tempfile.TemporaryDirectory() as directory:
        address = str(Path(directory) / "probe")
        async with stage() as everything:
            load = everything.load
            kind = ours(everything.service.url, **{PROBE_ENV: address, "RELAY_LIMITS_REATTACH_SECONDS": _WAITED_FOR})
            kind = replace(kind, command=(sys.executable, "-m", "benchmarks.watched", "serve"))
            with _listening(address) as probe:
                async with relay_process(kind, everything.cores) as relay:
                    calls = [await load.open(relay.door) for _ in range(shape.sessions)]
                    churn = Churn(load, relay, shape)
                    watcher = Watcher(relay, calls, churn, probe)
                    async with talking(everything.wire, calls, _GRAIN_SECONDS), churn.going():
                        await watcher.sample()  # the first has no sample before it
                        ends = watcher.began + shape.seconds
                        while (left := ends - time.monotonic()) > 0:
                            await asyncio.sleep(min(shape.every, left))
                            keep_sample(await watcher.sample())
                    await load.close(calls)
                    await load.settle(calls, shape.hold)
                    keep_sample(await watcher.when_over())
    return samples


@contextlib.contextmanager
def _listening(address: str) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        probe.bind(address)
        yield probe


def verdict(grown: Sequence[Growth], last: Sample) -> list[str]:
    """What is wrong; empty when nothing is."""
    return [
        *(f"{each.name} grows" for each in grown if not each.kept),
        *(f"{number} of {name} left over" for name, number in last.living.items() if number),
        *([f"{last.failed} sessions did not come about"] if last.failed else []),
    ]


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Whether the relay grows.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--sessions", type=int, default=50, help="sessions that talk all along (50)")
    parser.add_argument("--rate", type=float, default=2.0, help="sessions opened a second (2)")
    parser.add_argument("--hold", type=float, default=5.0, help="seconds that each of them stays (5)")
    parser.add_argument("--abrupt", type=float, default=0.1, help="the share that vanishes without a goodbye (0.1)")
    parser.add_argument("--every", type=float, help="seconds between samples (a sixtieth of the whole, 2 to 30)")
    common_options(parser)
    given = parser.parse_args()
    every = given.every or min(30.0, max(2.0, given.seconds / 60))
    shape = Shape(given.seconds, given.sessions, given.rate, given.hold, given.abrupt, every)
    if min(shape.seconds, shape.sessions, shape.rate, shape.hold, shape.every) <= 0 or not 0 <= shape.abrupt <= 1:
        parser.error("every size must be above 0, and abrupt a share")
    need_linux()
    print("\n".join([*machine_lines(), "", HEAD]), flush=True)
    samples = run(measure(shape), given.nice)
    grown = growths(samples[:-1])
    wrong = verdict(grown, samples[-1])
    print("\n".join(["", *(each.line() for each in grown)]))
    if not grown:
        print("too short to tell whether anything grows")
    print("; ".join(wrong) if wrong else "nothing grew, nothing was left over")
    keep(given.json, {"samples": [asdict(each) for each in samples], "growths": [asdict(each) for each in grown]})
    return Exit.MISSED if wrong else Exit.MET


if __name__ == "__main__":
    sys.exit(main())
