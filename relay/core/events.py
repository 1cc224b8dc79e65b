"""Realtime events as text: the names that may pass, and one strict way to read and write them."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from relay.core.verdicts import Rule
from relay.errors import ErrorCode

MAX_EVENT_BYTES = 262_144
"""What Chrome announces as `a=max-message-size`; the longest event towards a browser, and from one."""

MAX_SERVICE_EVENT_BYTES = 960 * 1024
"""The longest event of the service that is read: what fits its association's window; a browser gets less of it."""

MAX_DEPTH = 32
_MAX_INTEGER = 2**64
_MAX_INTEGER_DIGITS = 20

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


def parse_event(text: str, *, max_bytes: int = MAX_EVENT_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read one event: a JSON object with a string `type`. Raises EventError."""
    event = parse_json_object(text, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(event.get("type"), str):
        raise EventError(ErrorCode.INVALID_EVENT, "type")
    return event


def parse_json_object(text: str, *, max_bytes: int = MAX_EVENT_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read one JSON object so that no other parser can understand it otherwise (RFC 8259 §4, §6, §8; RFC 7493).

    Refused beyond what RFC 8259 refuses: duplicate names, numbers that are not finite or exceed 64 bits, lone
    surrogates, a byte order mark, nesting deeper than `max_depth`, more than `max_bytes` of UTF-8. Raises EventError.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise EventError(ErrorCode.INVALID_EVENT) from None
    if len(raw) > max_bytes:
        raise EventError(ErrorCode.EVENT_TOO_LARGE)
    if _deeper_than(raw, max_depth):
        raise EventError(ErrorCode.INVALID_EVENT)
    try:
        value = _DECODER.decode(text)
    except ValueError:
        raise EventError(ErrorCode.INVALID_EVENT) from None
    if not isinstance(value, dict):
        raise EventError(ErrorCode.INVALID_EVENT)
    if "\\u" in text and not _encodes(value):
        raise EventError(ErrorCode.INVALID_EVENT)
    return value


def dump_event(event: dict[str, Any]) -> str:
    """Write one event, compact and not escaped beyond need. Raises ValueError for a number that is not finite."""
    return _ENCODER.encode(event)


_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_AS_BRACES = bytes.maketrans(b"[]", b"{}")


def _deeper_than(raw: bytes, limit: int) -> bool:
    """Whether brackets nest deeper than `limit`: linear, in C, before any recursive parser sees the text."""
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return False
    if b"\\" in raw:  # outside of strings it is an error, at which the parser goes no deeper
        raw = _ESCAPED.sub(b"", raw)
    marks = raw.translate(_AS_BRACES, _ALL_BUT_STRUCTURE)
    nesting = b"".join(marks.split(b'"')[::2])  # every other piece is what stands inside a string
    for _ in range(limit):
        nesting = nesting.replace(b"{}", b"")  # one level, the innermost
    # What is left is deeper, or does not close, which no parser takes either.
    return bool(nesting)


def _encodes(value: dict[str, Any]) -> bool:
    try:
        dump_event(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise EventError(ErrorCode.INVALID_EVENT)
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MAX_INTEGER_DIGITS + 1:
        raise EventError(ErrorCode.INVALID_EVENT)
    value = int(digits)
    if abs(value) >= _MAX_INTEGER:
        raise EventError(ErrorCode.INVALID_EVENT)
    return value


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise EventError(ErrorCode.INVALID_EVENT)
    return value


def _constant(_name: str) -> NoReturn:
    raise EventError(ErrorCode.INVALID_EVENT)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant)
# What was parsed holds no circle, and looking for one costs as much as all the rest.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)
