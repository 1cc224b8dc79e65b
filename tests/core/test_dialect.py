from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.dialect import (
    client_event_to_ga,
    client_event_to_preview,
    param_to_ga,
    param_to_preview,
    server_event_to_ga,
    server_event_to_preview,
    session_to_ga,
    session_to_preview,
    session_to_preview_service,
)
from relay.core.events import CLIENT_EVENT_TYPES, PREVIEW_SERVER_EVENT_NAMES, SERVER_EVENT_TYPES

PCM = {"type": "audio/pcm", "rate": 24000}
VAD = {"type": "server_vad", "threshold": 0.5}
FLAT = {
    "model": "m",
    "instructions": "i",
    "modalities": ["audio", "text"],
    "voice": "verse",
    "speed": 1.1,
    "input_audio_format": "pcm16",
    "output_audio_format": "g711_ulaw",
    "input_audio_transcription": {"model": "w", "language": "tr"},
    "input_audio_noise_reduction": {"type": "near_field"},
    "turn_detection": VAD,
    "tools": [{"type": "function", "name": "f"}],
    "tool_choice": "auto",
    "max_response_output_tokens": 7,
    "tracing": None,
    "include": None,
}
NESTED = {
    "type": "realtime",
    "model": "m",
    "instructions": "i",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": PCM,
            "transcription": {"model": "w", "language": "tr"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": VAD,
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "verse", "speed": 1.1},
    },
    "tools": [{"type": "function", "name": "f"}],
    "tool_choice": "auto",
    "max_output_tokens": 7,
    "tracing": None,
    "include": None,
}


def test_a_session_both_ways() -> None:
    assert session_to_ga(FLAT) == NESTED
    assert session_to_preview(NESTED) == {**FLAT, "temperature": 0.8, "client_secret": None}
    assert session_to_preview_service(NESTED) == FLAT


def test_only_what_is_there_is_translated() -> None:
    assert session_to_ga({}) == {"type": "realtime"}
    assert session_to_ga({"turn_detection": None}) == {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    assert session_to_preview_service({"type": "realtime"}) == {}


def test_what_ga_does_not_know_is_left_out_and_a_given_type_kept() -> None:
    assert session_to_ga({"temperature": 1.1, "foo": 1, "type": "transcription"}) == {"type": "transcription"}


@pytest.mark.parametrize(("flat", "ga"), [(["audio", "text"], ["audio"]), (["text"], ["text"]), (["x"], ["x"])])
def test_modalities(flat, ga) -> None:
    assert session_to_ga({"modalities": flat})["output_modalities"] == ga
    assert session_to_preview({"output_modalities": ga})["modalities"] == flat


def test_what_a_preview_service_would_refuse_is_left_out() -> None:
    session = {
        "tool_choice": {"type": "function", "name": "f"},
        "audio": {
            "input": {"turn_detection": {**VAD, "idle_timeout_ms": 5000}, "transcription": {"languages": ["tr"]}},
            "output": {"voice": "marin"},
        },
    }
    assert session_to_preview_service(session) == {"turn_detection": VAD, "input_audio_transcription": {}}
    assert session["audio"]["input"]["turn_detection"]["idle_timeout_ms"] == 5000


@pytest.mark.parametrize(
    ("flat", "ga"),
    [
        (
            {"type": "session.update", "session": {"voice": "verse"}},
            {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "verse"}}}},
        ),
        (
            {
                "type": "response.create",
                "response": {"modalities": ["text"], "max_response_output_tokens": 7, "metadata": {}},
            },
            {
                "type": "response.create",
                "response": {"output_modalities": ["text"], "max_output_tokens": 7, "metadata": {}},
            },
        ),
        (
            {
                "type": "response.create",
                "response": {"input": [{"role": "assistant", "content": [{"type": "text"}]}, 7]},
            },
            {
                "type": "response.create",
                "response": {"input": [{"role": "assistant", "content": [{"type": "output_text"}]}, 7]},
            },
        ),
        (
            {"type": "conversation.item.create", "item": {"role": "assistant", "content": [{"type": "audio"}, "x"]}},
            {
                "type": "conversation.item.create",
                "item": {"role": "assistant", "content": [{"type": "output_audio"}, "x"]},
            },
        ),
        (
            {"type": "conversation.item.create", "item": {"role": "user", "content": [{"type": "text"}]}},
            {"type": "conversation.item.create", "item": {"role": "user", "content": [{"type": "text"}]}},
        ),
        ({"type": "response.cancel"}, {"type": "response.cancel"}),
    ],
)
def test_client_events_both_ways(flat, ga) -> None:
    assert client_event_to_ga(flat) == ga
    assert client_event_to_preview(ga) == flat


ASSISTANT = {
    "id": "i",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "x"}, {"type": "output_audio"}],
}
FLAT_ASSISTANT = {"id": "i", "role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "audio"}]}


@pytest.mark.parametrize(
    ("ga", "flat"),
    [
        (
            {"type": "conversation.item.added", "item": ASSISTANT},
            {"type": "conversation.item.created", "item": FLAT_ASSISTANT},
        ),
        (
            {"type": "response.output_item.done", "item": ASSISTANT},
            {"type": "response.output_item.done", "item": FLAT_ASSISTANT},
        ),
        (
            {"type": "response.content_part.done", "part": {"type": "audio"}},
            {"type": "response.content_part.done", "part": {"type": "audio"}},
        ),
        (
            {"type": "error", "error": {"param": "session.audio.output.voice"}},
            {"type": "error", "error": {"param": "session.voice"}},
        ),
        (
            {
                "type": "response.done",
                "response": {
                    "id": "r",
                    "output": [ASSISTANT],
                    "output_modalities": ["audio"],
                    "max_output_tokens": 7,
                    "usage": {"x": 1},
                    "audio": {"output": {"format": PCM, "voice": "verse"}},
                },
            },
            {
                "type": "response.done",
                "response": {
                    "id": "r",
                    "output": [FLAT_ASSISTANT],
                    "modalities": ["audio", "text"],
                    "max_output_tokens": 7,
                    "usage": {"x": 1},
                    "output_audio_format": "pcm16",
                    "voice": "verse",
                    "temperature": 0.8,
                },
            },
        ),
    ],
)
def test_server_events_both_ways(ga, flat) -> None:
    assert server_event_to_preview(ga) == flat
    assert server_event_to_ga(flat) == ga


def test_session_events() -> None:
    flat = server_event_to_preview({"type": "session.updated", "event_id": "s", "session": NESTED})
    assert flat == {"type": "session.updated", "event_id": "s", "session": session_to_preview(NESTED)}
    assert server_event_to_ga({"type": "session.updated", "session": FLAT})["session"] == NESTED


@pytest.mark.parametrize(("flat", "ga"), PREVIEW_SERVER_EVENT_NAMES.items())
def test_renamed_server_events(flat: str, ga: str) -> None:
    assert server_event_to_preview({"type": ga}) == {"type": flat}
    assert server_event_to_ga({"type": flat}) == {"type": ga}


def test_events_without_a_counterpart() -> None:
    missing = {name for name in SERVER_EVENT_TYPES if server_event_to_preview({"type": name}) is None}
    assert missing == {
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.dtmf_event_received",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
    }


@pytest.mark.parametrize(
    ("ga", "flat"),
    [
        ("session.audio.input.turn_detection.threshold", "session.turn_detection.threshold"),
        ("session.output_modalities", "session.modalities"),
        ("session.tools[0].name", "session.tools[0].name"),
        ("response.output_modalities", "response.modalities"),
        ("item.role", "item.role"),
        ("", ""),
    ],
)
def test_params_both_ways(ga: str, flat: str) -> None:
    assert param_to_preview(ga) == flat
    assert param_to_ga(flat) == ga


names = st.sampled_from(
    ["session", "response", "item", "error", "param", "audio", "input", "output", "content", "role", *FLAT]
)
values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["assistant", "text", "audio", "pcm16", "session.voice"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4), st.sampled_from(sorted(CLIENT_EVENT_TYPES | SERVER_EVENT_TYPES)))
def test_no_shape_is_too_strange(fields, kind: str) -> None:
    event = {**fields, "type": kind}
    assert client_event_to_preview(client_event_to_ga(event))["type"]
    flat = server_event_to_preview(event)
    assert server_event_to_ga(event if flat is None else flat)["type"]
