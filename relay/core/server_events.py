"""Server events made fit for a browser: what is hidden, reduced or reworded; the rest stays as the service said it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.redaction import GENERIC_MESSAGE, MessageScrubber, is_hidden_param
from relay.core.response_rules import RESERVED_PREFIX
from relay.core.verdicts import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_CODE = 128
_MCP_SHOWN = frozenset({"id", "object", "type", "status", "name"})
_MCP_ASKED = _MCP_SHOWN | {"server_label", "arguments"}
_HIDDEN_FIELDS = frozenset(
    {"instructions", "prompt", "tools", "tool_choice", "tracing", "truncation", "client_secret", "keywords", "session"}
)


# Members that server events have, by the documented types and by recordings; others nobody has judged.
_MEMBERS = frozenset(
    {
        "type", "event_id", "error", "session", "conversation", "item", "previous_item_id", "item_id", "content_index",
        "output_index", "delta", "logprobs", "transcript", "languages", "usage", "id", "text", "speaker", "start",
        "end",
        "audio_start_ms", "audio_end_ms", "event", "received_at", "response_id", "response", "part", "content", "audio",
        "call_id", "arguments", "name", "obfuscation", "rate_limits",
    }
)  # fmt: skip
_NEVER_SHOWN = frozenset({"instructions", "prompt", "client_secret", "tracing", "truncation", "deployment", "session"})
_SYSTEM_ROLES = frozenset({"system", "developer"})


def is_system_item(event: dict[str, Any]) -> bool:
    """Whether an event tells of an item that only the administrator's side can have put there."""
    return _is_of_system(event.get("item"))


def without_strangers(name: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event without members that its type does not have, and without what is hidden in any; the same if none is."""
    if not event.keys() <= _MEMBERS or ("session" in event and not name.startswith("session.")):
        event = {
            member: value
            for member, value in event.items()
            if member in _MEMBERS and (member != "session" or name.startswith("session."))
        }
    for member in ("item", "response", "conversation"):
        if member in event and (shown := _without_hidden(event[member])) is not event[member]:
            event = {**event, member: shown}
    return event


def _without_hidden(value: Any) -> Any:
    match value:
        case dict():
            shown = {name: _without_hidden(entry) for name, entry in value.items() if name not in _NEVER_SHOWN}
            return value if shown == value else shown
        case list():
            kept = [_without_hidden(entry) for entry in value if not _is_of_system(entry)]
            return value if kept == value else kept
    return value


def _is_of_system(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(role := item.get("role"), str) and role in _SYSTEM_ROLES


@dataclass(frozen=True, slots=True)
class Publisher:
    """Makes events of the service public: private words out of errors, the administrator's tools out of sight.

    `model` is the session's model as the client calls it; `hidden_calls` names functions whose calls it is not shown;
    `approvals` tells that it may decide on calls of MCP servers, and so has to see what is asked.
    """

    scrubber: MessageScrubber
    model: str
    hidden_calls: frozenset[str] = frozenset()
    approvals: bool = False

    def hides(self, item: Any) -> bool:
        """Whether an item is a call of a function that is not the client's business."""
        return isinstance(item, dict) and item.get("type") == "function_call" and self.hides_name(item.get("name"))

    def hides_name(self, name: Any) -> bool:
        """Whether a function is not the client's business."""
        return isinstance(name, str) and name in self.hidden_calls

    def public(self, name: str, event: dict[str, Any]) -> tuple[dict[str, Any], Rule]:
        """The event as a client may see it, and what touched it; the same object when nothing did."""
        known = without_strangers(name, event)
        if known is not event:
            return self.public(name, known)[0], Rule.FIELDS
        if name == "conversation.item.input_audio_transcription.failed":
            error = event.get("error")
            if isinstance(error, dict):
                return _changed(event, "error", error, self._reworded(error), Rule.SERVICE_ERROR)
        elif name in ("response.created", "response.done"):
            response = event.get("response")
            if isinstance(response, dict):
                return self._response(event, response)
        elif isinstance(item := event.get("item"), dict):
            return _changed(event, "item", item, self._reduced(item), Rule.TOOLS_MCP)
        return event, Rule.ALLOWED

    def error(self, error: dict[str, Any], client_event_id: str | None) -> dict[str, Any]:
        """The service's `error` object: listed members alone, `event_id` as the client knows it."""
        param = _short(error.get("param"))
        hidden = param is not None and is_hidden_param(param)
        return {
            "type": self._word(error.get("type")) or "server_error",
            "code": self._word(error.get("code")),
            "message": GENERIC_MESSAGE if hidden else self._message(error.get("message")),
            "param": None if hidden or param is None else self.scrubber.scrub(param),
            "event_id": client_event_id,
        }

    def _response(self, event: dict[str, Any], response: dict[str, Any]) -> tuple[dict[str, Any], Rule]:
        public = response
        rule = Rule.SERVICE_ERROR
        if "model" in response:
            public = {**public, "model": self.model}
        match response:
            case {"status_details": {"error": dict(error)} as details}:
                public = {**public, "status_details": {**details, "error": self._reworded(error)}}
        match response:
            case {"metadata": dict(metadata)} if any(key.startswith(RESERVED_PREFIX) for key in metadata):
                kept = {key: value for key, value in metadata.items() if not key.startswith(RESERVED_PREFIX)}
                public, rule = {**public, "metadata": kept}, Rule.RESPONSE_FIELDS
        match response:
            case {"output": list(output)}:
                shown = [self._reduced(item) for item in output if not self.hides(item)]
                if shown != output:
                    public = {**public, "output": shown}
                    rule = Rule.TOOLS_ADMIN if len(shown) < len(output) else Rule.TOOLS_MCP
        return _changed(event, "response", response, public, rule)

    def _reduced(self, item: Any) -> Any:
        """An item of an MCP server by its name alone: arguments, output and offered tools are the administrator's."""
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or not kind.startswith("mcp_"):
            return item
        shown = _MCP_ASKED if self.approvals and kind == "mcp_approval_request" else _MCP_SHOWN
        return {name: value for name, value in item.items() if name in shown}

    def _reworded(self, error: dict[str, Any]) -> dict[str, Any]:
        """An error inside another object: its own members alone."""
        reworded: dict[str, Any] = {
            name: self._word(error[name]) for name in ("type", "code", "param") if name in error
        }
        return {**reworded, "message": self._message(error["message"])} if "message" in error else reworded

    def _word(self, value: Any) -> str | None:
        word = _short(value)
        return None if word is None else self.scrubber.scrub(word)

    def _message(self, message: Any) -> str:
        return self.scrubber.scrub(message) if isinstance(message, str) else GENERIC_MESSAGE


def is_clean(event: dict[str, Any], scrubber: MessageScrubber, says: Callable[[str], bool]) -> bool:
    """Whether an event that nobody knows holds neither a field that is hidden elsewhere nor private words."""
    waiting: list[Any] = [event]
    while waiting:
        value = waiting.pop()
        match value:
            case dict():
                if not _HIDDEN_FIELDS.isdisjoint(value):
                    return False
                waiting += [*value.keys(), *value.values()]
            case list():
                waiting += value
            case str() if scrubber.scrub(value) != value or says(value):
                return False
    return True


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


def _changed(
    event: dict[str, Any], name: str, before: dict[str, Any], after: dict[str, Any], rule: Rule
) -> tuple[dict[str, Any], Rule]:
    return (event, Rule.ALLOWED) if after is before or after == before else ({**event, name: after}, rule)


def _short(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_CODE else None
