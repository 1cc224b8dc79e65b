"""The one table of session fields: who decides each of them by default, and what a client sees of it.

Mint bodies, multipart sessions and `session.update` are all judged by it (`session_rules`), and every echo is redacted
by it. A field that is not in it goes nowhere, in neither direction (protocol: the session object, GA).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.core.field_checks import (
    Check,
    Unfit,
    boolean,
    choice,
    nullable,
    number,
    record,
    tagged,
    text,
    whole,
    wrong_type,
)
from relay.core.policy_rules import ToolRules
from relay.core.tool_rules import function_name, shown_tools

DEFAULT_TRANSCRIPTION_NAME = "default"
"""Shown as the transcription model to a client that named none."""

_MS = 60_000


class Treatment(StrEnum):
    """What becomes of a client's wish for a field."""

    FIXED = "fixed"
    INSTRUCTIONS = "instructions"
    TOOLS = "tools"
    CLIENT = "client"
    BEFORE_AUDIO = "before_audio"
    DEPLOYMENT = "deployment"
    STRIP = "strip"


# --- what a client may ask for ---------------------------------------------------------------------------------------


def output_modalities(value: Any, path: str) -> list[str]:
    """GA takes one of two; a client that asks for both as in the preview means audio."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise wrong_type(path)
    if not value or not set(value) <= {"text", "audio"}:
        raise Unfit
    return ["audio"] if "audio" in value else ["text"]


def max_output_tokens(value: Any, path: str) -> int | str:
    """1 to 4096, or `inf`."""
    check = choice("inf") if isinstance(value, str) else whole(1, 4096)
    result: int | str = check(value, path)
    return result


def _voice(value: Any, path: str) -> str:
    if isinstance(value, dict):  # a custom voice of the administrator's account
        raise Unfit
    name: str = text(64, r"[A-Za-z0-9_-]+")(value, path)
    return name


def _include(value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        raise wrong_type(path)
    kept = [entry for entry in value if entry == "item.input_audio_transcription.logprobs"]
    if value and not kept:
        raise Unfit
    return kept[:1]


def _languages(value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        raise wrong_type(path)
    return [_language(entry, f"{path}[{index}]") for index, entry in enumerate(value[:16])]


def _tool_choice(value: Any, path: str) -> Any:
    return _tool_choice_mode(value, path) if isinstance(value, str) else _tool_choice_function(value, path)


_language = text(16, r"[A-Za-z][A-Za-z-]*")
_tool_choice_mode = choice("none", "auto", "required")
_tool_choice_function = tagged(
    "type",
    {"function": record({"type": choice("function"), "name": function_name}, required=("type", "name"))},
)
_transcription = record({"model": text(256), "language": _language, "languages": _languages})
_reasoning = record({"effort": choice("minimal", "low", "medium", "high", "xhigh")}, required=("effort",))
_retention = tagged(
    "type",
    {
        "retention_ratio": record(
            {
                "type": choice("retention_ratio"),
                "retention_ratio": number(0, 1),
                "token_limits": record({"post_instructions": whole(0, 1_000_000)}),
            },
            required=("type", "retention_ratio"),
        )
    },
)


def _truncation(value: Any, path: str) -> Any:
    return choice("auto", "disabled")(value, path) if isinstance(value, str) else _retention(value, path)


_noise_reduction = record({"type": choice("near_field", "far_field"), "strength": number(0, 1)}, required=("type",))
_turn_detection = tagged(
    "type",
    {
        "server_vad": record(
            {
                "type": choice("server_vad"),
                "threshold": number(0, 1),
                "prefix_padding_ms": whole(0, _MS),
                "silence_duration_ms": whole(0, _MS),
                "idle_timeout_ms": nullable(whole(5_000, 30_000)),
                "create_response": boolean,
                "interrupt_response": boolean,
            }
        ),
        "semantic_vad": record(
            {
                "type": choice("semantic_vad"),
                "eagerness": choice("low", "medium", "high", "auto"),
                "create_response": boolean,
                "interrupt_response": boolean,
            }
        ),
    },
)

# --- what a client sees ----------------------------------------------------------------------------------------------

Echo = Callable[[Any], Any]
"""Takes the service's value; returns what a client may see of it. Raises Unfit when that is nothing."""


def _scalar(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise Unfit
    return value


def _strings(value: Any) -> Any:
    if isinstance(value, list):
        return [entry for entry in value if isinstance(entry, str)]
    return _scalar(value)


def _pick(*names: str) -> Echo:
    def echo(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: value[name] for name in names if name in value and not isinstance(value[name], dict | list)}
        return _scalar(value)

    return echo


def _transcription_echo(value: Any) -> Any:
    shown = _pick("model", "language", "delay")(value)
    if isinstance(value, dict) and isinstance(value.get("languages"), list):
        shown["languages"] = _strings(value["languages"])
    return shown


_format_echo = _pick("type", "rate")
_turn_detection_echo = _pick(
    "type",
    "threshold",
    "prefix_padding_ms",
    "silence_duration_ms",
    "idle_timeout_ms",
    "eagerness",
    "create_response",
    "interrupt_response",
)

# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionField:
    """One field: who decides, how a wish is checked, what is shown (None: hidden)."""

    treatment: Treatment
    check: Check | None = None
    echo: Echo | None = None


SESSION_FIELDS: dict[str, SessionField] = {
    "type": SessionField(Treatment.FIXED, echo=_scalar),
    "object": SessionField(Treatment.STRIP, echo=_scalar),
    "id": SessionField(Treatment.STRIP, echo=_scalar),
    "model": SessionField(Treatment.STRIP, echo=_scalar),
    "expires_at": SessionField(Treatment.STRIP, echo=_scalar),
    "client_secret": SessionField(Treatment.STRIP),
    "instructions": SessionField(Treatment.INSTRUCTIONS),
    "prompt": SessionField(Treatment.STRIP),
    "output_modalities": SessionField(Treatment.CLIENT, output_modalities, _strings),
    "max_output_tokens": SessionField(Treatment.CLIENT, max_output_tokens, _scalar),
    "include": SessionField(Treatment.CLIENT, _include, _strings),
    "tools": SessionField(Treatment.TOOLS),
    "tool_choice": SessionField(Treatment.CLIENT, _tool_choice),
    "parallel_tool_calls": SessionField(Treatment.CLIENT, boolean, _scalar),
    "tracing": SessionField(Treatment.STRIP),
    "truncation": SessionField(Treatment.STRIP, _truncation),
    "reasoning": SessionField(Treatment.STRIP, _reasoning),
    "audio.input.format": SessionField(Treatment.STRIP, echo=_format_echo),
    "audio.input.transcription": SessionField(Treatment.DEPLOYMENT, nullable(_transcription), _transcription_echo),
    "audio.input.noise_reduction": SessionField(
        Treatment.CLIENT, nullable(_noise_reduction), _pick("type", "strength")
    ),
    "audio.input.turn_detection": SessionField(Treatment.CLIENT, nullable(_turn_detection), _turn_detection_echo),
    "audio.output.format": SessionField(Treatment.STRIP, echo=_format_echo),
    "audio.output.voice": SessionField(Treatment.BEFORE_AUDIO, _voice, _scalar),
    "audio.output.speed": SessionField(Treatment.CLIENT, number(0.25, 1.5), _scalar),
}

NEVER_A_CLIENTS = frozenset(
    {"type", "object", "id", "model", "expires_at", "client_secret", "prompt", "tracing", "instructions", "tools"}
)
"""Fields that no field rule can give to a client; instructions and tools have rules of their own."""

SERVICE_DEFAULTS: dict[str, Any] = {
    "output_modalities": ["audio"],
    "max_output_tokens": "inf",
    "include": None,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "truncation": "auto",
    "audio.input.transcription": None,
    "audio.input.noise_reduction": None,
    "audio.input.turn_detection": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "audio.output.speed": 1.0,
}
"""What the service does for a session that asks for nothing (Azure GA, recorded; parallel calls: documented)."""

NULL_HAS_MEANING = frozenset({"audio.input.transcription", "audio.input.noise_reduction", "audio.input.turn_detection"})


@dataclass(frozen=True, slots=True)
class Shown:
    """How a session is shown: the relay's id, the client's own names, and what is hidden beyond the table.

    `instructions` are the client's own under `passthrough`, else None; `hidden_names` functions of the administrator's,
    of policies that came before too.
    """

    session_id: str
    model: str
    transcription_name: str
    tools: ToolRules
    hide: frozenset[str] = frozenset()
    instructions: str | None = None
    hidden_names: frozenset[str] = frozenset()


def redact_session(session: dict[str, Any], shown_as: Shown) -> dict[str, Any]:
    """What a client may see of a GA session: listed fields alone, the relay's id, the client's own names."""
    shown: dict[str, Any] = {}
    for path, value in leaves(well_formed(session)):
        field = SESSION_FIELDS.get(path)
        if field is None:
            continue
        try:
            if field.treatment is Treatment.TOOLS:
                shown[path] = shown_tools(value, shown_as.tools, shown_as.hidden_names)
            elif field.echo is not None:
                put(shown, path, field.echo(value))
        except Unfit:
            continue
    if shown_as.instructions is not None:
        shown["instructions"] = shown_as.instructions
    match shown:
        case {"audio": {"input": {"transcription": dict(transcription)}}}:
            transcription["model"] = shown_as.transcription_name
    for path in shown_as.hide:
        _remove(shown, path)
    shown.update({"type": "realtime", "object": "realtime.session", "id": shown_as.session_id, "model": shown_as.model})
    return shown


def well_formed(session: dict[str, Any]) -> dict[str, Any]:
    """A session of the service without what is not nested as it should be: a redaction has nobody to refuse to."""
    audio = session.get("audio")
    sides = audio.items() if isinstance(audio, dict) else ()
    return {**session, "audio": {side: leaves for side, leaves in sides if isinstance(leaves, dict)}}


def leaves(session: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a GA session by dotted path. Raises EventError when `audio` or a side of it is no object."""
    for name, value in session.items():
        if name == "audio":
            yield from _audio_leaves(value)
        else:
            yield name.replace(".", "?"), value  # a dot inside a name must not read as a path


def _audio_leaves(audio: Any) -> Iterator[tuple[str, Any]]:
    if audio is None:
        return
    if not isinstance(audio, dict):
        raise wrong_type("session.audio")
    for side, leaves in audio.items():
        if side not in ("input", "output") or leaves is None:
            yield "audio.?", leaves
            continue
        if not isinstance(leaves, dict):
            raise wrong_type(f"session.audio.{side}")
        for name, value in leaves.items():
            yield f"audio.{side}.{name.replace('.', '?')}", value


def put(session: dict[str, Any], path: str, value: Any) -> None:
    """Set the value of a dotted path; objects on the way are made."""
    *parents, leaf = path.split(".")
    for parent in parents:
        session = session.setdefault(parent, {})
    session[leaf] = value


def _remove(session: dict[str, Any], path: str) -> None:
    *parents, leaf = path.split(".")
    place: Any = session
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.pop(leaf, None)
