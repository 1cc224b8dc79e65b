"""The load: calls with both their ends in this process, audio paced into both, arrivals timed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.machine import Cores, CoreTime, core_time, usage
from benchmarks.peer import Peer, Remote
from benchmarks.service import Service
from benchmarks.voice import FRAME_SECONDS, SpeechEdge, spoken_cycle, stamp_of, stamped, starts_speech

_SLICE_SECONDS = 1.0
_SETTLE_SECONDS = 1.5
_RESUME_SECONDS = 0.3
_SETUP_SECONDS = 15.0
_DRAIN_SECONDS = 0.1
# Having fallen this far behind (a core taken away from us), packets are left out, not sent in a burst; the phase stays.
_LATE_SECONDS = 0.1
_EDGE_LIMIT_NS = 600_000_000


class Stream:
    """One direction of a call: what its source sends, what its sink gets, how long that takes."""

    def __init__(self, source: Peer, sink: Peer, cycle: list[bytes]) -> None:
        self.sent = self.received = 0
        self.timed = False
        self.by_stamp = array("q")
        self.by_edge = array("q")
        self._source = source
        self._cycle = cycle
        self._speech_began_ns = 0
        self._edge = SpeechEdge()
        sink.on_rtp = self._on_rtp

    def send(self) -> None:
        """Send the next packet, stamped with the time just before it is encrypted."""
        now_ns = time.monotonic_ns()
        if starts_speech(self.sent):
            self._speech_began_ns = now_ns
        self._source.send_audio(stamped(self._cycle[self.sent % len(self._cycle)], now_ns))
        self.sent += 1

    def _on_rtp(self, packet: bytes, arrival_ns: int) -> None:
        self.received += 1
        sent_ns = stamp_of(packet)
        if sent_ns is None:
            taken = arrival_ns - self._speech_began_ns
            if self._edge.begins(len(packet)) and self.timed and taken < _EDGE_LIMIT_NS:
                self.by_edge.append(taken)
        elif self.timed:
            self.by_stamp.append(arrival_ns - sent_ns)


@dataclass(frozen=True, slots=True)
class Call:
    """One conversation, open at both ends."""

    client: Peer
    setup_seconds: float
    streams: tuple[Stream, Stream]
    """To the service, to the client."""


@dataclass(slots=True)
class Run:
    """What was seen of one group of calls. Latencies are one-way, in milliseconds, sorted.

    `cpu_seconds` is of the relay's process alone; `foreign_…`, `stolen` and `load_cpu` are shares of a core;
    `slice_medians_ms` are those of each slice, to the service and to the client; `by_call_ms` of each call, both ways.
    """

    name: str
    sessions: int
    seconds: float = 0.0
    sent: int = 0
    arrived: int = 0
    to_service_ms: list[float] = field(default_factory=list)
    to_client_ms: list[float] = field(default_factory=list)
    slice_medians_ms: list[tuple[float, float]] = field(default_factory=list)
    by_call_ms: list[list[float]] = field(default_factory=list)
    setup_ms: list[float] = field(default_factory=list)
    measured_by: str = "stamp"
    cpu_seconds: float = 0.0
    rss_kb_per_session: float = 0.0
    threads: int = 0
    foreign_relay_core: float = 0.0
    foreign_load_core: float = 0.0
    stolen: float = 0.0
    load_cpu: float = 0.0

    @property
    def cpu_us_per_packet(self) -> float:
        """CPU microseconds of the relay, everything included, for each packet that arrived at either end."""
        return self.cpu_seconds * 1e6 / self.arrived if self.arrived else 0.0


class Group:
    """Calls that talk at the same time, all through the relay with process id `pid`, or directly.

    `during` is entered around each measured slice.
    """

    def __init__(self, run: Run, pid: int | None) -> None:
        self.run = run
        self.pid = pid
        self.calls: list[Call] = []
        self.during: Callable[[], contextlib.AbstractAsyncContextManager[None]] = contextlib.nullcontext
        self.readings: list[tuple[_Reading, _Reading]] = []

    @property
    def streams(self) -> list[Stream]:
        """Both directions of every call."""
        return [stream for call in self.calls for stream in call.streams]

    def rss_kb(self) -> int:
        """Resident kilobytes of the relay."""
        return usage(self.pid).rss_kb if self.pid is not None else 0

    def take_times(self) -> None:
        """Move the times of a slice from the streams to the run."""
        run = self.run
        stamps = any(stream.by_stamp for stream in self.streams)
        run.measured_by = "stamp" if stamps else "edge"
        medians = []
        for at, times in enumerate((run.to_service_ms, run.to_client_ms)):
            streams = [call.streams[at] for call in self.calls]
            new = [ns / 1e6 for stream in streams for ns in (stream.by_stamp if stamps else stream.by_edge)]
            times.extend(new)
            medians.append(percentile(sorted(new), 50))
        run.slice_medians_ms.append((medians[0], medians[1]))
        run.by_call_ms += [[] for _ in self.calls[len(run.by_call_ms) :]]
        for call, times in zip(self.calls, run.by_call_ms, strict=True):
            times += [ns / 1e6 for stream in call.streams for ns in stream.by_stamp]
        for stream in self.streams:
            del stream.by_stamp[:], stream.by_edge[:]

    def conclude(self, cores: Cores) -> None:
        """Sum the slices up."""
        run = self.run
        relay_core = load_core = stolen = own = 0.0
        for before, after in self.readings:
            run.seconds += after.clock - before.clock
            run.sent += after.sent - before.sent
            run.arrived += after.received - before.received
            run.cpu_seconds += after.relay_cpu - before.relay_cpu
            run.threads = after.threads
            own += after.own_cpu - before.own_cpu
            relay_core += after.relay_core.busy - before.relay_core.busy
            load_core += after.load_core.busy - before.load_core.busy
            stolen += after.relay_core.stolen - before.relay_core.stolen
            stolen += after.load_core.stolen - before.load_core.stolen
        # What the cores did beyond the relay and the load is other people's work.
        ours = (run.cpu_seconds, own) if cores.relay != cores.load else (run.cpu_seconds + own,) * 2
        run.foreign_relay_core = max(0.0, relay_core - ours[0]) / run.seconds
        run.foreign_load_core = max(0.0, load_core - ours[1]) / run.seconds
        run.stolen = stolen / 2 / run.seconds
        run.load_cpu = own / run.seconds
        run.to_service_ms.sort()
        run.to_client_ms.sort()


class Load:
    """Opens calls at some base URL, whose far ends are in `service`, and measures while they talk."""

    def __init__(
        self, service: Service, certificate: RTCCertificate, cores: Cores, http: aiohttp.ClientSession
    ) -> None:
        self._service = service
        self._certificate = certificate
        self._cores = cores
        self._http = http
        self._cycle = spoken_cycle()
        self.on_sent: Callable[[bytes], None] = lambda _datagram: None
        """Sees every datagram that a client opened from now on sends."""

    @contextlib.asynccontextmanager
    async def calls(self, name: str, base_url: str, key: str, sessions: int, pid: int | None) -> AsyncIterator[Group]:
        """Open `sessions` calls, one after another; they are closed on leaving.

        Raises TimeoutError or ConnectionError when a call does not come about.
        """
        group = Group(Run(name, sessions), pid)
        try:
            # The first call pays for what a process loads once; the others show what one session more costs.
            group.calls.append(await self.open(base_url, key))
            await self.warm_up(group)
            first_rss = group.rss_kb()
            for _ in range(sessions - 1):
                group.calls.append(await self.open(base_url, key))
            group.run.setup_ms = [call.setup_seconds * 1e3 for call in group.calls]
            yield group
            if sessions > 1:
                group.run.rss_kb_per_session = (group.rss_kb() - first_rss) / (sessions - 1)
        finally:
            await asyncio.gather(*(call.client.close() for call in group.calls))
            await asyncio.sleep(_DRAIN_SECONDS)

    async def warm_up(self, group: Group) -> None:
        """Let a group talk for a moment, unmeasured."""
        async with _talking(group.streams):
            await asyncio.sleep(_SETTLE_SECONDS)

    async def measure(
        self, groups: Sequence[Group], seconds: float, after_round: Callable[[], None] = lambda: None
    ) -> None:
        """Let each group talk and be measured for `seconds` in all.

        Several groups take turns in short slices, so that what else the machine does meets them alike; `after_round`
        is called when each had its turn.
        """
        slices = max(1, round(seconds / _SLICE_SECONDS)) if len(groups) > 1 else 1
        for _ in range(slices):
            for group in groups:
                async with group.during():
                    await self._slice(group, seconds / slices, _RESUME_SECONDS if slices > 1 else _SETTLE_SECONDS)
            after_round()
        for group in groups:
            group.conclude(self._cores)

    async def _slice(self, group: Group, seconds: float, settle_seconds: float) -> None:
        async with _talking(group.streams):
            await asyncio.sleep(settle_seconds)
            before = _Reading.take(group, self._cores)
            for stream in group.streams:
                stream.timed = True
            await asyncio.sleep(seconds)
            for stream in group.streams:
                stream.timed = False
            group.readings.append((before, _Reading.take(group, self._cores)))
            group.take_times()
        await asyncio.sleep(_DRAIN_SECONDS)

    async def open(self, base_url: str, key: str) -> Call:
        """Open one call; raises TimeoutError or ConnectionError when it does not come about."""
        began = time.monotonic()
        client = Peer(self._certificate, controlling=True)
        client.on_sent = self.on_sent
        created = asyncio.Event()

        def on_text(text: str) -> None:
            if json.loads(text)["type"] == "session.created":
                created.set()

        client.on_text = on_text
        base = f"{base_url}/openai/v1/realtime"
        async with asyncio.timeout(_SETUP_SECONDS):
            mint = {"session": {"type": "realtime", "model": "gpt-realtime"}}
            minted = await self._post(f"{base}/client_secrets", headers={"api-key": key}, json=mint)
            headers = {"Authorization": f"Bearer {json.loads(minted)['value']}", "Content-Type": "application/sdp"}
            answer = await self._post(f"{base}/calls", headers=headers, data=client.offer())
            await client.connect(Remote.parse(answer))
            await created.wait()
        service = self._service.newest()
        streams = Stream(client, service, self._cycle), Stream(service, client, self._cycle)
        return Call(client, time.monotonic() - began, streams)

    async def _post(self, url: str, **request: Any) -> str:
        async with self._http.post(url, **request) as response:
            text = await response.text()
            if response.status not in {200, 201}:
                raise ConnectionError(f"{url}: {response.status} {text[:200]}")
            return text


@dataclass(frozen=True, slots=True)
class _Reading:
    clock: float
    sent: int
    received: int
    relay_cpu: float
    threads: int
    own_cpu: float
    relay_core: CoreTime
    load_core: CoreTime

    @classmethod
    def take(cls, group: Group, cores: Cores) -> _Reading:
        relay = usage(group.pid) if group.pid is not None else None
        streams = group.streams
        own = os.times()
        return cls(
            time.monotonic(),
            sum(stream.sent for stream in streams),
            sum(stream.received for stream in streams),
            relay.cpu_seconds if relay is not None else 0.0,
            relay.threads if relay is not None else 0,
            own.user + own.system,
            core_time(cores.relay),
            core_time(cores.load),
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Pick the nearest rank of a sorted sequence; 0 for an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextlib.asynccontextmanager
async def _talking(streams: Sequence[Stream]) -> AsyncIterator[None]:
    pacing = asyncio.create_task(_pace(streams))
    try:
        yield
        if pacing.done():
            await pacing
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)


async def _pace(streams: Sequence[Stream]) -> None:
    """Give every stream 50 packets a second, spread evenly over each 20 ms, until cancelled."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    due = deque((start + at * FRAME_SECONDS / len(streams), stream) for at, stream in enumerate(streams))
    while True:
        at, stream = due[0]
        now = loop.time()
        if at > now:
            await asyncio.sleep(at - now)
            continue
        if now - at > _LATE_SECONDS:
            left_out = int((now - at) / FRAME_SECONDS) * FRAME_SECONDS
            due = deque((each + left_out, other) for each, other in due)
            continue
        stream.send()
        due.popleft()
        due.append((at + FRAME_SECONDS, stream))
        if due[0][0] <= now and stream is streams[-1]:
            # Behind by a whole round: let the receiving side read.
            await asyncio.sleep(0)
