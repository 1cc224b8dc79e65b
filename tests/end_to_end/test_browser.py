"""Real Chromium with a spoken microphone against the relay: the talk page, and pages that know only Azure's protocols.

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
from support.service import CLIENT_KEY, INSTRUCTIONS, SECRETS, Bench, bench, relay_settings

from relay.config import UpstreamProtocol

HERE = Path(__file__).parent
SPEECH = HERE / "speech.wav"
STEP_SECONDS = 0.04
# Correlation of two loudness curves: 1 is the same, 0 is unrelated; the same speech reversed has 0.42, a buzz 0.27.
LIKE = 0.6
TURNS = 10

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]


@contextlib.asynccontextmanager
async def sample_pages() -> AsyncIterator[str]:
    """Serve the two sample clients from an origin of their own, as a customer's site would."""
    app = web.Application()
    app.router.add_static("/", HERE / "pages")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def relay_for(origin: str, protocol: UpstreamProtocol = UpstreamProtocol.AZURE_GA) -> AsyncIterator[Bench]:
    http = replace(relay_settings("http://127.0.0.1:1").http, allowed_origins=(origin,))
    async with bench(http=http, protocol=protocol) as world:
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


async def hear_what_was_said(page: Page, levels: str, turns_over: str) -> None:
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


async def received(page: Page, kind: str, timeout: float = 30_000) -> dict:
    """Wait for an event that the page received, and give it."""
    find = f"() => events.find((each) => each.direction === 'received' && each.event.type === '{kind}')?.event"
    handle = await page.wait_for_function(find, timeout=timeout)
    return await handle.json_value()


async def assert_nothing_leaked(page: Page, world: Bench) -> None:
    everything = json.dumps(await page.evaluate("events"))
    for secret in (*SECRETS, INSTRUCTIONS):
        assert secret not in everything, secret
    for session in world.simulator.state()["sessions"]:
        assert session["session"]["instructions"] == INSTRUCTIONS


async def run_sample(page: Page, world: Bench, address: str, response_done: str) -> None:
    await page.goto(address)
    await page.click("#start")
    created = await received(page, "session.created")
    assert "instructions" not in created["session"]
    updated = await received(page, "session.updated")
    assert "instructions" not in updated["session"]
    await received(page, "output_audio_buffer.started")
    await received(page, response_done)
    await received(page, "output_audio_buffer.stopped")
    await hear_what_was_said(
        page, "remoteLevels", "events.filter((each) => each.event.type === 'output_audio_buffer.stopped').length"
    )
    assert not [each for each in await page.evaluate("events") if each["event"]["type"] in {"error", "page.failed"}]
    await assert_nothing_leaked(page, world)
    await page.click("#stop")
    # The preview protocol has no hang-up: there the service sees the peer leave.
    await world.simulator.until(lambda state: all(session["state"] == "closed" for session in state["sessions"]))
    await world.relay.registry.drain(1)
    assert world.relay.registry.live.counters() == {}


@pytest.mark.parametrize("protocol", [UpstreamProtocol.AZURE_GA, UpstreamProtocol.AZURE_PREVIEW])
async def test_v250_a_page_of_the_preview_sample(page, protocol):
    async with sample_pages() as origin, relay_for(origin, protocol) as world:
        query = urlencode(
            {
                "sessions_url": f"{world.url}/openai/realtimeapi/sessions?api-version=2025-04-01-preview",
                "webrtc_url": f"{world.url}/v1/realtimertc",
                "api_key": CLIENT_KEY,
                "deployment": "gpt-4o-mini-realtime-preview",
            }
        )
        await run_sample(page, world, f"{origin}/preview_sample.html?{query}", "response.done")
        transcript = await page.evaluate(
            "events.filter((each) => each.event.type === 'response.audio_transcript.delta').length"
        )
        assert transcript > 0


@pytest.mark.smoke
async def test_a_page_of_the_ga_doors(page):
    async with sample_pages() as origin, relay_for(origin) as world:
        query = urlencode(
            {
                "secrets_url": f"{world.url}/openai/v1/realtime/client_secrets",
                "calls_url": f"{world.url}/openai/v1/realtime/calls",
                "api_key": CLIENT_KEY,
                "deployment": "gpt-realtime",
            }
        )
        await run_sample(page, world, f"{origin}/ga_sample.html?{query}", "response.done")
        transcript = await page.evaluate(
            "events.filter((each) => each.event.type === 'response.output_audio_transcript.delta').length"
        )
        assert transcript > 0


async def test_the_talk_page(page):
    async with bench() as world:
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        await page.goto(f"{world.url}/#key={CLIENT_KEY}")
        await page.click("#start")
        await page.wait_for_selector("body[data-state=live]")
        # The page's meter falls slowly for the eye, so the test listens to the page's speaker itself.
        await page.evaluate(
            """() => {
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
        )
        await page.wait_for_selector("[data-speaker=model]", timeout=30_000)
        await hear_what_was_said(
            page, "heard", "document.querySelectorAll(\"[data-type='output_audio_buffer.stopped']\").length"
        )
        content = await page.content()
        for secret in SECRETS:
            assert secret not in content, secret
        await page.click("#start")
        await page.wait_for_selector("body[data-state=ended]")
        await world.simulator.until(lambda state: all(call["hung_up"] for call in state["calls"]))
        assert complaints == []
        taken = world.relay.metrics.get_sample_value("relay_client_reports_total", {"result": "taken"})
        assert taken >= 1
        assert world.relay.metrics.get_sample_value("relay_client_rtt_seconds_count") == taken
