"""The shapes the schema of policy documents is made of, each with its words and what becomes of it in a child."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_ABSENT = object()


def _inherited(inherit: str | None) -> Schema:
    return {"x-inherit": inherit} if inherit else {}


def text(description: str, *, longest: int = 256, pattern: str | None = None, inherit: str | None = None) -> Schema:
    """A text of 1 to `longest` characters, or one of this pattern."""
    shape = {"pattern": pattern} if pattern else {"minLength": 1, "maxLength": longest}
    return {"type": "string", **shape, "description": description, **_inherited(inherit)}


def group(
    description: str, properties: dict[str, Schema], required: tuple[str, ...] = (), inherit: str | None = None
) -> Schema:
    """An object of these keys and no others."""
    schema: Schema = {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
        **_inherited(inherit),
    }
    return schema | ({"required": list(required)} if required else {})


def listing(
    description: str,
    items: Schema,
    *,
    least: int = 0,
    most: int = 256,
    default: Any = _ABSENT,
    inherit: str | None = None,
) -> Schema:
    """A list without repetitions."""
    schema: Schema = {
        "type": "array",
        "description": description,
        "items": items,
        "maxItems": most,
        "uniqueItems": True,
    }
    if least:
        schema["minItems"] = least
    if default is not _ABSENT:
        schema["default"] = default
    return schema | _inherited(inherit)


def mapping(description: str, values: Schema, *, most: int = 256, inherit: str | None = None) -> Schema:
    """An object of any keys."""
    schema = {"type": "object", "description": description, "additionalProperties": values, "maxProperties": most}
    return schema | _inherited(inherit)


def ladder(description: str, *words: str, default: str) -> Schema:
    """One of these words, from the loosest to the tightest."""
    return {
        "type": "string",
        "enum": list(words),
        "description": description,
        "default": default,
        "x-inherit": "tightest",
    }


def permission(description: str, *, default: bool) -> Schema:
    """True where something is allowed."""
    return {"type": "boolean", "description": description, "default": default, "x-inherit": "all"}


def most(description: str, lowest: int, highest: int, default: Any = _ABSENT) -> Schema:
    """A whole number of which more is looser."""
    schema = {
        "type": "integer",
        "minimum": lowest,
        "maximum": highest,
        "description": description,
        "x-inherit": "smallest",
    }
    return schema if default is _ABSENT else schema | {"default": default}


def words(names: Any) -> Schema:
    """One of these words, which have no order."""
    return {"type": "string", "enum": sorted(names)}
