"""The members of server events that anybody knows, by the documented types and by recordings; others do not pass.

A member that a later version of the service brings says what nobody has judged: it is left out, at every depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.core.error_words import REASONS

Shape = Callable[[Any], Any]
"""Takes a value; returns what of it is known, the same object when that is all. Raises _Stranger when nothing is."""


_PLAIN = frozenset({str, int, float, bool, type(None)})


class _Stranger(Exception):  # noqa: N818 - a verdict, not a failure
    """Nothing of a value is known."""


def _anything(value: Any) -> Any:
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise _Stranger
    return value


def _string(value: Any) -> Any:
    if not isinstance(value, str) and value is not None:
        raise _Stranger
    return value


def _strings(value: Any) -> Any:
    if value is not None and not (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
        raise _Stranger
    return value


def _reason(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value in REASONS):
        raise _Stranger
    return value


def _pairs(value: Any) -> Any:
    if value is not None and not (isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())):
        raise _Stranger
    return value


def _voice(value: Any) -> Any:
    return _scalar(value)  # one by id is the administrator's


def _counts(value: Any) -> Any:
    """Numbers, in objects of any names, and what they count."""
    if isinstance(value, dict):
        known = {
            name: _counts(entry)
            for name, entry in value.items()
            if isinstance(entry, int | float | dict) or (name == "type" and entry in ("tokens", "duration"))
        }
        return value if known == value else known
    if value is not None and not isinstance(value, int | float):
        raise _Stranger
    return value


def _members(shapes: dict[str, Shape]) -> Shape:
    plain = frozenset(name for name, shape in shapes.items() if shape in (_anything, _scalar))
    strings = tuple(name for name, shape in shapes.items() if shape is _string)
    simple = plain.union(strings)

    def known(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _Stranger
        if value.keys() <= simple and _PLAIN.issuperset(map(type, value.values())):  # most events hold nothing else
            for name in strings:
                if name in value and type(value[name]) is not str:
                    break
            else:
                return value
        return _rebuilt(value, shapes)

    return known


def _rebuilt(value: dict[str, Any], shapes: dict[str, Shape]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    same = True
    for name, entry in value.items():
        shape = shapes.get(name)
        if shape is None:
            same = False
            continue
        try:
            kept[name] = seen = shape(entry)
        except _Stranger:
            same = False
        else:
            same = same and seen is entry
    return value if same else kept


def _each(shape: Shape) -> Shape:
    def known(value: Any) -> Any:
        if value is None:
            return value
        if not isinstance(value, list):
            raise _Stranger
        kept = []
        for entry in value:
            try:
                kept.append(shape(entry))
            except _Stranger:
                continue
        same = len(kept) == len(value) and all(one is other for one, other in zip(kept, value, strict=True))
        return value if same else kept

    return known


def _all(shape: Shape, *names: str) -> dict[str, Shape]:
    return dict.fromkeys(names, shape)


_SYSTEM_ROLES = ("system", "developer")

_part = _members(
    _all(_string, "type", "text", "transcript", "audio", "image_url", "detail", "refusal") | {"format": _scalar}
)
_approvals = _all(_string, "server_label", "approval_request_id", "reason") | {"approve": _scalar}
# What of an MCP server's item is shown is chosen from these by the policy's rules.
_item_members = _members(
    _all(_string, "id", "object", "type", "status", "role", "name", "call_id", "arguments", "output")
    | {"content": _each(_part), **_approvals}
)


def _item(value: Any) -> Any:
    if isinstance(value, dict) and value.get("role") in _SYSTEM_ROLES:
        raise _Stranger
    return _item_members(value)


_error = _members(_all(_scalar, "type", "code", "message", "param", "event_id"))
_format = _members(_all(_scalar, "type", "rate"))
_output = _members({"format": _format, "voice": _voice})
_response = _members(
    {
        **_all(_scalar, "id", "object", "status", "conversation_id", "max_output_tokens", "temperature", "model"),
        **_all(_voice, "voice", "output_audio_format"),
        "status_details": _members({"type": _string, "reason": _reason, "error": _error}),
        "output": _each(_item),
        **_all(_strings, "output_modalities", "modalities"),
        "audio": _members({"output": _output}),
        "metadata": _pairs,
        "usage": _counts,
    }
)
_logprobs = _each(_members({"token": _string, "logprob": _scalar, "bytes": _anything}))
_limits = _each(_members(_all(_scalar, "name", "limit", "remaining", "reset_seconds")))

_EVENT: dict[str, Shape] = {
    **_all(
        _scalar, "type", "event_id", "previous_item_id", "item_id", "content_index", "output_index", "id", "speaker",
        "start", "end", "audio_start_ms", "audio_end_ms", "event", "received_at", "response_id", "call_id", "name",
        "obfuscation",
    ),
    **_all(_string, "delta", "transcript", "text", "audio", "arguments"),
    "item": _item,
    "part": _part,
    "content": _part,
    "response": _response,
    "conversation": _members(_all(_scalar, "id", "object")),
    "usage": _counts,
    "languages": _strings,
    "logprobs": _logprobs,
    "rate_limits": _limits,
}  # fmt: skip
_event = _members(_EVENT)
_failed = _members(_EVENT | {"error": _error})
# What these hold was rebuilt member by member before it comes here.
_session = _members(_EVENT | {"session": _anything})
_told = _members(_EVENT | {"error": _anything})


def without_strangers(name: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event (GA name) without members that its type does not have, at every depth; the same if there is none."""
    if name.startswith("session."):
        shape = _session
    elif name == "error":
        shape = _told
    else:
        shape = _failed if name.endswith(".failed") else _event
    known: dict[str, Any] = shape(event)
    return known
