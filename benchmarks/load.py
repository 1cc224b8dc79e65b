"""The load: calls with both their ends in this process, audio paced into both, arrivals timed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.peer import Peer, Remote
from benchmarks.service import GA_DOOR, PREVIEW_CALL, Service
from benchmarks.srtp import BUFFER
from benchmarks.voice import FRAME_SECONDS, SpeechEdge, spoken_cycle, stamp_of, starts_speech
from benchmarks.wire import Wire

_SETUP_SECONDS = 15.0
# Having fallen this far behind (a core taken away from us), packets are left out, not sent in a burst; the phase stays.
_LATE_SECONDS = 0.1
_EDGE_LIMIT_NS = 600_000_000
# How long the event loop may wait for its turn while audio is paced, and how many packets go out before one reads.
_TURN_SECONDS = 0.002
_BURST = 4
# The packets whose times are kept: 20 s of one stream.
_KEPT = 1_024
_PROVEN_EACH = 64


@dataclass(frozen=True, slots=True)
class Door:
    """Where calls are opened: a base URL, the key with which a client mints, and whether it speaks preview.

    A preview door takes the key itself and mints at the call.
    """

    url: str
    key: str = ""
    preview: bool = False


class Stream:
    """One direction of a call: what its source sends, what its sink gets, how long that takes, in nanoseconds.

    A packet on its way keeps its sequence number but for a constant. So one packet of each window, and one in 64 after
    it, is decrypted to see which it is, and all others are known by their number.
    """

    def __init__(self, source: Peer, sink: Peer, cycle: list[bytes]) -> None:
        self.sent = self.received = 0
        self.timed = False
        self.encoded_anew = False
        self.times = array("q")
        self._source = source
        self._sink = sink
        self._cycle = cycle
        self._sent_ns = array("q", bytes(8 * _KEPT))
        self._offset: int | None = None
        self._speech_began_ns = 0
        self._edge = SpeechEdge()

    def send(self) -> None:
        """Send the next packet."""
        number = self.sent
        sent_ns = self._source.send_audio(self._cycle[number % len(self._cycle)], number)
        self._sent_ns[number % _KEPT] = sent_ns
        if starts_speech(number):
            self._speech_began_ns = sent_ns
        self.sent = number + 1

    def resume(self) -> None:
        """Listen from now on, and prove the next packet: talk begins after a pause."""
        self._sink.on_rtp = self._on_rtp
        self._offset = None

    def _on_rtp(self, size: int, arrival_ns: int) -> None:
        sequence = BUFFER[2] << 8 | BUFFER[3]
        offset = self._offset
        if offset is None or not sequence % _PROVEN_EACH:
            offset = self._prove(size, sequence, arrival_ns)
            if offset is None:
                return
        self.received += 1
        if self.timed:
            self.times.append(arrival_ns - self._sent_ns[(sequence - offset) % _KEPT])

    def _prove(self, size: int, sequence: int, arrival_ns: int) -> int | None:
        """See which packet this is; None if it must be timed otherwise, or is none of ours."""
        plain = self._sink.decrypt(size)
        if not plain:
            return None
        number = stamp_of(BUFFER, plain)
        self.encoded_anew = number is None
        if number is not None:
            self._offset = (sequence - number) & 0xFFFF
            return self._offset
        self._offset = None
        self.received += 1
        taken = arrival_ns - self._speech_began_ns
        if self._edge.begins(plain) and self.timed and taken < _EDGE_LIMIT_NS:
            self.times.append(taken)
        return None


class FirstSound:
    """Hears the first packet that comes to the client, whatever it says; `ms` after the offer was sent."""

    def __init__(self, client: Peer) -> None:
        self.heard = asyncio.Event()
        self.clicked_ns = self._at_ns = 0
        client.on_rtp = self._on_rtp

    @property
    def ms(self) -> float:
        """Only once it is heard."""
        return (self._at_ns - self.clicked_ns) / 1e6

    def _on_rtp(self, _size: int, arrival_ns: int) -> None:
        if not self.heard.is_set():
            self._at_ns = arrival_ns
            self.heard.set()


@dataclass(frozen=True, slots=True)
class Clicks:
    """Seconds from the offer's sending to the answer, the open channel, `session.created`; and of the mint before."""

    mint: float
    answer: float
    channel: float
    created: float


@dataclass(frozen=True, slots=True)
class Call:
    """One conversation, open at both ends; its streams lead to the service and to the client."""

    client: Peer
    service: Peer
    clicks: Clicks
    sound: FirstSound
    streams: tuple[Stream, Stream]


class Load:
    """Opens calls at some door, whose far ends are in `service`, and closes them."""

    def __init__(self, wire: Wire, service: Service, certificate: RTCCertificate, http: aiohttp.ClientSession) -> None:
        self.wire = wire
        self.service = service
        self._certificate = certificate
        self._http = http
        self._cycle = spoken_cycle()
        self.on_sent: Callable[[bytes], None] | None = None
        """Sees every datagram that a client opened from now on sends."""

    async def open(self, door: Door, key: str = "") -> Call:
        """Open one call, with a key or one that is minted now; raises TimeoutError or ConnectionError when it fails.

        Only while calls are opened one at a time is the service's end surely the right one.
        """
        client = Peer(self.wire, self._certificate, controlling=True)
        try:
            async with asyncio.timeout(_SETUP_SECONDS):
                return await self._open(client, door, key)
        except BaseException:
            await client.close()
            raise

    async def _open(self, client: Peer, door: Door, key: str) -> Call:
        client.on_sent = self.on_sent
        created = asyncio.Event()

        def on_text(text: str) -> None:
            if json.loads(text)["type"] == "session.created":
                created.set()

        client.on_text = on_text
        began = time.monotonic()
        if not key:
            key = door.key if door.preview else await self.mint(door)
        sound = FirstSound(client)
        offer = client.offer()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
        path = f"{PREVIEW_CALL}?model=bench" if door.preview else f"{GA_DOOR}/calls"
        sound.clicked_ns = time.monotonic_ns()
        clicked = time.monotonic()
        answer = await self._post(door.url + path, headers=headers, data=offer)
        answered = time.monotonic()
        await client.connect(Remote.parse(answer))
        await client.opened.wait()
        opened = time.monotonic()
        await created.wait()
        clicks = Clicks(clicked - began, answered - clicked, opened - clicked, time.monotonic() - clicked)
        # Only now: with early upstream the door answers before the service does.
        service = self.service.newest()
        return Call(client, service, clicks, sound, (self._stream(client, service), self._stream(service, client)))

    def _stream(self, source: Peer, sink: Peer) -> Stream:
        return Stream(source, sink, self._cycle)

    async def mint(self, door: Door) -> str:
        """Obtain a key at a GA door."""
        asked = {"session": {"type": "realtime", "model": "gpt-realtime"}}
        minted = await self._post(f"{door.url}{GA_DOOR}/client_secrets", headers={"api-key": door.key}, json=asked)
        return str(json.loads(minted)["value"])

    async def close(self, calls: Sequence[Call]) -> None:
        """End calls at their clients; whoever relays them is expected to hang up, the rest is dropped."""
        await asyncio.gather(*(call.client.close() for call in calls))

    async def settle(self, calls: Sequence[Call], seconds: float) -> None:
        """Wait until the service's ends of closed calls are gone, and drop those that nobody hung up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(call.service.closed.wait() for call in calls))
        for call in calls:
            await self.service.drop(call.service)

    async def _post(self, url: str, **request: Any) -> str:
        async with self._http.post(url, **request) as response:
            text = await response.text()
            if response.status not in {200, 201}:
                raise ConnectionError(f"{url}: {response.status} {text[:200]}")
            return text


@contextlib.asynccontextmanager
async def talking(wire: Wire, calls: Sequence[Call], grain: float = 0.0) -> AsyncIterator[None]:
    """Have both ends of each call send 50 packets a second meanwhile, spread evenly over each 20 ms.

    What is due within `grain` seconds leaves together: it saves the load most of its wake-ups.
    """
    streams = [stream for call in calls for stream in call.streams]
    for stream in streams:
        stream.resume()
    pacing = asyncio.create_task(_pace(wire, streams, grain))
    try:
        yield
        if pacing.done():
            await pacing
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)


async def _pace(wire: Wire, streams: Sequence[Stream], grain: float) -> None:
    many = len(streams)
    apart = FRAME_SECONDS / many
    start = turn = time.monotonic()
    number = burst = 0
    while True:
        now = time.monotonic()
        wait = start + number * apart - now
        if now - turn > _TURN_SECONDS:
            await asyncio.sleep(0)
            turn = time.monotonic()
        elif -wait > _LATE_SECONDS:
            number += int(-wait / FRAME_SECONDS) * many
        elif wait > 0:
            wire.serve(min(max(wait, grain), _TURN_SECONDS))
            burst = 0
        elif burst == _BURST:
            wire.serve(0.0)
            burst = 0
        else:
            streams[number % many].send()
            number += 1
            burst += 1
