"""Every path that may go up to the service, written down apart from the code that lets it through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_SESSION = [
    "type",
    "model",
    "instructions",
    "output_modalities",
    "max_output_tokens",
    "include",
    "tool_choice",
    "tool_choice.type",
    "tool_choice.name",
    "parallel_tool_calls",
    "reasoning.effort",
    "tools[].type",
    "tools[].name",
    "tools[].description",
    "audio.input.noise_reduction",
    "audio.input.noise_reduction.type",
    "audio.input.noise_reduction.strength",
    "audio.input.turn_detection",
    "audio.input.turn_detection.type",
    "audio.input.turn_detection.threshold",
    "audio.input.turn_detection.prefix_padding_ms",
    "audio.input.turn_detection.silence_duration_ms",
    "audio.input.turn_detection.idle_timeout_ms",
    "audio.input.turn_detection.eagerness",
    "audio.input.turn_detection.create_response",
    "audio.input.turn_detection.interrupt_response",
    "audio.input.transcription",
    "audio.input.transcription.model",
    "audio.input.transcription.language",
    "audio.input.transcription.languages",
    "audio.output.voice",
    "audio.output.speed",
]
_ITEM = [
    "type",
    "id",
    "role",
    "call_id",
    "output",
    "approval_request_id",
    "approve",
    "reason",
    "content[].type",
    "content[].text",
    "content[].audio",
    "content[].transcript",
    "content[].image_url",
    "content[].detail",
]
_RESPONSE = [
    "instructions",
    "output_modalities",
    "max_output_tokens",
    "conversation",
    "tool_choice",
    "tool_choice.type",
    "tool_choice.name",
    "parallel_tool_calls",
    "reasoning.effort",
    "audio.output.voice",
    "tools[].type",
    "tools[].name",
    "tools[].description",
]
_PLAIN = ["type", "event_id", "item_id", "content_index", "audio_end_ms", "response_id", "previous_item_id", "audio"]

_PATHS = {
    *_PLAIN,
    *(f"session.{path}" for path in _SESSION),
    *(f"item.{path}" for path in _ITEM),
    *(f"response.{path}" for path in _RESPONSE),
    *(f"response.input[].{path}" for path in _ITEM),
}
# Free inside: JSON Schemas of functions, and metadata of responses.
_FREE = re.compile(r"(?:session|response)\.tools\[\]\.parameters(?:[.\[]|$)|response\.metadata\.")
_EMPTY = {"session.tools", "session.include", "response.input", "response.tools", "item.content",
          "response.input[].content", "response.metadata", "audio"}  # fmt: skip


def foreign_paths(event: dict[str, Any]) -> list[str]:
    """The paths of an event that nobody said may go up."""
    return [path for path in _leaves(event, "") if path not in _PATHS | _EMPTY and not _FREE.match(path)]


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from _leaves(entry, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for entry in value:
            yield from _leaves(entry, f"{path}[]")
    else:
        yield path
