"""A stock aiortc client of the service, as a page would be one: mint, offer, channel, sound both ways."""

from __future__ import annotations

import asyncio
import json
import time
from fractions import Fraction
from typing import Any

import aioice.ice
import numpy as np
import pytest
from aiohttp import ClientSession
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from relay.simulator import Simulator, SimulatorSettings

RATE = 48_000
FRAME = 960
PATIENCE = 8.0
GA_MINT = {"session": {"type": "realtime", "model": "gpt-realtime"}}


def speech(seconds: float, seed: int = 1) -> np.ndarray:
    """Something like a voice: a buzzing 140 Hz source under a syllable rhythm, with a little noise."""
    t = np.arange(int(RATE * seconds)) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
    noise = np.random.default_rng(seed).normal(0, 0.05, len(t))
    return ((buzz * syllables + noise) * 6000).clip(-32000, 32000).astype(np.int16)


class Microphone(MediaStreamTrack):
    """Silence until `say()`; paced at 20 ms."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._pending = np.zeros(0, np.int16)
        self._timestamp = 0
        self._next_at = time.monotonic()

    def say(self, samples: np.ndarray) -> None:
        self._pending = np.concatenate([self._pending, samples])

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = max(self._next_at + 0.02, time.monotonic() - 0.1)
        samples = np.zeros((1, FRAME), np.int16)
        now, self._pending = self._pending[:FRAME], self._pending[FRAME:]
        samples[0, : len(now)] = now
        frame = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._timestamp
        frame.time_base = Fraction(1, RATE)
        self._timestamp += FRAME
        return frame


class Client:
    """One call: `open()` returns when its channel is open."""

    def __init__(
        self,
        simulator: Simulator,
        *,
        mint: dict[str, Any] | None = None,
        prefix: str = "/openai/v1",
        preview: bool = False,
        query: str = "",
        wait_open: bool = True,
        data: bool = True,
    ) -> None:
        self.simulator = simulator
        self.prefix = prefix
        self.preview = preview
        self.query = query
        self.wait_open = wait_open
        self.mint_body = mint or ({"model": "gpt-realtime"} if preview else GA_MINT)
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self.peer = RTCPeerConnection(configuration)
        self.microphone = Microphone()
        self.peer.addTrack(self.microphone)
        self.channel: RTCDataChannel | None = self.peer.createDataChannel("any-label") if data else None
        self.messages: list[str | bytes] = []
        self.events: list[dict[str, Any]] = []
        self.levels: list[float] = []
        self.answer = ""
        self.location = ""
        self.key = ""
        self._changed = asyncio.Event()
        self._ear: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.peer.on("track", self._on_track)
        opened = asyncio.Event()
        if self.channel is not None:
            self.channel.on("open", opened.set)
            self.channel.on("message", self._on_message)
            self.channel.on("close", self._changed.set)
        for change in ("connectionstatechange", "iceconnectionstatechange"):
            self.peer.on(change, self._changed.set)
        async with ClientSession() as http:
            self.key = await self._mint(http)
            await self.peer.setLocalDescription(await self.peer.createOffer())
            self.answer = await self._call(http)
        await self.peer.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))
        if self.wait_open:
            try:
                await asyncio.wait_for(opened.wait(), PATIENCE)
            except TimeoutError:
                await self.close()
                raise

    async def close(self) -> None:
        if self._ear is not None:
            self._ear.cancel()
            await asyncio.gather(self._ear, return_exceptions=True)
        await self.peer.close()

    def send(self, event: dict[str, Any] | str) -> None:
        assert self.channel is not None
        self.channel.send(event if isinstance(event, str) else json.dumps(event))

    async def event(self, kind: str, *, after: int = 0) -> dict[str, Any]:
        """The first event of this type from index `after` on, waited for."""
        await self.until(lambda: any(e["type"] == kind for e in self.events[after:]), f"event {kind}")
        return next(e for e in self.events[after:] if e["type"] == kind)

    async def until(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {what}; got {self.types()}") from None

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def _mint(self, http: ClientSession) -> str:
        url = f"{self.simulator.url}{self.prefix}/realtime/client_secrets"
        if self.preview:
            url = f"{self.simulator.url}/openai/realtimeapi/sessions?api-version=2025-04-01-preview"
        headers = {"api-key": self.simulator.settings.api_key}
        async with http.post(url, json=self.mint_body, headers=headers) as response:
            body = await response.json()
            assert response.status == 200, body
        return body["client_secret"]["value"] if self.preview else body["value"]

    async def _call(self, http: ClientSession) -> str:
        url = f"{self.simulator.url}{self.prefix}/realtime/calls{self.query}"
        if self.preview:
            url = f"{self.simulator.url}/v1/realtimertc?model=gpt-realtime"
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/sdp"}
        async with http.post(url, data=self.peer.localDescription.sdp, headers=headers) as response:
            text = await response.text()
            assert response.ok, text
            self.location = response.headers.get("location", "")
        return text

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._ear = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            samples = frame.to_ndarray().astype(np.float64)
            self.levels.append(float(10 * np.log10(np.mean(samples**2) / 32768**2 + 1e-12)))
            self._changed.set()

    def _on_message(self, message: str | bytes) -> None:
        self.messages.append(message)
        try:
            event = json.loads(message) if isinstance(message, str) else None
        except ValueError:
            event = None
        if isinstance(event, dict):
            self.events.append(event)
        self._changed.set()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """Stock aiortc never gathers 127.0.0.1; here it gathers nothing else, so tests run on a machine without network."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
async def simulate():
    """Start simulators with these settings; they are closed at the end."""
    started = []

    async def start(**settings: Any) -> Simulator:
        simulator = Simulator(SimulatorSettings(**settings))
        started.append(simulator)
        await simulator.start()
        return simulator

    yield start
    for simulator in started:
        await simulator.close()


@pytest.fixture
async def connect(simulate):
    """Open clients of a simulator; they hang up at the end, before it closes."""
    clients = []

    async def start(simulator: Simulator, **options: Any) -> Client:
        client = Client(simulator, **options)
        clients.append(client)
        await client.open()
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def http(simulate):
    """A plain HTTP client."""
    async with ClientSession() as session:
        yield session


@pytest.fixture(scope="session")
def voice():
    """`voice(seconds)` is something like speech, 48 kHz mono."""
    return speech


@pytest.fixture
async def offer():
    """An offer with audio and a data section, as text."""
    client = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    client.addTrack(Microphone())
    client.createDataChannel("oai-events")
    await client.setLocalDescription(await client.createOffer())
    yield client.localDescription.sdp
    await client.close()
