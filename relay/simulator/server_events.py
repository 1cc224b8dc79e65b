"""Server events as they leave: the preview's names and shapes, and what `webrtcfilter=on` lets through."""

from __future__ import annotations

from typing import Any

from relay.simulator.session_object import preview_modalities

Event = dict[str, Any]

FILTERED_TYPES = frozenset(
    {
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.added",
        "conversation.item.created",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
    }
)
"""All that a call opened with `webrtcfilter=on` receives (Azure, documented)."""

_PREVIEW_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
_PREVIEW_PARTS = {"output_text": "text", "output_audio": "audio"}


def for_preview(event: Event) -> Event | None:
    """Return the event as a preview session gets it; None when the preview has no such event."""
    kind = event["type"]
    if kind == "conversation.item.done":
        return None
    changed = {**event, "type": _PREVIEW_NAMES.get(kind, kind)}
    if "item" in changed:
        changed["item"] = _preview_item(changed["item"])
    if "response" in changed:
        changed["response"] = _preview_response(changed["response"])
    return changed


def _preview_item(item: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(item.get("content"), list):
        return item
    parts = [{**part, "type": _PREVIEW_PARTS.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": parts}


def _preview_response(response: dict[str, Any]) -> dict[str, Any]:
    flat = {k: v for k, v in response.items() if k not in ("output_modalities", "audio")}
    flat["modalities"] = preview_modalities(response["output_modalities"])
    flat["voice"] = response["audio"]["output"]["voice"]
    flat["output_audio_format"] = "pcm16"
    flat["temperature"] = 0.8
    flat["output"] = [_preview_item(item) for item in response["output"]]
    return flat
