"""The pure functions of the page's modules, called in the browser that runs them."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from playwright.async_api import Page

from relay.core.client_stats import ClientStats, client_stats

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
    targets = (
        "sdp => import('/candidates.js').then(({ targetsOf }) => ['udp', 'tcp'].map((each) => targetsOf(sdp, each)))"
    )
    assert await shared_page.evaluate(targets, sdp) == [
        ["192.0.2.10:8443", "[2001:db8::1]:8443"], ["192.0.2.10:443"]
    ]  # fmt: skip
    kept = "sdp => import('/candidates.js').then(({ withOnly }) => withOnly(sdp, 'tcp'))"
    assert await shared_page.evaluate(kept, sdp) == "v=0\r\n" + sdp.split("\r\n")[4] + "\r\n"


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


async def test_figures_are_those_that_the_relay_takes(shared_page):
    """Of the time since the reading before; what the browser does not tell is null."""
    before = {
        "pair": {},
        "inbound": {"packetsLost": 1, "packetsReceived": 99, "jitterBufferDelay": 5, "jitterBufferEmittedCount": 100,
                    "concealedSamples": 10, "totalSamplesReceived": 1000},
        "atRelay": {},
    }  # fmt: skip
    now = {
        "pair": {"currentRoundTripTime": 0.025},
        "inbound": {"packetsLost": 6, "packetsReceived": 194, "jitter": 0.004, "jitterBufferDelay": 11,
                    "jitterBufferEmittedCount": 200, "concealedSamples": 60, "totalSamplesReceived": 2000},
        "atRelay": {"roundTripTime": 0.9},
    }  # fmt: skip
    script = "([now, before]) => import('/stats.js').then((module) => module.figures(now, before))"
    told = await shared_page.evaluate(script, [now, before])
    assert {name: value and round(value, 6) for name, value in told.items()} == {
        "rtt_seconds": 0.025,
        "jitter_seconds": 0.004,
        "buffer_seconds": 0.06,
        "loss_in": 0.05,
        "loss_out": None,
        "concealed": 0.05,
    }
    assert client_stats(told) is not None
    assert set(told) == {field.name for field in fields(ClientStats)}
    nothing = await shared_page.evaluate(script, [{"pair": {}, "inbound": {}, "atRelay": {}}, None])
    assert client_stats(nothing) == ClientStats()


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


# A way back with scripted outcomes: true or false (connected or not), or a refusal's status and seconds to wait.
RECOVER = """async ({ script, restartable, changes }) => {
    const { Recovery } = await import('/recovery.js');
    const { Failure } = await import('/failures.js');
    const tried = [];
    const attempt = (way) => async (signal) => {
        tried.push(way);
        const next = script.shift();
        const hanging = (_, reject) => signal.addEventListener('abort', () => reject(signal.reason));
        if (next === 'hangs') await new Promise(hanging);
        if (typeof next === 'boolean') return next;
        const [status, retryAfter] = next;
        throw Object.assign(new Failure('request_refused', { status }), status === 0 ? {} : { status, retryAfter });
    };
    const recovery = new Recovery({
        canRestart: () => restartable, restart: attempt('restart'), reattach: attempt('reattach'),
    });
    for (const after of changes ?? []) setTimeout(() => recovery.changed(), after);
    const began = performance.now();
    const end = await recovery.run(new AbortController().signal).catch((failure) => failure.code);
    return { tried, end, seconds: (performance.now() - began) / 1000 };
}"""


@pytest.mark.parametrize(
    ("script", "restartable", "tried", "end"),
    [
        ([True], True, ["restart"], "restart"),
        ([True], False, ["reattach"], "reattach"),
        ([False, True], True, ["restart", "reattach"], "reattach"),
        ([[409, 0], True], True, ["restart", "reattach"], "reattach"),
        ([[400, 0], True], True, ["restart", "reattach"], "reattach"),
        ([[409, 0.3], True], True, ["restart", "restart"], "restart"),
        ([[429, 0.3], True], False, ["reattach", "reattach"], "reattach"),
        ([[0, 0], [502, 0], True], True, ["restart", "restart", "restart"], "restart"),
        ([[404, 0]], True, ["restart"], "session_over"),
        ([False, [401, 0]], True, ["restart", "reattach"], "session_over"),
        ([[400, 0]], False, ["reattach"], "request_refused"),
        ([[429, 600]], True, ["restart"], "session_dropped"),
    ],
)
async def test_which_way_back_is_tried_next(shared_page, script, restartable, tried, end):
    found = await shared_page.evaluate(RECOVER, {"script": script, "restartable": restartable})
    assert (found["tried"], found["end"]) == (tried, end)
    waited = sum(each[1] for each in script[:-1] if isinstance(each, list))
    assert found["seconds"] >= waited


async def test_another_change_of_the_network_begins_anew_with_the_gentlest_way(shared_page):
    argument = {"script": [False, "hangs", True], "restartable": True, "changes": [0, 700]}
    found = await shared_page.evaluate(RECOVER, argument)
    # The first change belongs to the one that began it; the second one cuts the new peer connection short.
    assert (found["tried"], found["end"]) == (["restart", "reattach", "restart"], "restart")


WELL = {"signalling": {"milliseconds": 5}, "relayOnly": False}


def way(name: str, outcome: str, *targets: str) -> dict[str, Any]:
    return {"way": name, "outcome": outcome, "targets": targets or ["192.0.2.1:8443"]}


HERE = ("127.0.0.1:8443", "[::1]:8443")


@pytest.mark.parametrize(
    ("ways", "more", "suspect", "code"),
    [
        ([way("udp", "works"), way("tcp", "blocked")], {}, "", "all_well"),
        ([way("udp", "blocked"), way("tcp", "works")], {}, "", "second_best"),
        ([way("udp", "blocked"), way("tcp", "not_offered")], {}, "", "all_blocked"),
        ([way("udp", "blocked", *HERE), way("tcp", "blocked", *HERE)], {}, "", "loopback_only"),
        ([way("udp", "blocked", *HERE, "192.0.2.1:8443"), way("tcp", "blocked", *HERE)], {}, "", "all_blocked"),
        ([way("udp", "altered"), way("tcp", "blocked")], {}, "", "altered"),
        ([way("udp", "not_offered"), way("tcp", "not_offered")], {}, "", "nothing_offered"),
        ([way("udp", "works")], {}, "service", "service_side"),
        ([way("udp", "blocked")], {}, "service", "all_blocked"),
        ([way("udp", "works")], {}, "network", "works_now"),
        ([way("udp", "works"), way("turn_udp", "blocked")], {"relayOnly": True}, "", "all_blocked"),
        ([way("udp", "blocked"), way("turn_udp", "works")], {"relayOnly": True}, "", "all_well"),
    ],
)
async def test_what_the_results_of_a_check_mean(shared_page, ways, more, suspect, code):
    conclude = """([result, suspect]) => Promise.all([import('/check.js'), import('/texts.js')]).then(
        ([{ conclusionOf }, { texts }]) => {
            const { code, detail } = conclusionOf(result, suspect);
            return [code, texts.check.conclusions[code](detail)];
        })"""
    found, text = await shared_page.evaluate(conclude, [{**WELL, **more, "ways": ways}, suspect])
    assert found == code
    assert "undefined" not in text


async def test_only_a_change_of_the_kind_of_network_counts(shared_page):
    heard = await shared_page.evaluate(
        """async () => {
            const connection = Object.assign(new EventTarget(), { type: 'wifi' });
            Object.defineProperty(navigator, 'connection', { value: connection, configurable: true });
            const { watchNetwork } = await import('/network.js');
            const heard = [];
            const stop = watchNetwork((why) => heard.push(why));
            const change = () => connection.dispatchEvent(new Event('change'));
            change();
            connection.type = 'cellular';
            change();
            change();
            dispatchEvent(new Event('online'));
            stop();
            connection.type = 'wifi';
            change();
            dispatchEvent(new Event('online'));
            delete navigator.connection;
            return heard;
        }"""
    )
    assert heard == ["network", "online"]


async def test_a_machine_that_slept_is_noticed(shared_page):
    heard = await shared_page.evaluate(
        """async () => {
            const { watchNetwork } = await import('/network.js');
            const heard = [];
            const stop = watchNetwork((why) => heard.push(why));
            const now = Date.now;
            Date.now = () => now() + 60_000;
            document.dispatchEvent(new Event('visibilitychange'));
            document.dispatchEvent(new Event('visibilitychange'));
            Date.now = now;
            stop();
            return heard;
        }"""
    )
    assert heard == ["woke"]
