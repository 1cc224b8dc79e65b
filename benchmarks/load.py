"""The load: calls that are opened at some door and closed, their audio paced and timed at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.ends import Ends, Streams
from benchmarks.pace import paced
from benchmarks.peer import Peer, Remote
from benchmarks.service import GA_DOOR, PREVIEW_CALL
from benchmarks.wire import Wire

_SETUP_SECONDS = 15.0
# From the order to talk to the first packet: a process that is told by a pipe begins with us.
_BEGIN_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Door:
    """Where calls are opened: a base URL, the key with which a client mints, and whether it speaks preview.

    A preview door takes the key itself and mints at the call.
    """

    url: str
    key: str = ""
    preview: bool = False


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
    ends: Ends
    number: int
    clicks: Clicks
    sound: FirstSound
    streams: Streams


class Load:
    """Opens calls at some door, whose far ends are `ends`, and closes them."""

    def __init__(self, wire: Wire, ends: Ends, certificate: RTCCertificate, http: aiohttp.ClientSession) -> None:
        self.wire = wire
        self._ends = ends
        self._certificate = certificate
        self._http = http
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
        number, streams = await self._ends.join(client)
        return Call(client, self._ends, number, clicks, sound, streams)

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
        await self._ends.settle([call.number for call in calls], seconds)

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
    start = time.monotonic() + _BEGIN_SECONDS
    async with contextlib.AsyncExitStack() as stack:
        for ends in {call.ends for call in calls}:
            numbers = [call.number for call in calls if call.ends is ends]
            await stack.enter_async_context(ends.talking(numbers, grain, start))
        streams = [stream for call in calls for stream in call.streams]
        await stack.enter_async_context(paced(wire, streams, grain, start))
        yield
