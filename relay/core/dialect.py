"""The preview protocol and the GA protocol, each told in the words of the other.

Both ways for sessions, client events and server events. Values of a shape that is not understood are carried as they
are: judging them is not done here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.core.events import PREVIEW_SERVER_EVENT_NAMES

_GA_SERVER_EVENT_NAMES = {ga: preview for preview, ga in PREVIEW_SERVER_EVENT_NAMES.items()}
_GA_ONLY_SERVER_EVENTS = (
    "conversation.item.done",
    "conversation.item.input_audio_transcription.segment",
    "input_audio_buffer.timeout_triggered",
    "input_audio_buffer.dtmf_event_received",
    "response.mcp_call",
    "mcp_list_tools",
)
_PREVIEW_TEMPERATURE = 0.8
_PREVIEW_VOICES = frozenset({"alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"})

_GA_FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_PREVIEW_FORMATS = {form["type"]: name for name, form in _GA_FORMATS.items()}
_PREVIEW_PART_TYPES = {"output_text": "text", "output_audio": "audio"}
_GA_PART_TYPES = {preview: ga for ga, preview in _PREVIEW_PART_TYPES.items()}

_SESSION_NAMES = {
    "id": "id",
    "object": "object",
    "expires_at": "expires_at",
    "client_secret": "client_secret",
    "model": "model",
    "instructions": "instructions",
    "modalities": "output_modalities",
    "voice": "audio.output.voice",
    "speed": "audio.output.speed",
    "input_audio_format": "audio.input.format",
    "output_audio_format": "audio.output.format",
    "input_audio_transcription": "audio.input.transcription",
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": "audio.input.turn_detection",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "max_response_output_tokens": "max_output_tokens",
    "tracing": "tracing",
    "include": "include",
}
"""Preview name → GA path of every session field that both know. `temperature` is gone in GA, `type` new."""

_RESPONSE_NAMES = {
    "modalities": "output_modalities",
    "voice": "audio.output.voice",
    "output_audio_format": "audio.output.format",
}
_RESPONSE_ASK_NAMES = {**_RESPONSE_NAMES, "max_response_output_tokens": "max_output_tokens"}
_GA_PARAMS = {
    **{f"session.{flat}": f"session.{ga}" for flat, ga in _SESSION_NAMES.items()},
    **{f"response.{flat}": f"response.{ga}" for flat, ga in _RESPONSE_ASK_NAMES.items()},
}
_PREVIEW_PARAMS = {ga: flat for flat, ga in _GA_PARAMS.items()}


# --- sessions ------------------------------------------------------------------------------------------------------


def session_to_ga(flat: dict[str, Any]) -> dict[str, Any]:
    """A flat session as a GA one; `type` is added, fields that GA does not know are left out."""
    return {"type": flat.get("type", "realtime"), **_nest(flat, _SESSION_NAMES)}


def session_to_preview(ga: dict[str, Any]) -> dict[str, Any]:
    """A GA session as a preview client expects its echo, with the preview's default temperature (preview, recorded)."""
    return {**_flatten(ga, _SESSION_NAMES), "temperature": _PREVIEW_TEMPERATURE, "client_secret": None}


def session_to_preview_service(ga: dict[str, Any]) -> dict[str, Any]:
    """A GA session as a preview service takes it: what it would refuse the whole session for is left out."""
    flat = _flatten(ga, _SESSION_NAMES)
    voice = flat.get("voice")
    if not isinstance(voice, str) or voice not in _PREVIEW_VOICES:
        flat.pop("voice", None)
    if isinstance(flat.get("tool_choice"), dict):
        del flat["tool_choice"]
    _without(flat, "turn_detection", "idle_timeout_ms")
    _without(flat, "input_audio_transcription", "languages")
    return flat


def preview_holds(path: str, value: Any) -> bool:
    """Whether a preview service takes this value for a GA field: it knows fewer fields, and fewer values of some."""
    nested: dict[str, Any] = {}
    *parents, leaf = path.split(".")
    place = nested
    for parent in parents:
        place = place.setdefault(parent, {})
    place[leaf] = value
    if isinstance(value, dict):
        place[leaf] = {name: entry for name, entry in value.items() if entry is not None}
    return session_to_preview_service(nested) == _flatten(nested, _SESSION_NAMES) != {}


def _without(session: dict[str, Any], name: str, member: str) -> None:
    value = session.get(name)
    if isinstance(value, dict):
        session[name] = {key: entry for key, entry in value.items() if key != member}


# --- client events -------------------------------------------------------------------------------------------------


def client_event_to_ga(event: dict[str, Any]) -> dict[str, Any]:
    """A preview client's event in GA form."""
    match event:
        case {"type": "session.update", "session": dict(session)}:
            return {**event, "session": session_to_ga(session)}
        case {"type": "response.create", "response": dict(response)}:
            plain = {name: value for name, value in response.items() if name not in _RESPONSE_ASK_NAMES}
            ga = {**plain, **_nest(response, _RESPONSE_ASK_NAMES)}
            return {**event, "response": _with_items(ga, "input", _GA_PART_TYPES)}
        case {"type": "conversation.item.create", "item": dict(item)}:
            return {**event, "item": _item(item, _GA_PART_TYPES)}
    return event


def client_event_to_preview(event: dict[str, Any]) -> dict[str, Any]:
    """A judged GA event as a preview service takes it."""
    match event:
        case {"type": "session.update", "session": dict(session)}:
            return {**event, "session": session_to_preview_service(session)}
        case {"type": "response.create", "response": dict(response)}:
            flat = {**_plain(response, _RESPONSE_ASK_NAMES), **_flatten(response, _RESPONSE_ASK_NAMES)}
            return {**event, "response": _with_items(flat, "input", _PREVIEW_PART_TYPES)}
        case {"type": "conversation.item.create", "item": dict(item)}:
            return {**event, "item": _item(item, _PREVIEW_PART_TYPES)}
    return event


# --- server events -------------------------------------------------------------------------------------------------


def ga_server_type(preview_type: str) -> str:
    """What GA calls a preview server event."""
    return PREVIEW_SERVER_EVENT_NAMES.get(preview_type, preview_type)


def server_event_to_preview(event: dict[str, Any]) -> dict[str, Any] | None:
    """A GA server event as a preview client knows it; None when the preview has nothing like it."""
    name = event["type"]
    if name.startswith(_GA_ONLY_SERVER_EVENTS):
        return None
    translated = {**event, "type": _GA_SERVER_EVENT_NAMES.get(name, name)}
    match event:
        case {"session": dict(session)}:
            translated["session"] = session_to_preview(session)
        case {"response": dict(response)}:
            flat = {**_plain(response, _RESPONSE_NAMES), **_flatten(response, _RESPONSE_NAMES)}
            flat["temperature"] = _PREVIEW_TEMPERATURE
            translated["response"] = _with_items(flat, "output", _PREVIEW_PART_TYPES)
        case {"item": dict(item)}:
            translated["item"] = _item(item, _PREVIEW_PART_TYPES)
        case {"error": {"param": str(param)} as error}:
            translated["error"] = {**error, "param": param_to_preview(param)}
    return translated


def server_event_to_ga(event: dict[str, Any]) -> dict[str, Any]:
    """A preview server event in GA form."""
    translated = {**event, "type": ga_server_type(event["type"])}
    match event:
        case {"session": dict(session)}:
            translated["session"] = session_to_ga(session)
        case {"response": dict(response)}:
            plain = {name: value for name, value in response.items() if name not in _RESPONSE_NAMES}
            plain.pop("temperature", None)
            nested = {**plain, **_nest(response, _RESPONSE_NAMES)}
            translated["response"] = _with_items(nested, "output", _GA_PART_TYPES)
        case {"item": dict(item)}:
            translated["item"] = _item(item, _GA_PART_TYPES)
        case {"error": {"param": str(param)} as error}:
            translated["error"] = {**error, "param": param_to_ga(param)}
    return translated


# --- paths ---------------------------------------------------------------------------------------------------------


def param_to_preview(param: str) -> str:
    """The preview's name of a GA path such as `session.audio.input.turn_detection.threshold`."""
    return _rename(param, _PREVIEW_PARAMS)


def param_to_ga(param: str) -> str:
    """The GA path of a preview name such as `session.turn_detection.threshold`."""
    return _rename(param, _GA_PARAMS)


def _rename(param: str, names: dict[str, str]) -> str:
    head, dot, tail = param, "", ""
    while head:
        if head in names:
            return names[head] + dot + tail
        head, dot, last = head.rpartition(".")
        tail = f"{last}.{tail}" if tail else last
        dot = "." if tail else ""
    return param


# --- shapes --------------------------------------------------------------------------------------------------------


def _nest(flat: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The named members of a flat object, moved to their GA paths."""
    nested: dict[str, Any] = {}
    for name, path in names.items():
        if name in flat:
            *parents, leaf = path.split(".")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = _convert(_TO_GA, name, flat[name])
    return nested


def _flatten(ga: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The reverse of `_nest`."""
    flat: dict[str, Any] = {}
    for name, path in names.items():
        place: Any = ga
        *parents, leaf = path.split(".")
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and leaf in place:
            flat[name] = _convert(_TO_PREVIEW, name, place[leaf])
    return flat


def _plain(ga: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The members of a GA object that both dialects spell alike."""
    moved = {path.partition(".")[0] for path in names.values()}
    return {name: value for name, value in ga.items() if name not in moved}


def _convert(table: dict[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    return table[name](value) if name in table else value


def _modalities_to_ga(value: Any) -> Any:
    return ["audio"] if value in (["audio", "text"], ["text", "audio"]) else value


def _modalities_to_preview(value: Any) -> Any:
    return ["audio", "text"] if value == ["audio"] else value


def _format_to_ga(value: Any) -> Any:
    return dict(_GA_FORMATS[value]) if isinstance(value, str) and value in _GA_FORMATS else value


def _format_to_preview(value: Any) -> Any:
    match value:
        case {"type": str(name)} if name in _PREVIEW_FORMATS:
            return _PREVIEW_FORMATS[name]
    return value


_TO_GA: dict[str, Callable[[Any], Any]] = {
    "modalities": _modalities_to_ga,
    "input_audio_format": _format_to_ga,
    "output_audio_format": _format_to_ga,
}
_TO_PREVIEW: dict[str, Callable[[Any], Any]] = {
    "modalities": _modalities_to_preview,
    "input_audio_format": _format_to_preview,
    "output_audio_format": _format_to_preview,
}


def _with_items(holder: dict[str, Any], name: str, part_types: dict[str, str]) -> dict[str, Any]:
    items = holder.get(name)
    if not isinstance(items, list):
        return holder
    return {**holder, name: [_item(item, part_types) if isinstance(item, dict) else item for item in items]}


def _item(item: dict[str, Any], part_types: dict[str, str]) -> dict[str, Any]:
    """An item with the content types of an assistant's message renamed; other items are the same in both dialects."""
    content = item.get("content")
    if item.get("role") != "assistant" or not isinstance(content, list):
        return item
    return {**item, "content": [_part(part, part_types) for part in content]}


def _part(part: Any, part_types: dict[str, str]) -> Any:
    match part:
        case {"type": str(name)} if name in part_types:
            return {**part, "type": part_types[name]}
    return part
