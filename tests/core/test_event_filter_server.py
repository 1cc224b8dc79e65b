"""Server events: what passes."""

from __future__ import annotations

import pytest

from relay.core.events import SERVER_EVENT_TYPES, WEBRTC_FILTER_TYPES
from relay.core.lifecycle import Dialect, LegName

# --- what passes

HIDDEN = {"rate_limits.updated", "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done"}
UNTOUCHED = sorted(SERVER_EVENT_TYPES - {"session.created", "session.updated", "error"} - HIDDEN)


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_v256_events_pass_as_they_are(talk, kind: str) -> None:
    event = {
        "type": kind,
        "event_id": "up_7",
        "item_id": "item_1",
        "response": {"id": "resp_1", "output": [], "usage": {"total_tokens": 3}, "metadata": {"topic": "x"}},
        "item": {"id": "item_1", "role": "assistant", "content": [{"type": "output_audio", "transcript": "é\u2028"}]},
        "obfuscation": "abc",
        "content": {"type": "audio"},
        "delta": "x",
    }
    out = talk.server(event)
    assert out.down == [event]
    assert out.verdict == ("forward", "events.allowed")
    assert out.judged[0].event_type == kind


def test_v256_same_dialect_means_same_object_for_the_preview_too(open_talk) -> None:
    talk = open_talk(Dialect.PREVIEW, Dialect.PREVIEW)
    for event in (
        {"type": "conversation.item.created", "event_id": "s", "item": {"id": "i", "role": "user", "content": []}},
        {"type": "response.audio_transcript.delta", "event_id": "s", "item_id": "i", "delta": "x"},
        {"type": "response.done", "event_id": "s", "response": {"id": "r", "modalities": ["audio", "text"]}},
    ):
        assert talk.server(event).down == [event]


@pytest.mark.parametrize("kind", ["added", "created", "done", "retrieved"])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_v220_v221_system_items_are_withheld(talk, kind: str, role: str) -> None:
    item = {"id": "item_policy", "role": role, "content": [{"type": "input_text", "text": "x"}]}
    out = talk.server({"type": f"conversation.item.{kind}", "event_id": "s", "item": item})
    assert out.down == []
    assert out.verdict == ("withhold", "items.role")


def test_v230_rate_limits_are_hidden(talk) -> None:
    out = talk.server({"type": "rate_limits.updated", "event_id": "s", "rate_limits": [{"name": "tokens"}]})
    assert out.down == []
    assert out.verdict == ("withhold", "rate_limits.hidden")


@pytest.mark.parametrize("kind", ["session.policy.debug", "relay.session.ending", "transcription_session.updated", ""])
def test_v226_unknown_types_are_withheld(talk, kind: str) -> None:
    out = talk.server({"type": kind, "instructions": "CANARY-7f3a"})
    assert out.down == []
    assert (out.verdict, out.judged[0].event_type) == (("withhold", "events.type"), "other")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type":"error","type":"x"}', '{"n":NaN}'])
def test_v228_unreadable_texts_are_withheld(talk, text: str) -> None:
    out = talk.server(text)
    assert out.down == []
    assert out.verdict == ("withhold", "events.framing")


def test_v228_binary_is_withheld(talk) -> None:
    [judged] = talk.filter.binary(LegName.UPSTREAM)
    assert (judged.verdict.value, judged.rule.value) == ("withhold", "events.framing")


# --- webrtcfilter


def test_v037_only_the_eleven_pass(open_talk) -> None:
    talk = open_talk(webrtc_filter=True)
    kinds = SERVER_EVENT_TYPES - {"session.created", "session.updated"}
    passed = {kind for kind in kinds if talk.server({"type": kind, "event_id": "s"}).down}
    assert passed == WEBRTC_FILTER_TYPES


def test_v037_session_events_are_checked_though_not_shown(new_talk) -> None:
    talk = new_talk(webrtc_filter=True)
    out = talk.created()
    assert (out.gate_opened, out.down) == (True, [])
    assert talk.update(instructions="x").down == []
    assert talk.updated(instructions="other").up


def test_v037_refusals_and_notices_pass(open_talk) -> None:
    talk = open_talk(webrtc_filter=True)
    assert talk.client({"type": "nope", "event_id": "e1"}).refusal == ("unknown_event", "type", "e1")


# --- a preview client on a GA service


@pytest.mark.parametrize(
    ("ga", "flat"),
    [
        ("response.output_text.delta", "response.text.delta"),
        ("response.output_text.done", "response.text.done"),
        ("response.output_audio.done", "response.audio.done"),
        ("response.output_audio_transcript.delta", "response.audio_transcript.delta"),
        ("response.output_audio_transcript.done", "response.audio_transcript.done"),
        ("conversation.item.added", "conversation.item.created"),
        ("conversation.item.done", None),
        ("input_audio_buffer.timeout_triggered", None),
        ("response.function_call_arguments.done", "response.function_call_arguments.done"),
    ],
)
def test_v255_names_of_a_preview_client(preview, ga: str, flat: str | None) -> None:
    out = preview.server({"type": ga, "event_id": "s", "item_id": "i"})
    assert out.down == ([] if flat is None else [{"type": flat, "event_id": "s", "item_id": "i"}])
    assert out.judged[0].event_type == ga
    if flat is None:
        assert out.verdict == ("withhold", "events.dialect")
