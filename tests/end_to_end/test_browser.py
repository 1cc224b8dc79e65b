"""Real Chromium with a spoken microphone: the talk page, and pages that know only Azure's protocols."""

from __future__ import annotations

import pytest
from support.client_pages import LISTEN, ga_page, hear_what_was_said, preview_page, relay_for, run_sample, sample_pages
from support.service import CLIENT_KEY, SECRETS, bench

from relay.config import UpstreamProtocol

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.mark.parametrize("protocol", [UpstreamProtocol.AZURE_GA, UpstreamProtocol.AZURE_PREVIEW])
async def test_v250_a_page_of_the_preview_sample(page, protocol):
    async with sample_pages() as origin, relay_for(origin, protocol) as world:
        await run_sample(page, world, preview_page(origin, world), "response.done")
        transcript = await page.evaluate(
            "events.filter((each) => each.event.type === 'response.audio_transcript.delta').length"
        )
        assert transcript > 0


@pytest.mark.smoke
async def test_a_page_of_the_ga_doors(page):
    async with sample_pages() as origin, relay_for(origin) as world:
        await run_sample(page, world, ga_page(origin, world), "response.done")
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
        await page.evaluate(LISTEN)
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
