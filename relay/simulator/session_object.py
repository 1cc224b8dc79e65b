"""The session object in force: defaults, partial updates, and the full echo in the service's field order."""

from __future__ import annotations

import copy
from typing import Any, Self

from relay.simulator.field_checks import FieldError, invalid
from relay.simulator.shapes import Dialect, check_session

DEFAULT_INSTRUCTIONS = (
    "You are the service's default voice. Be warm, keep answers short, and speak the language you are spoken to in."
)
"""What applies, and is echoed, when nobody gave instructions (as the service has a text of its own)."""

_SERVER_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
_PCM = {"type": "audio/pcm", "rate": 24000}
_FORMATS = {"pcm16": _PCM, "g711_ulaw": {"type": "audio/pcmu"}, "g711_alaw": {"type": "audio/pcma"}}
_FORMAT_NAMES = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_MERGED = ("model", "output_modalities", "instructions", "tools", "tool_choice", "max_output_tokens", "tracing")
_MERGED_LATE = ("truncation", "prompt", "include")
_SILENT = ("reasoning", "parallel_tool_calls")


class SessionObject:
    """What configures one session. Held in the GA shape; a preview session is echoed flat."""

    def __init__(self, dialect: Dialect, model: str, session_id: str, expires_at: int = 0) -> None:
        self.dialect = dialect
        self.id = session_id
        self.expires_at = expires_at
        self._temperature = 0.8
        self._fields: dict[str, Any] = {
            "model": model,
            "instructions": DEFAULT_INSTRUCTIONS,
            "output_modalities": ["audio"],
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "include": None,
        }
        self._input: dict[str, Any] = {
            "format": _PCM,
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": dict(_SERVER_VAD),
        }
        self._output: dict[str, Any] = {"format": _PCM, "voice": "alloy", "speed": 1.0}

    def renewed(self, session_id: str, expires_at: int) -> Self:
        """Copy it under another id, for the session a key starts."""
        twin = copy.deepcopy(self)
        twin.id = session_id
        twin.expires_at = expires_at
        return twin

    def update(self, update: Any, *, audio_was_sent: bool) -> None:
        """Apply a client's `session`, whole or not at all.

        Raises FieldError on one unknown, invalid or no longer changeable field; nothing has changed then.
        """
        check_session(update, self.dialect)
        nested = update if self.dialect is Dialect.GA else _nested(update)
        self._refuse_changes(nested, audio_was_sent=audio_was_sent)
        self._apply(nested)
        if "temperature" in update:
            self._temperature = update["temperature"]

    def configure(self, session: dict[str, Any]) -> None:
        """Apply a checked mint body."""
        nested = session if self.dialect is Dialect.GA else _nested(session)
        self._apply(nested)
        self._temperature = session.get("temperature", self._temperature)

    def override_instructions(self, text: str) -> None:
        """Put other instructions in force (a fault)."""
        self._fields["instructions"] = text

    def get(self, name: str) -> Any:
        """Return a top-level field of the GA shape."""
        return self._fields[name]

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        """The turn detection in force, None for push to talk."""
        value: dict[str, Any] | None = self._input["turn_detection"]
        return value

    @property
    def transcription_model(self) -> str | None:
        """The deployment asked to transcribe; "" when transcription is on and names none."""
        transcription = self._input["transcription"]
        return None if transcription is None else str(transcription.get("model", ""))

    @property
    def voice(self) -> Any:
        """A name, or `{id}`."""
        return self._output["voice"]

    def echo(self) -> dict[str, Any]:
        """Return the full session as `session.created`, `session.updated` and the mint answer show it."""
        return copy.deepcopy(self._flat() if self.dialect is Dialect.PREVIEW else self._nested())

    def _refuse_changes(self, nested: dict[str, Any], *, audio_was_sent: bool) -> None:
        model = nested.get("model", self._fields["model"])
        if model != self._fields["model"]:
            raise invalid("session.model", "the model of a session cannot be changed.")
        voice = nested.get("audio", {}).get("output", {}).get("voice", self._output["voice"])
        if voice != self._output["voice"] and audio_was_sent:
            text = "Cannot update a conversation's voice if assistant audio is present."
            flat = self.dialect is Dialect.PREVIEW
            raise FieldError("cannot_update_voice", text, "session.voice" if flat else "session.audio.output.voice")
        tracing = self._fields["tracing"]
        if tracing is not None and nested.get("tracing", tracing) != tracing:
            raise invalid("session.tracing", "tracing cannot be changed once it is on.")

    def _apply(self, nested: dict[str, Any]) -> None:
        for name in (*_MERGED, *_MERGED_LATE, *_SILENT):
            if name in nested:
                self._fields[name] = copy.deepcopy(nested[name])
        audio = copy.deepcopy(nested.get("audio", {}))
        given = audio.get("input", {})
        if given.get("turn_detection") is not None:
            base = _SEMANTIC_VAD if given["turn_detection"]["type"] == "semantic_vad" else _SERVER_VAD
            given["turn_detection"] = {**base, **given["turn_detection"]}
        self._input.update(given)
        self._output.update(audio.get("output", {}))

    def _nested(self) -> dict[str, Any]:
        # The order is that of the recorded Azure GA echo.
        fields = {name: self._fields[name] for name in (*_MERGED, "truncation", "prompt")}
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": self.id,
            **fields,
            "expires_at": self.expires_at,
            "audio": {"input": dict(self._input), "output": dict(self._output)},
            "include": self._fields["include"],
        }

    def _flat(self) -> dict[str, Any]:
        # The order is that of the founding document's log.
        detection = self.turn_detection
        if detection is not None:
            detection = {name: value for name, value in detection.items() if name != "idle_timeout_ms"}
        return {
            "id": self.id,
            "object": "realtime.session",
            "expires_at": self.expires_at,
            "input_audio_noise_reduction": self._input["noise_reduction"],
            "turn_detection": detection,
            "input_audio_format": _FORMAT_NAMES[self._input["format"]["type"]],
            "input_audio_transcription": self._input["transcription"],
            "client_secret": None,
            "include": self._fields["include"],
            "model": self._fields["model"],
            "modalities": preview_modalities(self._fields["output_modalities"]),
            "instructions": self._fields["instructions"],
            "voice": self._output["voice"],
            "output_audio_format": _FORMAT_NAMES[self._output["format"]["type"]],
            "tool_choice": self._fields["tool_choice"],
            "temperature": self._temperature,
            "max_response_output_tokens": self._fields["max_output_tokens"],
            "tools": self._fields["tools"],
        }


def preview_modalities(modalities: list[str]) -> list[str]:
    """GA `["audio"]` is the preview's `["audio", "text"]`."""
    return ["audio", "text"] if modalities == ["audio"] else ["text"]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn a preview session object into the GA shape; only the fields present are carried over."""
    nested: dict[str, Any] = {"audio": {"input": {}, "output": {}}}
    renamed = {"max_response_output_tokens": "max_output_tokens"}
    for name in ("model", "instructions", "tools", "tool_choice", "tracing", "include", *renamed):
        if name in flat:
            nested[renamed.get(name, name)] = flat[name]
    if "modalities" in flat:
        nested["output_modalities"] = ["audio"] if "audio" in flat["modalities"] else ["text"]
    into, out = nested["audio"]["input"], nested["audio"]["output"]
    for name, target in (("voice", "voice"), ("speed", "speed")):
        if name in flat:
            out[target] = flat[name]
    if "output_audio_format" in flat:
        out["format"] = _FORMATS[flat["output_audio_format"]]
    if "input_audio_format" in flat:
        into["format"] = _FORMATS[flat["input_audio_format"]]
    inputs = {
        "input_audio_transcription": "transcription",
        "input_audio_noise_reduction": "noise_reduction",
        "turn_detection": "turn_detection",
    }
    for name, target in inputs.items():
        if name in flat:
            into[target] = flat[name]
    return nested


def nested_response(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn a preview `response` override into the GA shape."""
    nested = {k: v for k, v in _nested(flat).items() if k != "audio"}
    for name in ("conversation", "input", "metadata"):
        if name in flat:
            nested[name] = flat[name]
    return nested
