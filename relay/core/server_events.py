"""Server events made fit for a browser: what is hidden, reduced or reworded; the rest stays as the service said it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.core.redaction import GENERIC_MESSAGE, MessageScrubber, is_hidden_param

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_CODE = 128


def is_system_item(event: dict[str, Any]) -> bool:
    """Whether the event tells of an item that only the administrator's side can have put there."""
    item = event.get("item")
    return isinstance(item, dict) and item.get("role") in ("system", "developer")


def public_error(error: dict[str, Any], scrubber: MessageScrubber, client_event_id: str | None) -> dict[str, Any]:
    """The service's `error` object for a client: listed members alone, `event_id` as the client knows it."""
    param = _short(error.get("param"))
    hidden = param is not None and is_hidden_param(param)
    return {
        "type": _short(error.get("type")) or "server_error",
        "code": _short(error.get("code")),
        "message": GENERIC_MESSAGE if hidden else _public_message(error.get("message"), scrubber),
        "param": None if hidden or param is None else scrubber.scrub(param),
        "event_id": client_event_id,
    }


def reword(event_type: str, event: dict[str, Any], scrubber: MessageScrubber, model: str) -> dict[str, Any]:
    """The event with the error texts inside it made public; the same object when there is nothing to change."""
    match event_type, event:
        case "conversation.item.input_audio_transcription.failed", {"error": dict(error)}:
            return {**event, "error": _reworded(error, scrubber)}
        case "response.created" | "response.done", {"response": dict(response)}:
            return {**event, "response": _public_response(response, scrubber, model)}
    return event


def fitted(event: dict[str, Any], longest: int, dump: Callable[[dict[str, Any]], str]) -> tuple[str | None, bool]:
    """The event as text of at most `longest` UTF-8 bytes, and whether audio or tools were left out for it.

    None when it does not fit even so (protocol: a browser announces 262144, the service does not keep to it).
    """
    text = dump(event)
    if _fits(text, longest):
        return text, False
    text = dump(_lightened(event))
    return (text if _fits(text, longest) else None), True


def _fits(text: str, longest: int) -> bool:
    return len(text) * 4 <= longest or len(text.encode()) <= longest


def _lightened(event: dict[str, Any]) -> dict[str, Any]:
    """Without the audio of content parts, and without the tools of a session."""
    light = dict(event)
    match event:
        case {"item": dict(item)}:
            light["item"] = _silent_item(item)
        case {"part": dict(part)}:
            light["part"] = _silent_part(part)
            if isinstance(event.get("content"), dict):
                light["content"] = _silent_part(event["content"])
        case {"response": {"output": list(output)} as response}:
            light["response"] = {**response, "output": [_silent_item(item) for item in output]}
        case {"session": dict(session)}:
            light["session"] = {name: value for name, value in session.items() if name != "tools"}
    return light


def _silent_item(item: Any) -> Any:
    match item:
        case {"content": list(content)}:
            return {**item, "content": [_silent_part(part) for part in content]}
    return item


def _silent_part(part: Any) -> Any:
    return {name: value for name, value in part.items() if name != "audio"} if isinstance(part, dict) else part


def _public_response(response: dict[str, Any], scrubber: MessageScrubber, model: str) -> dict[str, Any]:
    public = response
    if "model" in response:
        public = {**public, "model": model}
    match response:
        case {"status_details": {"error": dict(error)} as details}:
            public = {**public, "status_details": {**details, "error": _reworded(error, scrubber)}}
    return public


def _reworded(error: dict[str, Any], scrubber: MessageScrubber) -> dict[str, Any]:
    if "message" not in error:
        return error
    return {**error, "message": _public_message(error["message"], scrubber)}


def _public_message(message: Any, scrubber: MessageScrubber) -> str:
    return scrubber.scrub(message) if isinstance(message, str) else GENERIC_MESSAGE


def _short(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_CODE else None
