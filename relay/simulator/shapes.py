"""The shapes of everything a client may send: sessions, items, responses, events (GA and preview)."""

from __future__ import annotations

from enum import Enum
from typing import Any

from relay.simulator.field_checks import (
    Check,
    FieldError,
    anything,
    boolean,
    choice,
    either,
    list_of,
    mapping,
    nullable,
    number,
    record,
    tagged,
    text,
    unknown,
    whole,
)


class Dialect(Enum):
    """Which generation of the protocol a session speaks."""

    GA = "ga"
    PREVIEW = "preview"


VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
PREVIEW_VOICES = VOICES[:8]
MAX_TEXT = 1_000_000

_prose = text(MAX_TEXT)
_max_tokens = either(whole(1, 4096), choice("inf"))
_pcm_format = record({"type": choice("audio/pcm"), "rate": whole(24000, 24000)}, ["type"])
_g711 = record({"type": anything}, ["type"])
_format = tagged("type", {"audio/pcm": _pcm_format, "audio/pcmu": _g711, "audio/pcma": _g711})
_noise = record({"type": choice("near_field", "far_field"), "strength": number(0, 1)}, ["type"])
_transcription = record(
    {
        "model": text(256),
        "language": text(64),
        "languages": list_of(text(64), 32),
        "keywords": list_of(text(256), 1000),
        "prompt": _prose,
        "delay": anything,
    }
)
_vad_common: dict[str, Check] = {"type": anything, "create_response": boolean, "interrupt_response": boolean}
_vad_server: dict[str, Check] = {
    **_vad_common,
    "threshold": number(0, 1),
    "prefix_padding_ms": whole(0, 60_000),
    "silence_duration_ms": whole(0, 60_000),
}
_vad_semantic = record({**_vad_common, "eagerness": choice("low", "medium", "high", "auto")})
_ga_vad = tagged(
    "type",
    {
        "server_vad": record({**_vad_server, "idle_timeout_ms": nullable(whole(5_000, 30_000))}),
        "semantic_vad": _vad_semantic,
    },
)
_preview_vad = tagged("type", {"server_vad": record(_vad_server), "semantic_vad": _vad_semantic})
_function_tool = record(
    {"type": anything, "name": text(64), "description": _prose, "parameters": mapping(anything, 1000)},
    ["name"],
)
_mcp_names = ("server_label", "server_url", "connector_id", "tunnel_id", "authorization", "headers")
_mcp_more = ("allowed_tools", "require_approval", "allowed_callers", "defer_loading", "server_description")
_mcp_tool = record({"type": anything, **dict.fromkeys(_mcp_names + _mcp_more, anything)}, ["server_label"])
_ga_tools = list_of(tagged("type", {"function": _function_tool, "mcp": _mcp_tool}), 128)
_preview_tools = list_of(tagged("type", {"function": _function_tool}), 128)
_tool_mode = choice("none", "auto", "required")
_ga_tool_choice = either(
    tagged(
        "type",
        {
            "function": record({"type": anything, "name": text(64)}, ["name"]),
            "mcp": record({"type": anything, "server_label": text(256), "name": text(256)}, ["server_label"]),
        },
    ),
    _tool_mode,
)
_tracing = either(
    record({"workflow_name": text(), "group_id": text(), "metadata": mapping(anything)}),
    choice("auto"),
)
_ratio = record(
    {
        "type": choice("retention_ratio"),
        "retention_ratio": number(0, 1),
        "token_limits": record({"post_instructions": whole(0, 1_000_000)}),
    },
    ["type", "retention_ratio"],
)
_prompt = record({"id": text(), "version": text(), "variables": mapping(anything)}, ["id"])
_effort = record({"effort": choice("minimal", "low", "medium", "high", "xhigh")})
_ga_voice = either(record({"id": text(256)}, ["id"]), choice(*VOICES))
_ga_output = {"format": _format, "voice": _ga_voice}
_ga_modalities = list_of(choice("text", "audio"), 1)
_include = nullable(list_of(choice("item.input_audio_transcription.logprobs"), 8))

GA_SESSION: dict[str, Check] = {
    "type": choice("realtime"),
    "model": text(256),
    "instructions": _prose,
    "output_modalities": _ga_modalities,
    "audio": record(
        {
            "input": record(
                {
                    "format": _format,
                    "noise_reduction": nullable(_noise),
                    "transcription": nullable(_transcription),
                    "turn_detection": nullable(_ga_vad),
                }
            ),
            "output": record({**_ga_output, "speed": number(0.25, 1.5)}),
        }
    ),
    "include": _include,
    "max_output_tokens": _max_tokens,
    "parallel_tool_calls": boolean,
    "prompt": nullable(_prompt),
    "reasoning": nullable(_effort),
    "tool_choice": _ga_tool_choice,
    "tools": _ga_tools,
    "tracing": nullable(_tracing),
    "truncation": either(_ratio, choice("auto", "disabled")),
}
ga_session = record(GA_SESSION, ["type"])


def _preview_modalities(value: Any, path: str) -> None:
    list_of(choice("text", "audio"), 2)(value, path)
    if sorted(value) not in (["text"], ["audio", "text"]):
        listed = "['text'] and ['audio', 'text']"
        raise FieldError("invalid_value", f"Invalid modalities: {value}. Supported combinations are: {listed}.", path)


_preview_format = choice("pcm16", "g711_ulaw", "g711_alaw")
_preview_transcription = record({"model": text(256), "language": text(64), "prompt": _prose})
PREVIEW_SESSION: dict[str, Check] = {
    "modalities": _preview_modalities,
    "instructions": _prose,
    "voice": choice(*PREVIEW_VOICES),
    "model": text(256),
    "input_audio_format": _preview_format,
    "output_audio_format": _preview_format,
    "input_audio_transcription": nullable(_preview_transcription),
    "input_audio_noise_reduction": nullable(_noise),
    "turn_detection": nullable(_preview_vad),
    "tools": _preview_tools,
    "tool_choice": text(64),
    "temperature": number(0.6, 1.2),
    "max_response_output_tokens": _max_tokens,
    "speed": number(0.25, 1.5),
    "tracing": nullable(_tracing),
    "include": _include,
}
preview_session = record(PREVIEW_SESSION)
preview_mint = record(
    {
        **PREVIEW_SESSION,
        "client_secret": record(
            {"expires_after": record({"anchor": choice("created_at"), "seconds": whole(10, 7200)})}
        ),
    },
    ["model"],
)
ga_mint = record(
    {
        "session": record(GA_SESSION, ["type", "model"]),
        "expires_after": record({"anchor": choice("created_at"), "seconds": whole(10, 7200)}),
    },
    ["session"],
)

_part = tagged(
    "type",
    {
        "input_text": record({"type": anything, "text": _prose}, ["text"]),
        "input_audio": record({"type": anything, "audio": text(20_000_000), "transcript": nullable(_prose)}),
        "input_image": record({"type": anything, "image_url": text(20_000_000), "detail": text(16)}),
        "output_text": record({"type": anything, "text": _prose}, ["text"]),
        "output_audio": record({"type": anything, "audio": text(20_000_000), "transcript": nullable(_prose)}),
        "text": record({"type": anything, "text": _prose}, ["text"]),
        "audio": record({"type": anything, "audio": text(20_000_000), "transcript": nullable(_prose)}),
        "item_reference": record({"type": anything, "id": text(64)}, ["id"]),
    },
)
_item_common: dict[str, Check] = {
    "type": anything,
    "id": text(32),
    "object": text(64),
    "status": choice("completed", "incomplete", "in_progress"),
}
_message = record(
    {**_item_common, "role": choice("system", "user", "assistant"), "content": list_of(_part, 100)},
    ["role", "content"],
)
_call = {**_item_common, "call_id": text(64), "name": text(64), "arguments": _prose}
_call_output = {**_item_common, "call_id": text(64), "output": _prose}
item = tagged(
    "type",
    {
        "message": _message,
        "function_call": record(_call, ["name", "arguments"]),
        "function_call_output": record(_call_output, ["call_id", "output"]),
        "mcp_approval_response": record(
            {**_item_common, "approval_request_id": text(64), "approve": boolean, "reason": nullable(_prose)},
            ["approval_request_id", "approve"],
        ),
    },
)
_input_item = either(record({"type": choice("item_reference"), "id": text(64)}, ["type", "id"]), item)
_metadata = nullable(mapping(text(512), 16))
_response_common: dict[str, Check] = {
    "instructions": _prose,
    "conversation": text(64),
    "input": list_of(_input_item, 1000),
    "metadata": _metadata,
}
ga_response = record(
    {
        **_response_common,
        "output_modalities": _ga_modalities,
        "audio": record({"output": record(_ga_output)}),
        "max_output_tokens": _max_tokens,
        "parallel_tool_calls": boolean,
        "prompt": nullable(_prompt),
        "reasoning": nullable(_effort),
        "tool_choice": _ga_tool_choice,
        "tools": _ga_tools,
    }
)
preview_response = record(
    {
        **_response_common,
        "modalities": _preview_modalities,
        "voice": choice(*PREVIEW_VOICES),
        "output_audio_format": _preview_format,
        "tools": _preview_tools,
        "tool_choice": text(64),
        "temperature": number(0.6, 1.2),
        "max_response_output_tokens": _max_tokens,
    }
)

_EVENTS: dict[str, tuple[dict[str, Check], list[str]]] = {
    "session.update": ({"session": anything}, ["session"]),
    "conversation.item.create": ({"item": item, "previous_item_id": nullable(text(64))}, ["item"]),
    "conversation.item.retrieve": ({"item_id": text(64)}, ["item_id"]),
    "conversation.item.truncate": (
        {"item_id": text(64), "content_index": whole(0, 1000), "audio_end_ms": whole(0, 10_000_000)},
        ["item_id", "content_index", "audio_end_ms"],
    ),
    "conversation.item.delete": ({"item_id": text(64)}, ["item_id"]),
    "input_audio_buffer.append": ({"audio": text(21_000_000)}, ["audio"]),
    "input_audio_buffer.commit": ({}, []),
    "input_audio_buffer.clear": ({}, []),
    "output_audio_buffer.clear": ({}, []),
    "response.create": ({"response": anything}, []),
    "response.cancel": ({"response_id": nullable(text(64))}, []),
}
_EVENT_CHECKS = {
    name: record({"type": anything, "event_id": text(512), **members}, required)
    for name, (members, required) in _EVENTS.items()
}


def check_event(event: dict[str, Any], dialect: Dialect) -> None:
    """Refuse a client event that the service would refuse; raises FieldError."""
    kind = event.get("type")
    if not isinstance(kind, str):
        raise FieldError("missing_required_parameter", "Missing required parameter: 'type'.", "type")
    if kind not in _EVENT_CHECKS:
        listed = ", ".join(f"'{name}'" for name in _EVENTS)
        raise FieldError("invalid_value", f"Invalid value: '{kind[:64]}'. Supported values are: {listed}.", "type")
    _EVENT_CHECKS[kind](event, "")
    if kind == "session.update":
        check_session(event["session"], dialect)
    if kind == "response.create" and event.get("response") is not None:
        (ga_response if dialect is Dialect.GA else preview_response)(event["response"], "response")


def check_session(session: Any, dialect: Dialect) -> None:
    """Refuse a `session` of a `session.update`; a preview session with `type` is told so first (reported)."""
    if dialect is Dialect.GA:
        ga_session(session, "session")
        return
    if isinstance(session, dict) and "type" in session:
        raise unknown("session.type")
    preview_session(session, "session")
