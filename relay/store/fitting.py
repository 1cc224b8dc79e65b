"""How texts and values become what a column can hold, alike in every database; what does not fit has a stated rule."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, String, Table

from relay.core.audit_chain import canonical_json
from relay.core.stored import PAGE_MOST, UnfitText

_DIGEST_LETTERS = 16
# Of BIGINT, which is all that both databases count with.
_MOST_NUMBER = 2**63 - 1


def fitted(column: Column[str], value: str) -> str:
    """`value` if the column can hold it; else what fits and a hash, so that two never become the same."""
    most = _length(column)
    clean = _storable(value)
    if clean == value and len(value) <= most:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LETTERS]
    return f"{clean[: most - _DIGEST_LETTERS - 1]}~{digest}"


def demanded(what: str, value: str, most: int) -> str:
    """`value` as it is. Raises UnfitText if it is longer than `most` characters or holds what no database keeps."""
    if len(value) > most:
        raise UnfitText(f"{what} is longer than {most} characters")
    if _storable(value) != value:
        raise UnfitText(f"{what} holds a character that cannot be kept")
    return value


def demanded_name(column: Column[str], value: str) -> str:
    """The same, by the length of a column."""
    return demanded(column.name, value, _length(column))


def json_text(value: Any, most_bytes: int) -> str:
    """The JSON of a value; above `most_bytes`, or if it is not JSON, an object that says so in its place."""
    try:
        text = canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        return canonical_json({"left_out": "not JSON"})
    if len(text) > most_bytes:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return canonical_json({"left_out": "too large", "bytes": len(text), "sha256": digest})
    return text


def demanded_json(what: str, value: Any, most_bytes: int) -> str:
    """The JSON of a value. Raises UnfitText above `most_bytes`."""
    text = canonical_json(value)
    if len(text) > most_bytes:
        raise UnfitText(f"{what} is larger than {most_bytes} bytes")
    return text


def newest_that_fit(entries: Sequence[Mapping[str, Any]], most_bytes: int) -> str:
    """A JSON list of the entries; of one that is too large the last ones that fit."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        # Nearly every list is whole, and one encoding is half the work of many.
        if len(text := canonical_json(entries)) <= most_bytes:
            return text
    kept: list[str] = []
    room = most_bytes
    for entry in reversed(entries):
        text = json_text(entry, most_bytes)
        room -= len(text) + 1
        if room < 0:
            break
        kept.append(text)
    return f"[{','.join(reversed(kept))}]"


def read_object(text: str) -> dict[str, Any]:
    """The object that was kept; one that somebody else has spoilt says so."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"left_out": "unreadable"}


def rows_asked(limit: int) -> int:
    """How many rows a search gives."""
    return max(1, min(limit, PAGE_MOST))


def same_texts(table: Table, **wanted: str | None) -> list[ColumnElement[bool]]:
    """The conditions that these columns hold these texts, None apart."""
    columns = table.c
    return [columns[name] == fitted(columns[name], value) for name, value in wanted.items() if value is not None]


def between(column: Column[float], since: float | None, until: float | None) -> list[ColumnElement[bool]]:
    """The conditions that a time is not before `since` and before `until`."""
    found: list[ColumnElement[bool]] = []
    if since is not None:
        found.append(column >= since)
    if until is not None:
        found.append(column < until)
    return found


def number(value: int) -> int:
    """A whole number that fits a column of numbers."""
    return max(-_MOST_NUMBER, min(value, _MOST_NUMBER))


def _length(column: Column[str]) -> int:
    kind = column.type
    if not isinstance(kind, String) or kind.length is None:
        raise TypeError(f"{column.name} has no length")
    return kind.length


def _storable(value: str) -> str:
    if value.isascii() and "\0" not in value:
        return value
    # PostgreSQL keeps no NUL, and neither keeps half of a surrogate pair.
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
