"""A client that is not ours: aiortc as its documentation says, speaking the doors as an SDK does."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import aioice.ice
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from av import AudioFrame

# aiortc gathers no loopback address by itself; without this the client would need a network.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Tone(AudioStreamTrack):
    """A microphone: `level` 0 is silence, 1 a loud buzz with the energy of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.0
        self._phase = 0

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        count = frame.samples
        at = np.arange(self._phase, self._phase + count)
        self._phase += count
        wave = np.sign(np.sin(2 * np.pi * 180 * at / frame.sample_rate)) * 12_000 * self.level
        filled = AudioFrame.from_ndarray(wave.astype(np.int16)[None, :], layout="mono")
        filled.pts, filled.sample_rate, filled.time_base = frame.pts, frame.sample_rate, frame.time_base
        return filled


class Client:
    """One browser-like peer. `events` holds every event received, `levels` the energy of every frame heard.

    Without `data` it has no channel; without `sound` it offers audio, sends none and hears none.
    """

    def __init__(self, base: str, key: str, *, data: bool = True, sound: bool = True) -> None:
        self.base = base
        self._sound = sound
        self.key = key
        self.microphone = Tone()
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.events: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self.levels: list[float] = []
        self.minted: dict[str, Any] = {}
        self.location = ""
        self.answer = ""
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self.http = aiohttp.ClientSession()
        if data:
            self.channel = self.peer.createDataChannel("oai-events")
            self.channel.on("open", self.opened.set)
            self.channel.on("message", self._on_message)
            self.channel.on("close", self.closed.set)
        self.peer.on("track", self._on_track)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self.peer.close()
        await self.http.close()

    async def mint(self, session: dict[str, Any] | None = None) -> str:
        async with self.http.post(
            f"{self.base}/openai/v1/realtime/client_secrets",
            headers={"api-key": self.key},
            json={"session": {"type": "realtime", "model": "gpt-realtime", **(session or {})}},
        ) as response:
            self.minted = await response.json()
            assert response.status == 200, self.minted
        return str(self.minted["value"])

    async def offer(self, *, with_candidates: bool = False) -> str:
        if self._sound:
            self.peer.addTrack(self.microphone)
        else:
            self.peer.addTransceiver("audio", direction="sendonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        # aiortc's session id is the second of its birth, which two clients may share: RFC 8866 wants it unique.
        origin = f"o=- {random.getrandbits(62)} 1"
        sdp = re.sub(r"^o=- \d+ \d+", origin, self.peer.localDescription.sdp, count=1, flags=re.MULTILINE)
        if with_candidates:
            return sdp
        # Browsers post the offer before they have gathered anything.
        return "".join(
            line
            for line in sdp.splitlines(keepends=True)
            if not line.startswith(("a=candidate", "a=end-of-candidates"))
        )

    async def post_offer(self, offer: str, bearer: str, path: str = "/openai/v1/realtime/calls") -> tuple[int, str]:
        async with self.http.post(
            self.base + path,
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/sdp"},
            data=offer,
        ) as response:
            self.location = response.headers.get("Location", "")
            return response.status, await response.text()

    async def reoffer(self, offer: str, location: str, bearer: str) -> tuple[int, str]:
        """Post an offer to a running session."""
        async with self.http.post(
            self.base + location,
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/sdp"},
            data=offer,
        ) as response:
            return response.status, await response.text()

    async def take_over(self, location: str, bearer: str) -> None:
        """Offer this peer connection to a running session, and wait for the open channel."""
        status, answer = await self.reoffer(await self.offer(), location, bearer)
        assert status == 200, answer
        self.location = location
        self.minted = {"value": bearer}
        await self.accept(answer)
        async with asyncio.timeout(10):
            await self.opened.wait()

    async def accept(self, answer: str) -> None:
        self.answer = answer
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def connect(self, session: dict[str, Any] | None = None, path: str = "/openai/v1/realtime/calls") -> None:
        """Mint, post the offer, wait for the open channel."""
        key = await self.mint(session)
        status, answer = await self.post_offer(await self.offer(), key, path)
        assert status == 201, answer
        await self.accept(answer)
        async with asyncio.timeout(10):
            await self.opened.wait()

    def send(self, event: dict[str, Any] | str) -> None:
        self.channel.send(event if isinstance(event, str) else json.dumps(event))

    async def until(self, wanted: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait for news until `wanted` gives something true."""
        async with asyncio.timeout(timeout):
            while not (found := wanted()):
                self._news.clear()
                await self._news.wait()
        return found

    async def event(self, kind: str, timeout: float = 30.0) -> dict[str, Any]:
        """The first event of a type, now or later."""
        found: dict[str, Any] = await self.until(
            lambda: next((event for event in self.events if event["type"] == kind), None), timeout
        )
        return found

    async def hang_up(self) -> int:
        async with self.http.post(
            f"{self.base}{self.location}/hangup", headers={"Authorization": f"Bearer {self.minted['value']}"}
        ) as response:
            return response.status

    def _on_message(self, message: str) -> None:
        self.raw.append(message)
        self.events.append(json.loads(message))
        self._news.set()

    def _on_track(self, track: Any) -> None:
        async def listen() -> None:
            while True:
                frame = await track.recv()
                samples = frame.to_ndarray().astype(np.float64)
                self.levels.append(float(np.sqrt(np.mean(samples**2))))
                self._news.set()

        self._listening = asyncio.create_task(listen())
