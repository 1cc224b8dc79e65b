"""What comes with a request to the admin API: judged by the route's schemas before a handler sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relay.api.admin.route import JSON_TYPE, Schema
from relay.api.bodies import media_type, read_body, too_large
from relay.core.events import EventError, parse_json_object
from relay.core.policy_check import dotted, violations
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from aiohttp import web

_BODY_SECONDS = 15.0
_MOST_VALUES = 50_000
_INTEGER = re.compile(r"-?[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_WORDS = {"true": True, "false": False}


def read_query(request: web.Request, known: Mapping[str, Schema]) -> dict[str, Any]:
    """The parameters in the types of their schemas. Raises ApiError 400 for unknown, repeated and unfit ones."""
    found: dict[str, Any] = {}
    for name, text in request.query.items():
        if name not in known:
            raise ApiError(400, ErrorCode.INVALID_REQUEST, "There is no such parameter here.", param=_named(name))
        if name in found:
            raise ApiError(400, ErrorCode.INVALID_REQUEST, f"{name} is given twice.", param=name)
        found[name] = value = _typed(text, known[name])
        for _, problem in violations(value, known[name]):
            raise ApiError(400, ErrorCode.INVALID_VALUE, f"{name} {problem}.", param=name)
    return found


async def read_json(request: web.Request, schema: Schema, most_bytes: int) -> dict[str, Any]:
    """The JSON object of a request, {} for no body at all. Raises ApiError 400, 408, 413, 415."""
    body = b""
    if request.can_read_body:
        media_type(request, (JSON_TYPE,))
        body = await read_body(request, most_bytes, _BODY_SECONDS)
    try:
        value = parse_json_object(body.decode() or "{}", max_bytes=most_bytes, max_values=_MOST_VALUES)
    except (UnicodeDecodeError, EventError) as error:
        if isinstance(error, EventError) and error.code is ErrorCode.EVENT_TOO_LARGE:
            raise too_large(most_bytes) from None
        raise ApiError(400, ErrorCode.INVALID_REQUEST, "The body is not one well-formed JSON object.") from None
    for path, problem in violations(value, schema):
        raise ApiError(400, ErrorCode.INVALID_VALUE, f"{dotted(path) or 'The body'} {problem}.", param=dotted(path))
    return value


async def read_text(request: web.Request, accepted: str, most_bytes: int) -> str:
    """The text of a request. Raises ApiError 400, 408, 413, 415."""
    media_type(request, (accepted,))
    try:
        return (await read_body(request, most_bytes, _BODY_SECONDS)).decode()
    except UnicodeDecodeError:
        raise ApiError(400, ErrorCode.INVALID_REQUEST, "The body is not UTF-8.") from None


def _typed(text: str, schema: Schema) -> Any:
    """The value that a text stands for, or the text, which its schema then refuses."""
    match schema.get("type"):
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "number" if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        case "boolean" if text in _WORDS:
            return _WORDS[text]
        case _:
            return text


def _named(name: str) -> str:
    return name if name.isprintable() and len(name) <= 64 else "?"  # noqa: PLR2004 - long enough to be recognised
