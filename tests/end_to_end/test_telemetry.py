"""What operators see of a real session: metrics of both legs and of its turn, one log line, a trace; no content."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys

import aiohttp
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs
from support.client import Client
from support.service import CLIENT_KEY, DEPLOYMENT, SECRETS, TRANSCRIPTION, bench
from support.sessions import Watch, client_of, watched

from relay import app
from relay.config import CostSettings
from relay.config_prices import prices
from relay.telemetry import render_metrics
from relay.telemetry.otel import OtelTraces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
COST = CostSettings((prices(f"{DEPLOYMENT} input_audio=32 input_text=4 output_audio=64 output_text=16"),))


async def a_turn(client: Client) -> None:
    client.microphone.level = 1.0
    await client.event("input_audio_buffer.speech_started")
    client.microphone.level = 0.0
    await client.event("input_audio_buffer.speech_stopped")
    await client.event("output_audio_buffer.started")
    await client.until(lambda: max(client.levels, default=0) > 1000)
    await client.event("response.done")


def value(watch: Watch, name: str, **labels: str) -> float:
    return watch.world.relay.metrics.get_sample_value(name, labels) or 0.0


async def test_a_turn_shows_on_both_legs_and_in_tokens_and_dollars():
    async with watched(cost=COST) as watch:
        async with client_of(watch) as client:
            await client.connect()
            await client.event("session.created")
            await a_turn(client)
            client.send({"type": "input_audio_buffer.clear"})
            await client.event("input_audio_buffer.cleared")
            reports = watch.world.relay.registry.live.counters
            await client.until(
                lambda: all(
                    side.rtt_seconds is not None and side.packets_in > 180
                    for each in reports().values()
                    for side in (each.downstream, each.upstream)
                )
            )
            assert await client.hang_up() == 200
            await client.closed.wait()
        record = await watch.ended()
        for leg in ("downstream", "upstream"):
            assert value(watch, "relay_media_jitter_seconds_count", leg=leg) == 1, leg
            assert value(watch, "relay_media_rtt_seconds_count", leg=leg) == 1, leg
            for direction in ("in", "out"):
                assert value(watch, "relay_media_loss_ratio_count", leg=leg, direction=direction) == 1, (leg, direction)
                assert value(watch, "relay_channel_bytes_total", leg=leg, direction=direction) > 30, (leg, direction)
            if sys.platform == "linux":
                assert value(watch, "relay_media_forward_seconds_count", leg=leg) >= 1, leg
        assert value(watch, "relay_turn_latency_seconds_count", deployment=DEPLOYMENT) == 1
        assert 0 < value(watch, "relay_turn_latency_seconds_sum", deployment=DEPLOYMENT) < 5
        assert value(watch, "relay_turns_total", deployment=DEPLOYMENT, status="completed") == 1
        used = value(watch, "relay_tokens_total", deployment=DEPLOYMENT, direction="output", kind="audio")
        assert used == record.tokens["output", "audio"] > 0
        assert value(watch, "relay_cost_estimate_usd_total", deployment=DEPLOYMENT) > used * 64 / 1_000_000
        assert record.turns == {"completed": 1}


async def test_no_content_reaches_log_metrics_or_spans_and_all_three_are_joined(monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(app, "open_traces", lambda *, enabled: OtelTraces(SimpleSpanProcessor(exporter)))
    with capture_logs() as lines:
        async with bench() as world, Client(world.url, CLIENT_KEY) as client:
            client.http.headers["traceparent"] = TRACEPARENT
            await client.connect()
            await client.event("session.created")
            update = {"type": "session.update", "session": {"type": "realtime", "instructions": "CANARY-client"}}
            client.send(update)
            await client.event("session.updated")
            await a_turn(client)
            transcripts = [event["transcript"] for event in client.events if event.get("transcript")]
            metrics = render_metrics(world.relay.metrics)[0].decode()
            assert await client.hang_up() == 200
            await client.closed.wait()
    spans = exporter.get_finished_spans()
    [session] = [span for span in spans if span.name == "session"]
    names = {span.name for span in spans}
    assert {"setup upstream.mint", "setup downstream.ice", "setup upstream.policy", f"chat {DEPLOYMENT}"} <= names
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    assert {span.parent.span_id for span in spans if span is not session} == {session.context.span_id}
    assert session.parent.span_id == 0x00F067AA0BA902B7
    assert session.attributes["relay.end.reason"] == "client_hung_up"
    [chat] = [span for span in spans if span.name.startswith("chat")]
    assert chat.attributes["gen_ai.usage.output_tokens"] > 0
    assert 0 < chat.attributes["relay.turn.latency_seconds"] < 5
    [ended] = [line for line in lines if line["event"] == "session_ended"]
    assert (ended["trace_id"], ended["session_id"]) == (TRACE, session.attributes["gen_ai.conversation.id"])
    assert ended["service_request_ids"] == session.attributes["relay.service_request_ids"]
    assert transcripts
    spoken = {*transcripts, "CANARY-client", "v=0", client.minted["value"], CLIENT_KEY, "ice-ufrag"}
    # An operator may read the names of his deployments; nobody reads the rest.
    hidden = spoken | (set(SECRETS) - {DEPLOYMENT, TRANSCRIPTION})
    told = json.dumps(lines, default=str) + metrics + "".join(span.to_json() for span in spans)
    assert not [secret for secret in hidden if secret in told]


async def test_without_the_extra_nothing_of_it_is_loaded():
    script = "import sys, relay.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert (await process.communicate())[0].strip() == b"[]"


async def test_a_client_tells_what_it_measures():
    async with watched() as watch:
        async with client_of(watch) as client:
            await client.connect()
            await client.event("session.created")
            url = f"{client.base}{client.location}/stats"
            bearer = {"Authorization": f"Bearer {client.minted['value']}"}
            statuses = []
            for number in range(7):
                report = {"rtt_seconds": 0.03, "loss_in": number / 100}
                async with client.http.post(url, json=report, headers=bearer) as response:
                    statuses.append(response.status)
            assert statuses == [204] * 5 + [429] * 2
            assert await client.hang_up() == 200
            await client.closed.wait()
        record = await watch.ended()
        assert (record.client.rtt_seconds, record.client.loss_in) == (0.03, 0.04)
        assert value(watch, "relay_client_rtt_seconds_count") == 5
        assert value(watch, "relay_client_reports_total", result="taken") == 5
        assert value(watch, "relay_client_reports_total", result="refused") == 2


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed")
async def test_promtool_takes_what_a_running_relay_gives():
    async with bench() as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        await client.event("session.created")
        async with aiohttp.ClientSession() as http, http.get(f"{world.relay.operations_url}/metrics") as response:
            text = await response.read()
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_an_operator_drains_a_relay_and_clients_are_told():
    async with watched() as watch:
        async with client_of(watch) as client:
            await client.connect()
            await client.event("session.created")
            operations = watch.world.relay.operations_url
            async with client.http.get(f"{operations}/startupz") as response:
                assert response.status == 200
            async with client.http.post(f"{operations}/drain", headers={"Origin": "https://evil.example"}) as response:
                assert response.status == 403
            for _ in range(2):
                async with client.http.post(f"{operations}/drain") as response:
                    assert response.status == 202
                    assert await response.json() == {"status": "draining", "sessions": 1, "seconds": 30.0}
            told = await client.event("relay.session.ending")
            assert (told["reason"], told["seconds_left"]) == ("relay_draining", 30)
            assert len([event for event in client.events if event["type"] == "relay.session.ending"]) == 1
            async with client.http.get(f"{operations}/readyz") as response:
                assert response.status == 503
            late = Client(watch.world.url, CLIENT_KEY)
            async with late:
                status, answer = await late.post_offer(await late.offer(), CLIENT_KEY)
            assert (status, json.loads(answer)["error"]["code"]) == (503, "draining")
            # A session that ends by itself is all a drain waits for.
            assert await client.hang_up() == 200
            await client.closed.wait()
        async with asyncio.timeout(10):
            await watch.world.relay.drain.begin()
        assert (await watch.ended()).reason == "client_hung_up"
