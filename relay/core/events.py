"""Realtime events as text: the names that may pass, and one strict way to read and write them."""

from __future__ import annotations

import json
import math
import re
from array import array
from itertools import accumulate
from typing import Any, NoReturn

import orjson

from relay.core.verdicts import Rule
from relay.errors import ErrorCode

MAX_EVENT_BYTES = 262_144
"""What Chrome announces as `a=max-message-size`; the longest event towards a browser, and from one."""

MAX_SERVICE_EVENT_BYTES = 960 * 1024
"""The longest event of the service that is read: what fits its association's window; a browser gets less of it."""

MAX_DEPTH = 32

MAX_VALUES = 6_000
"""Values of one event, objects and lists counted twice: reading costs by them; a long list of functions has half."""

_MAX_INTEGER = 2**64

CLIENT_EVENT_TYPES = frozenset(
    {
        "session.update",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "conversation.item.delete",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "output_audio_buffer.clear",
        "response.create",
        "response.cancel",
    }
)
"""The eleven of GA; the preview has the same ones (its `transcription_session.update` is not served)."""

SERVER_EVENT_TYPES = frozenset(
    {
        "error",
        "session.created",
        "session.updated",
        "conversation.created",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.done",
        "conversation.item.retrieved",
        "conversation.item.deleted",
        "conversation.item.truncated",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.failed",
        "conversation.item.input_audio_transcription.segment",
        "input_audio_buffer.committed",
        "input_audio_buffer.cleared",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "output_audio_buffer.cleared",
        "response.created",
        "response.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "rate_limits.updated",
    }
)
"""The 46 of GA."""

PREVIEW_SERVER_EVENT_NAMES = {
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "conversation.item.created": "conversation.item.added",
}
"""Server events that the preview calls otherwise: preview name → GA name."""

WEBRTC_FILTER_TYPES = frozenset(
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
"""The eleven that a client with `webrtcfilter=on` gets (Azure GA, documented)."""


class EventError(Exception):
    """An event or a field that is refused.

    `param` is the dotted path in GA names (`session.audio.output.voice`), None when no single field is at fault;
    `rule` says what decided. Holds no content.
    """

    def __init__(self, code: ErrorCode, param: str | None = None, rule: Rule = Rule.FRAMING) -> None:
        super().__init__(f"{code.value} ({param})")
        self.code = code
        self.param = param
        self.rule = rule


def parse_event(
    text: str, *, max_bytes: int = MAX_EVENT_BYTES, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Read one event: a JSON object with a string `type`. Raises EventError."""
    event = parse_json_object(text, max_bytes=max_bytes, max_depth=max_depth, max_values=max_values)
    if not isinstance(event.get("type"), str):
        raise EventError(ErrorCode.INVALID_EVENT, "type")
    return event


def parse_json_object(
    text: str, *, max_bytes: int = MAX_EVENT_BYTES, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Read one JSON object so that no other parser can understand it otherwise (RFC 8259 §4, §6, §8; RFC 7493).

    Refused beyond what RFC 8259 refuses: duplicate names, numbers that are not finite or exceed 64 bits, lone
    surrogates, a byte order mark, nesting beyond `max_depth`, more than `max_bytes` (UTF-8), or `max_values` values.
    Raises EventError.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise EventError(ErrorCode.INVALID_EVENT) from None
    if len(raw) > max_bytes:
        raise EventError(ErrorCode.EVENT_TOO_LARGE)
    # A short text cannot hold so many.
    marks = raw.translate(None, _ALL_BUT_VALUES) if len(raw) > _MANY_OBJECTS else b""
    if _weight(marks) > max_values and _weight(_outside(raw).translate(None, _ALL_BUT_VALUES)) > max_values:
        raise EventError(ErrorCode.EVENT_TOO_LARGE)
    if _deeper_than(raw, max_depth):
        raise EventError(ErrorCode.INVALID_EVENT)
    digits = raw.translate(_AS_ZEROS)
    try:
        if b"\\" in raw or _LONG_NEGATIVE in digits:
            value = _read_slowly(text, raw, many=marks.count(b"{") > _MANY_OBJECTS)
        else:
            value = _read_quickly(raw)
    except ValueError:
        raise EventError(ErrorCode.INVALID_EVENT) from None
    if not isinstance(value, dict):
        raise EventError(ErrorCode.INVALID_EVENT)
    if any(sign in digits for sign in _LARGE_SIGNS) and _exceeds(_outside(raw)):
        raise EventError(ErrorCode.INVALID_EVENT)
    return value


def _read_quickly(raw: bytes) -> Any:
    """Read a text without escapes and without long negative integers, which orjson would make floats.

    A name that stands twice in its object leaves fewer names than there are colons outside of strings.
    """
    value = orjson.loads(raw)
    names = _count_names(value)
    if raw.count(b":") != names and _outside(raw).count(b":") != names:
        raise EventError(ErrorCode.INVALID_EVENT)
    return value


def _read_slowly(text: str, raw: bytes, *, many: bool) -> Any:
    value = (_MANY_DECODER if many else _DECODER).decode(text)
    if b"\\u" in raw or many:
        _check_written(raw, value)
    return value


def _count_names(value: Any) -> int:
    names, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            names += len(each)
            each = each.values()
        elif type(each) is not list:
            continue
        waiting += [inner for inner in each if type(inner) in _CONTAINERS]
    return names


def dump_event(event: dict[str, Any]) -> str:
    """Write one event, compact and not escaped beyond need. Raises ValueError for a number that is not finite."""
    return _ENCODER.encode(event)


_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_ALL_BUT_VALUES = bytes(set(range(256)) - set(b"[{,"))
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_AS_STEPS = bytes.maketrans(b"{}", b"\x01\xff")  # one deeper, one up: signed
_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
# A number that is too large has an exponent of three digits, or twenty digits in a row.
_LONG_NEGATIVE = b"-" + b"0" * 19  # -9223372036854775808 is the least of 64 bits
_CONTAINERS = frozenset({dict, list})
_LARGE_SIGNS = (b"0" * 20, b"0e000", b"0e+000")
_MANY_OBJECTS = 512
_LONG_NUMBER = re.compile(rb"\d[\d.eE+-]{19,}|\d[\d.]*[eE][+-]?\d+")


def _deeper_than(raw: bytes, limit: int) -> bool:
    """Whether brackets nest deeper than `limit`: linear, in C, before any recursive parser sees the text."""
    marks = raw.translate(_AS_BRACES, _ALL_BUT_STRUCTURE)
    if marks.count(b"{") <= limit:
        return False
    if b"\\" in raw:  # outside of strings it is an error, at which the parser goes no deeper
        marks = _ESCAPED.sub(b"", raw).translate(_AS_BRACES, _ALL_BUT_STRUCTURE)
    # Two quotes with nothing between them part nothing: what stands inside a string stays inside without them.
    marks = marks.replace(b'""', b"")
    nesting = b"".join(marks.split(b'"')[::2])  # every other piece is what stands inside a string
    levels, before = 0, 0
    while levels < limit and nesting and (levels == 0 or len(nesting) <= before // 2):
        before, levels = len(nesting), levels + 1
        nesting = nesting.replace(b"{}", b"")  # one level, the innermost: quick as long as much of it goes
    if not nesting:
        return False
    # What closes before it opens makes the rest look less deep; there the parser stops before it gets to the rest.
    return max(accumulate(array("b", nesting.translate(_AS_STEPS)))) > limit - levels


def _weight(marks: bytes) -> int:
    """How many values there are, objects and lists twice: they are dearer to make."""
    return 2 * len(marks) - marks.count(b",") if marks else 0


def _outside(raw: bytes) -> bytes:
    """A JSON text without its strings."""
    plain = _ESCAPED.sub(b"", raw) if b"\\" in raw else raw
    return b'""'.join(plain.split(b'"')[::2])


def _check_written(raw: bytes, value: Any) -> None:
    """Refuse what cannot be written again as UTF-8, or has fewer names: two of one object were the same.

    Each name has a colon behind it; those inside of strings are the same in both, unless one is written as an escape.
    """
    try:
        written = dump_event(value).encode()
    except ValueError:
        raise EventError(ErrorCode.INVALID_EVENT) from None
    if b"\\u003" in raw:
        raw, written = _outside(raw), _outside(written)
    if raw.count(b":") != written.count(b":"):
        raise EventError(ErrorCode.INVALID_EVENT)


def _exceeds(outside: bytes) -> bool:
    """Whether an integer has more than 64 bits, or a number is not finite."""
    return any(
        int(number) >= _MAX_INTEGER if number.isdigit() else not math.isfinite(float(number))
        for number in _LONG_NUMBER.findall(outside)
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise EventError(ErrorCode.INVALID_EVENT)
    return members


def _constant(_name: str) -> NoReturn:
    raise EventError(ErrorCode.INVALID_EVENT)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
# Where there are many objects, a call for each costs more than to write them all again.
_MANY_DECODER = json.JSONDecoder(parse_constant=_constant)
# What was parsed holds no circle, and looking for one costs as much as all the rest.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)
