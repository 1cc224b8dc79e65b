"""Traces by OpenTelemetry. Where they go and which are kept is said by its own OTEL_… variables.

Names follow its semantic conventions for generative AI where there are any (`gen_ai.…`); the rest begins with `relay.`.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

import relay
from relay.core.traceparent import parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

    from relay.core.turn_facts import Tokens
    from relay.telemetry.traces import SessionTrace

_NANOSECONDS = 1_000_000_000
# An hour of short answers; those beyond are counted on the session's span.
_MOST_TURNS = 500
_FAULTS = frozenset({"service", "relay"})


class OtelTraces:
    """Sends spans in batches, in a thread of OpenTelemetry's own; its queue drops what does not fit.

    With a `processor` they go there instead of over OTLP.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "realtime-relay"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or _over_otlp())
        self._tracer = self._provider.get_tracer("relay", relay.__version__)

    def begin(self, session_id: str, traceparent: str | None, deployment: str) -> SessionTrace:
        """Begin a session's span, below the client's where it sent a header for that."""
        return OtelSession(self._tracer, session_id, _parent(traceparent), deployment)

    def close(self) -> None:
        """Send what is left; this may wait as long as OTEL_EXPORTER_OTLP_TIMEOUT says (10 s)."""
        self._provider.shutdown()


class OtelSession:
    """One session's span, and below it one for each stage of its set-up and each answer."""

    def __init__(self, tracer: Tracer, session_id: str, parent: Context | None, deployment: str) -> None:
        self._tracer = tracer
        self._deployment = deployment
        self._turns = 0
        self._heard_after: float | None = None
        self._used: Counter[str] = Counter()
        attributes = {"gen_ai.conversation.id": session_id, "gen_ai.request.model": deployment}
        self._span = tracer.start_span("session", parent, SpanKind.SERVER, attributes)
        self._below = trace.set_span_in_context(self._span)

    @property
    def trace_id(self) -> str:
        """The trace's id in hexadecimal."""
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    def stage(self, name: str, seconds: float) -> None:
        """A stage of set-up was reached just now."""
        now = time.time_ns()
        began = now - int(seconds * _NANOSECONDS)
        self._tracer.start_span(f"setup {name}", self._below, start_time=began).end(now)

    def answer_began(self, seconds: float) -> None:
        """Keep how long the client waited, for the answer's own span."""
        self._heard_after = seconds

    def answered(self, status: str, seconds: float, tokens: Tokens) -> None:
        """An answer is over just now."""
        used: Counter[str] = Counter()
        for (direction, _kind), number in tokens.items():
            used[f"gen_ai.usage.{direction}_tokens"] += number
        self._used.update(used)
        self._turns += 1
        heard_after, self._heard_after = self._heard_after, None
        if self._turns > _MOST_TURNS:
            return
        now = time.time_ns()
        attributes: dict[str, str | int | float | list[str]] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._deployment,
            "gen_ai.output.type": "speech",
            "gen_ai.response.finish_reasons": [status],
            **used,
        }
        if heard_after is not None:
            attributes["relay.turn.latency_seconds"] = heard_after
        began = now - int(seconds * _NANOSECONDS)
        name = f"chat {self._deployment}"
        self._tracer.start_span(name, self._below, SpanKind.CLIENT, attributes, start_time=began).end(now)

    def end(self, side: str, reason: str, request_ids: tuple[str, ...]) -> None:
        """The session is over."""
        self._span.set_attributes(
            {
                **self._used,
                "relay.end.side": side,
                "relay.end.reason": reason,
                "relay.turns": self._turns,
                "relay.service_request_ids": list(request_ids),
            }
        )
        if side in _FAULTS:
            self._span.set_status(StatusCode.ERROR, reason)
        self._span.end()


def _over_otlp() -> SpanProcessor:
    # Imported here: a test needs no exporter.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter())


def _parent(traceparent: str | None) -> Context | None:
    told = parse_traceparent(traceparent)
    if told is None:
        return None
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if told.sampled else trace.TraceFlags.DEFAULT)
    context = trace.SpanContext(int(told.trace_id, 16), int(told.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(context))
