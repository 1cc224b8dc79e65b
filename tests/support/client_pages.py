"""Pages of clients in a real browser: what they are served by, what they hear, what they must never see.

What is heard must follow what was said: the stand-in speaks back what it heard, so the loudness of the page's speaker,
shifted in time, must correlate with the loudness of the microphone's file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import wave
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from aiohttp import web
from playwright.async_api import Page

from relay.config import UpstreamProtocol
from support.firefox import FirefoxPage
from support.service import CLIENT_KEY, INSTRUCTIONS, SECRETS, Bench, bench, relay_settings
from support.sessions import Watch

END_TO_END = Path(__file__).parents[1] / "end_to_end"
PAGES = END_TO_END / "pages"
SPEECH = END_TO_END / "speech.wav"
STEP_SECONDS = 0.04
# Correlation of two loudness curves: 1 is the same, 0 is unrelated; the same speech reversed has 0.42, a buzz 0.27.
LIKE = 0.6
TURNS = 10
AnyPage = Page | FirefoxPage
# The talk page's meter falls slowly for the eye, so a test listens to the page's speaker itself.
LISTEN = """() => {
    window.heard = [];
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    context.createMediaStreamSource(document.getElementById("remote-audio").srcObject).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        const rms = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
        heard.push({ t: performance.now(), rms });
    }, 40);
}"""
# Of a sample page.
TURNS_OVER = "events.filter((each) => each.event.type === 'output_audio_buffer.stopped').length"


@contextlib.asynccontextmanager
async def sample_pages() -> AsyncIterator[str]:
    """Serve the two sample clients from an origin of their own, as a customer's site would."""
    app = web.Application()
    app.router.add_static("/", PAGES)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def relay_for(
    origin: str, protocol: UpstreamProtocol = UpstreamProtocol.AZURE_GA, **sections: object
) -> AsyncIterator[Bench]:
    http = replace(relay_settings("http://127.0.0.1:1").http, allowed_origins=(origin,))
    async with bench(http=http, protocol=protocol, **sections) as world:
        yield world


def spoken_envelope() -> np.ndarray:
    """Loudness of the microphone's file in steps of 40 ms."""
    with wave.open(str(SPEECH)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16).astype(np.float64)
    size = int(rate * STEP_SECONDS)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(frames**2, axis=1))


def heard_envelope(levels: list[dict[str, float]]) -> np.ndarray:
    """Loudness of the page's speaker, resampled to the same steps."""
    times = np.array([each["t"] for each in levels]) / 1000
    loudness = np.array([each["rms"] for each in levels])
    return np.interp(np.arange(times[0], times[-1], STEP_SECONDS), times, loudness)


def likeness(spoken: np.ndarray, heard: np.ndarray) -> float:
    """The best correlation of what was said with any stretch of what was heard."""
    loud = np.flatnonzero(spoken > spoken.max() * 0.05)
    pattern = spoken[loud[0] : loud[-1] + 1]
    best = -1.0
    for at in range(len(heard) - len(pattern)):
        stretch = heard[at : at + len(pattern)]
        if stretch.std() > 0:
            best = max(best, float(np.corrcoef(pattern, stretch)[0, 1]))
    return best


async def hear_what_was_said(page: AnyPage, levels: str, turns_over: str) -> None:
    """Listen turn by turn until one answer sounds like the microphone's file.

    On a busy machine late packets can split a sentence into two turns, or the next one interrupt an answer.
    """
    spoken = spoken_envelope()
    heard: list[float] = []
    for turn in range(1, TURNS + 1):
        async with asyncio.timeout(40):
            while await page.evaluate(turns_over) < turn:  # noqa: ASYNC110 - it happens in the browser
                await asyncio.sleep(0.1)
        heard.append(likeness(spoken, heard_envelope(await page.evaluate(levels))))
        if heard[-1] > LIKE:
            return
    pytest.fail(f"none of {TURNS} answers sounds like what was said: {heard}")


async def received(page: AnyPage, kind: str, seconds: float = 30) -> dict:
    """Wait for an event that the page received, and give it."""
    find = f"events.find((each) => each.direction === 'received' && each.event.type === '{kind}')?.event"
    async with asyncio.timeout(seconds):
        while (event := await page.evaluate(find)) is None:  # noqa: ASYNC110 - it happens in the browser
            await asyncio.sleep(0.1)
    return event


async def assert_nothing_leaked(page: AnyPage, world: Bench) -> None:
    everything = json.dumps(await page.evaluate("events"))
    for secret in (*SECRETS, INSTRUCTIONS):
        assert secret not in everything, secret
    for session in world.simulator.state()["sessions"]:
        assert session["session"]["instructions"] == INSTRUCTIONS


async def run_sample(page: AnyPage, world: Bench, address: str, response_done: str) -> None:
    await page.goto(address)
    await page.click("#start")
    created = await received(page, "session.created")
    assert "instructions" not in created["session"]
    updated = await received(page, "session.updated")
    assert "instructions" not in updated["session"]
    await received(page, "output_audio_buffer.started")
    await received(page, response_done)
    await received(page, "output_audio_buffer.stopped")
    await hear_what_was_said(page, "remoteLevels", TURNS_OVER)
    assert not [each for each in await page.evaluate("events") if each["event"]["type"] in {"error", "page.failed"}]
    await assert_nothing_leaked(page, world)
    await page.click("#stop")
    # The preview protocol has no hang-up: there the service sees the peer leave.
    await world.simulator.until(lambda state: all(session["state"] == "closed" for session in state["sessions"]))
    await world.relay.registry.drain(1)
    assert world.relay.registry.live.counters() == {}


async def until_heard(watch: Watch, page: AnyPage) -> dict:
    """Speech goes both ways of a page with `coming_back.js`; returns its figures."""
    said = watch.session()["heard"]["voiced_frames"]
    await watch.world.simulator.until(lambda state: state["sessions"][-1]["heard"]["voiced_frames"] > said + 20, 20)
    before = await page.evaluate("figures()")
    async with asyncio.timeout(20):
        while (now := await page.evaluate("figures()"))["received"] < before["received"] + 25:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return now


def ga_page(origin: str, world: Bench) -> str:
    """Address of the sample that knows the GA doors."""
    return _page(
        f"{origin}/ga_sample.html",
        secrets_url=f"{world.url}/openai/v1/realtime/client_secrets",
        calls_url=f"{world.url}/openai/v1/realtime/calls",
        deployment="gpt-realtime",
    )


def preview_page(origin: str, world: Bench) -> str:
    """Address of the sample that knows the preview doors."""
    return _page(
        f"{origin}/preview_sample.html",
        sessions_url=f"{world.url}/openai/realtimeapi/sessions?api-version=2025-04-01-preview",
        webrtc_url=f"{world.url}/v1/realtimertc",
        deployment="gpt-4o-mini-realtime-preview",
    )


def _page(address: str, **query: str) -> str:
    return f"{address}?{urlencode({**query, 'api_key': CLIENT_KEY})}"
