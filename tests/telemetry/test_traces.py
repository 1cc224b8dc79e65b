"""Traces by OpenTelemetry: off unless asked for, joined to the client's, bounded, sent by OTLP."""

from __future__ import annotations

import asyncio
import builtins
import sys

import pytest
from aiohttp import web
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from relay.errors import ConfigError
from relay.telemetry import open_traces, otel
from relay.telemetry.otel import OtelTraces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    traces = OtelTraces(SimpleSpanProcessor(exporter))
    yield traces
    traces.close()


def test_off_the_clients_own_id_is_kept_for_the_log():
    traces = open_traces(enabled=False)
    assert traces.begin("rs_1", f"{PARENT}-01", "contoso-rt").trace_id == TRACE
    nobody = traces.begin("rs_1", "nonsense", "contoso-rt")
    assert nobody.trace_id is None
    nobody.stage("upstream.ice", 0.1)
    nobody.answer_began(0.1)
    nobody.answered("completed", 0.1, {})
    nobody.end("client", "client_left", ())
    traces.close()


def test_without_the_extra_the_settings_are_refused_with_the_way_out(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **options)

    monkeypatch.delitem(sys.modules, "relay.telemetry.otel")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"opentelemetry is missing\): pip install 'realtime-relay\[otel\]'"):
        open_traces(enabled=True)


def test_a_session_without_a_header_has_a_trace_of_its_own(traces, exporter):
    first, second = (traces.begin(f"rs_{number}", None, "contoso-rt") for number in (1, 2))
    assert first.trace_id != second.trace_id
    first.end("service", "service_lost", ("req_1",))
    [span] = exporter.get_finished_spans()
    assert (f"{span.context.trace_id:032x}", span.parent) == (first.trace_id, None)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "service_lost")
    assert span.resource.attributes["service.name"] == "realtime-relay"


def test_a_trace_that_its_beginner_does_not_record_is_not_recorded(traces, exporter):
    session = traces.begin("rs_1", f"{PARENT}-00", "contoso-rt")
    session.end("client", "client_left", ())
    assert session.trace_id == TRACE
    assert exporter.get_finished_spans() == ()


def test_stages_and_answers_lie_where_they_were_in_time(traces, exporter):
    session = traces.begin("rs_1", f"{PARENT}-01", "contoso-rt")
    session.stage("upstream.mint", 0.5)
    session.answer_began(0.4)
    session.answered("completed", 2.0, {("input", "text"): 3, ("input", "cached_text"): 4, ("output", "audio"): 5})
    session.answered("cancelled", 1.0, {("output", "audio"): 1})
    session.end("client", "client_left", ())
    stage, first, second, whole = exporter.get_finished_spans()
    assert stage.end_time - stage.start_time == 500_000_000
    assert first.end_time - first.start_time == 2_000_000_000
    assert first.attributes["gen_ai.usage.input_tokens"] == 7
    assert first.attributes["gen_ai.response.finish_reasons"] == ("completed",)
    assert first.attributes["relay.turn.latency_seconds"] == 0.4
    assert "relay.turn.latency_seconds" not in second.attributes
    assert (whole.attributes["relay.turns"], whole.attributes["gen_ai.usage.output_tokens"]) == (2, 6)


def test_a_session_of_endless_answers_has_a_bounded_number_of_spans(traces, exporter, monkeypatch):
    monkeypatch.setattr(otel, "_MOST_TURNS", 5)
    session = traces.begin("rs_1", None, "contoso-rt")
    for _ in range(20):
        session.answered("completed", 0.1, {})
    session.end("client", "client_left", ())
    spans = exporter.get_finished_spans()
    assert len(spans) == 6
    assert spans[-1].attributes["relay.turns"] == 20


async def test_spans_are_sent_where_the_environment_says(monkeypatch):
    bodies = []

    async def take(request):
        bodies.append((request.path, request.content_type, await request.read()))
        return web.Response(body=b"", content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "relay-of-contoso")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        traces = open_traces(enabled=True)
        traces.begin("rs_sent", None, "contoso-rt").end("client", "client_left", ())
        await asyncio.to_thread(traces.close)
    finally:
        await runner.cleanup()
    [(path, kind, body)] = bodies
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    assert b"rs_sent" in body
    assert b"relay-of-contoso" in body
