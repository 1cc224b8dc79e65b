"""The pure functions of the page's modules, called in the browser that runs them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from playwright.async_api import Page

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]


async def call(page: Page, module: str, function: str, argument: Any) -> Any:
    return await page.evaluate(
        "([path, name, argument]) => import(path).then((module) => module[name](argument))",
        [f"/{module}", function, argument],
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "12", "retry-after-ms": "1500"}, 2),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
    ],
)
async def test_seconds_to_wait(shared_page, headers, seconds):
    waited = await shared_page.evaluate(
        "headers => import('/failures.js').then((module) => module.secondsToWait(new Headers(headers)))", headers
    )
    assert waited == seconds


@pytest.mark.parametrize(
    ("samples", "level"),
    [([0.0] * 8, 0.0), ([1.0, -1.0] * 4, 1.0), ([0.001, -0.001] * 4, 0.0), ([math.sqrt(0.001)] * 8, 0.5)],
)
async def test_level_is_decibels_over_sixty(shared_page, samples, level):
    assert await call(shared_page, "meters.js", "levelOf", samples) == pytest.approx(level, abs=1e-3)


async def test_media_targets_of_an_answer(shared_page):
    sdp = (
        "v=0\r\na=candidate:1 1 udp 2130706431 192.0.2.10 8443 typ host\r\n"
        "a=candidate:1 1 udp 2130706431 192.0.2.10 8443 typ host\r\n"
        "a=candidate:2 1 UDP 2130706430 2001:db8::1 8443 typ host\r\n"
        "a=candidate:3 1 tcp 1 192.0.2.10 443 typ host tcptype passive\r\n"
    )
    assert await call(shared_page, "session.js", "targetsOf", sdp) == ["192.0.2.10:8443", "[2001:db8::1]:8443"]


@pytest.mark.parametrize(
    ("now", "before", "loss"),
    [
        ({"packetsLost": 5, "packetsReceived": 195}, {"packetsLost": 0, "packetsReceived": 100}, 0.05),
        ({"packetsLost": -1, "packetsReceived": 100}, {"packetsLost": 0, "packetsReceived": 50}, 0.0),
        ({"packetsLost": 0, "packetsReceived": 0}, None, 0.0),
        ({}, None, None),
    ],
)
async def test_loss_between_two_readings(shared_page, now, before, loss):
    found = await shared_page.evaluate(
        "([now, before]) => import('/stats.js').then((module) => module.lossBetween(now, before) ?? null)",
        [now, before],
    )
    assert found == loss


async def test_transcript_joins_events_in_any_order(shared_page):
    events = [
        {"type": "input_audio_buffer.speech_started", "item_id": "a", "audio_start_ms": 1000},
        {"type": "input_audio_buffer.speech_stopped", "item_id": "a", "audio_end_ms": 2500},
        {"type": "response.output_item.added", "item": {"id": "b", "type": "message"}},
        {"type": "response.output_audio_transcript.delta", "item_id": "b", "delta": "Good "},
        {"type": "response.output_audio_transcript.delta", "item_id": "b", "delta": "day"},
        {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": " Hello.\n"},
        {"type": "conversation.item.truncated", "item_id": "b"},
        {"type": "input_audio_buffer.speech_started", "item_id": "c", "audio_start_ms": 5000},
        {"type": "input_audio_buffer.speech_stopped", "item_id": "c", "audio_end_ms": 5500},
        {"type": "conversation.item.input_audio_transcription.failed", "item_id": "c", "error": {}},
        {"type": "response.output_item.added", "item": {"id": "d", "type": "function_call"}},
    ]
    lines = await shared_page.evaluate(
        """events => import('/transcript.js').then(({ Transcript }) => {
            const [box, list, empty] = ['div', 'ol', 'p'].map((tag) => document.createElement(tag));
            const transcript = new Transcript(box, list, empty);
            for (const event of JSON.parse(events)) transcript.follow(event);
            return [...list.children].map((row) => [row.dataset.speaker, row.children[1].textContent,
                row.children[2].textContent]);
        })""",
        json.dumps(events),
    )
    assert lines == [
        ["you", "Hello.", ""],
        ["model", "Good day", "interrupted"],
        ["you", "Spoke for 0.5 s", "could not be transcribed"],
    ]
