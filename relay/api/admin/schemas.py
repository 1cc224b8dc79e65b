"""Pieces of JSON Schema from which the routes' schemas are put together."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

NAME_MOST = 200
NOTE_MOST = 2_000
_NAMES_MOST = 200
PAGE_MOST = 500

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
TRUTH: Schema = {"type": "boolean"}
UNIX: Schema = {"type": "number", "description": "Unix seconds"}
# No control characters: names stand in logs and pages.
NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_MOST,
    "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$",
}
NOTE: Schema = {"type": "string", "maxLength": NOTE_MOST, "description": "why; stands in the audit log"}
# From query and bodies.
SINCE: Schema = {"type": "number", "minimum": 0, "maximum": 100_000_000_000, "description": "Unix seconds"}
LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": PAGE_MOST, "description": "rows of one answer; 100"}
DAY: Schema = {"type": "string", "pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
               "description": "a day of UTC, 2026-11-22"}  # fmt: skip
DEFAULT_LIMIT = 100


def obj(required: Schema, optional: Schema | None = None, *, closed: bool = True) -> Schema:
    """An object with these members."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": not closed}


def listing(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def by_name(values: Schema) -> Schema:
    """An object whose members' names are data."""
    return {"type": "object", "additionalProperties": values}


def names() -> Schema:
    """A list of names that is taken from a request."""
    return {"type": "array", "items": NAME, "maxItems": _NAMES_MOST, "uniqueItems": True}


def maybe(schema: Schema) -> Schema:
    """This or null; for answers."""
    return {**schema, "type": [schema["type"], "null"]}


def one_of(words: Any) -> Schema:
    """One of a closed set of words."""
    return {"type": "string", "enum": [str(word) for word in words]}


ERROR = obj(
    {"error": obj({"message": TEXT, "type": TEXT, "param": maybe(TEXT), "code": TEXT}, closed=False)}, closed=False
)
