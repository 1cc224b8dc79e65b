"""Server events made fit for a browser: what is hidden, reduced or reworded; the rest stays as the service said it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.canary import MOST_TEXT
from relay.core.error_words import public_code, public_message, public_param, public_type
from relay.core.event_members import without_strangers
from relay.core.redaction import LONGEST_MESSAGE, MessageScrubber
from relay.core.response_rules import RESERVED_PREFIX
from relay.core.verdicts import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

_MCP_SHOWN = frozenset({"id", "object", "type", "status", "name"})
_MCP_ASKED = _MCP_SHOWN | {"server_label", "arguments"}
_HIDDEN_FIELDS = frozenset(
    {"instructions", "prompt", "tools", "tool_choice", "tracing", "truncation", "client_secret", "keywords", "session"}
)


_SYSTEM_ROLES = frozenset({"system", "developer"})


def is_system_item(event: dict[str, Any]) -> bool:
    """Whether an event tells of an item that only the administrator's side can have put there."""
    return _is_of_system(event.get("item"))


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
        if name.endswith(".failed"):
            error = event.get("error")
            if isinstance(error, dict):
                return _changed(event, "error", error, _reworded(error), Rule.SERVICE_ERROR)
        elif name in ("response.created", "response.done"):
            response = event.get("response")
            if isinstance(response, dict):
                return self._response(event, response)
        elif isinstance(item := event.get("item"), dict):
            return _changed(event, "item", item, self._reduced(item), Rule.TOOLS_MCP)
        return event, Rule.ALLOWED

    def error(self, error: dict[str, Any], client_event_id: str | None) -> dict[str, Any]:
        """The service's `error` object in the relay's words, `event_id` as the client knows it."""
        code = public_code(error.get("code"))
        return {
            "type": public_type(error.get("type")),
            "code": code,
            "message": public_message(code),
            "param": public_param(error.get("param")),
            "event_id": client_event_id,
        }

    def _response(self, event: dict[str, Any], response: dict[str, Any]) -> tuple[dict[str, Any], Rule]:
        public = response
        rule = Rule.SERVICE_ERROR
        if "model" in response:
            public = {**public, "model": self.model}
        match response:
            case {"status_details": {"error": dict(error)} as details}:
                public = {**public, "status_details": {**details, "error": _reworded(error)}}
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
        return {name: self._named(name, value) for name, value in item.items() if name in shown}

    def _named(self, name: str, value: Any) -> Any:
        return self.scrubber.scrub(value) if name == "name" and isinstance(value, str) else value


def _reworded(error: dict[str, Any]) -> dict[str, Any]:
    """An error inside another object: its own members alone, in the relay's words."""
    code = public_code(error.get("code"))
    said = {"type": public_type(error.get("type")), "code": code, "param": public_param(error.get("param"))}
    reworded: dict[str, Any] = {name: word for name, word in said.items() if name in error}
    return {**reworded, "message": public_message(code)} if "message" in error else reworded


def is_clean(event: dict[str, Any], scrubber: MessageScrubber, says: Callable[[str], bool]) -> bool:
    """Whether an event that nobody knows holds neither a field that is hidden elsewhere nor private words."""
    name = event.get("type")
    if isinstance(name, str) and (scrubber.scrub(name) != name or says(name)):
        return False  # by itself: with its dots it looks like a host
    texts: list[str] = []
    waiting: list[Any] = [{member: value for member, value in event.items() if member != "type"}]
    while waiting:
        value = waiting.pop()
        match value:
            case dict():
                if not _HIDDEN_FIELDS.isdisjoint(value):
                    return False
                waiting += [*value.keys(), *value.values()]
            case list():
                waiting += value
            case str():
                texts.append(value)
    if any(len(text) > LONGEST_MESSAGE for text in texts):
        return False
    # What one of them holds, all together hold; so that mostly one look is enough. Beyond what `says` reads it is not.
    whole = "\n".join(texts)
    if len(whole) <= MOST_TEXT and scrubber.keeps(whole) and not says(whole):
        return True
    return not any(not scrubber.keeps(text) or says(text) for text in texts)


def fitted(event: dict[str, Any], longest: int, dump: Callable[[dict[str, Any]], str]) -> tuple[str | None, bool]:
    """The event as text of at most `longest` UTF-8 bytes, and whether audio or tools were left out for it.

    None when it does not fit even so (protocol: a browser announces 262144, the service does not keep to it).
    """
    text = dump(event)
    if fits(text, longest):
        return text, False
    text = dump(_lightened(event))
    return (text if fits(text, longest) else None), True


def fits(text: str, longest: int) -> bool:
    """Whether a text has at most so many bytes in UTF-8."""
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
