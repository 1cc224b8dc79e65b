"""Checks a document against the schema, in words for the person who wrote it.

Reads the part of JSON Schema that `policy_schema` uses; a test holds it to a complete validator's verdicts.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Path = tuple[str | int, ...]


class Severity(StrEnum):
    """An error keeps a document from being used; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """What a problem is about, in words that hold nothing of a document."""

    FILE = "the file cannot be used"
    YAML = "is not YAML as policies are written"
    FORM = "does not have the form that the schema asks for"
    RULES = "cannot be used as it stands"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it stands. `file` is empty and `line` 0 where no file is known.

    `message` and `path` are for who wrote the document: they can quote it. `public` is what may stand in a log.
    """

    severity: Severity
    message: str
    file: str = ""
    line: int = 0
    document: str = ""
    path: str = ""
    kind: Kind = Kind.FILE
    public_path: str = ""

    def __str__(self) -> str:
        return self._line(self.path, self.message)

    @property
    def public(self) -> str:
        """Where it stands and what it is about, and nothing that the document says."""
        told = self.kind is Kind.FILE or self.severity is Severity.WARNING
        plain = self.message if told else f"{self.kind.value}; `relay policy lint` says why"
        return self._line(self.public_path, plain)

    def _line(self, path: str, message: str) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.severity.value}: {f'{path}: ' if path else ''}{message}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document stands: `lines` has the line of each of its paths; `schema` what its names are taken from."""

    file: str = ""
    lines: Mapping[Path, int] | None = None
    schema: Mapping[str, Any] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of the path, or of the nearest thing around it; 0 when none is known."""
        lines = self.lines or {}
        for length in range(len(path), -1, -1):
            if path[:length] in lines:
                return lines[path[:length]]
        return 0

    def problem(
        self, severity: Severity, path: Path, message: str, document: str = "", kind: Kind = Kind.RULES
    ) -> Problem:
        """A problem at this path."""
        public = dotted(known_part(path, self.schema))
        return Problem(severity, message, self.file, self.line(path), document, dotted(path), kind, public)


def dotted(path: Path) -> str:
    """`spec.session.fields[audio.output.voice].allow[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int) or not re.fullmatch(r"[\w-]+", part):
            text += f"[{part if isinstance(part, int) or part.isprintable() else ascii(part)}]"
        else:
            text += f".{part}" if text else part
    return text


def known_part(path: Path, schema: Mapping[str, Any]) -> Path:
    """The beginning of a path whose names are those of the schema, and no document's own."""
    for length, part in enumerate(path):
        if isinstance(part, int):
            schema = schema.get("items", {})
        elif part in schema.get("properties", {}):
            schema = schema["properties"][part]
        else:
            return path[:length]
    return path


def violations(value: Any, schema: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """What is wrong with a value: the path, and words that say what belongs there."""
    if "const" in schema:
        if not same(value, schema["const"]):
            yield path, f"must be {_shown(schema['const'])}"
        return
    if "type" in schema and not _has_type(value, schema["type"]):
        yield path, f"must be {_type_words(schema)}, not {_kind(value)}{_type_hint(value, schema)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"{_shown(value)} is none of {_choice(schema['enum'])}{nearest(value, schema['enum'])}"
        return
    match value:
        case str():
            yield from _text(value, schema, path)
        case bool():
            return
        case int() | float():
            yield from _number(value, schema, path)
        case list():
            yield from _array(value, schema, path)
        case dict():
            yield from _object(value, schema, path)


def nearest(word: Any, known: Sequence[str]) -> str:
    """`; did you mean …?` when a known word is near: in spelling, in another notation, or by its last part."""
    plain = {_plain(name): name for name in known}
    found = difflib.get_close_matches(_plain(str(word)), plain, n=1, cutoff=0.6)
    if found:
        return f"; did you mean {plain[found[0]]}?"
    ends = [name for name in known if name.rpartition(".")[2] == word]
    return f"; did you mean {ends[0]}?" if ends else ""


def canonical(value: Any) -> str:
    """One text for one JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; 1 and true are not, 1 and 1.0 are."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def _text(value: str, schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        yield path, "must not be empty" if least == 1 else f"must have {least} characters or more"
    if len(value) > schema.get("maxLength", len(value)):
        yield path, f"is longer than {schema['maxLength']} characters"
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield path, f"{_shown(value)} does not have the form {schema['pattern']}"


def _number(value: float, schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    lowest, highest = schema.get("minimum", value), schema.get("maximum", value)
    if not lowest <= value <= highest:
        yield path, f"{value} is not between {lowest} and {highest}"


def _array(value: list[Any], schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    if len(value) < schema.get("minItems", 0):
        yield path, "must not be an empty list"
    if len(value) > schema.get("maxItems", len(value)):
        yield path, f"has more than {schema['maxItems']} entries"
        return
    for index, entry in enumerate(value):
        if schema.get("uniqueItems") and any(same(entry, earlier) for earlier in value[:index]):
            yield (*path, index), "is given twice"
        yield from violations(entry, schema.get("items", {}), (*path, index))


def _object(value: dict[str, Any], schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    if len(value) > schema.get("maxProperties", len(value)):
        yield path, f"has more than {schema['maxProperties']} keys"
        return
    if len(value) < schema.get("minProperties", 0):
        yield path, "must not be empty"
    known: Mapping[str, Any] = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    for name, entry in value.items():
        if name in known:
            yield from violations(entry, known[name], (*path, name))
        elif isinstance(rest, Mapping):
            yield from violations(entry, rest, (*path, name))
        elif rest is False:
            yield (*path, name), f"unknown key{nearest(name, list(known))}"
    for name in schema.get("required", ()):
        if name not in value:
            yield path, f"lacks {name}"


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_TYPE_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of keys",
    "null": "null",
}


def _has_type(value: Any, wanted: str | list[str]) -> bool:
    if isinstance(wanted, list):
        return any(_has_type(value, one) for one in wanted)
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _type_words(schema: Mapping[str, Any]) -> str:
    wanted = schema["type"]
    return " or ".join(_TYPE_WORDS[one] for one in ([wanted] if isinstance(wanted, str) else wanted))


def _type_hint(value: Any, schema: Mapping[str, Any]) -> str:
    if schema["type"] == "string" and not isinstance(value, dict | list | None):
        return "; put it in quotes"
    if schema["type"] == "array" and isinstance(value, str):
        return f"; write [{value}]"
    return ""


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a group of keys"


def _plain(word: str) -> str:
    """`client_max_chars`, `client-max-chars` and `clientMaxChars` are one."""
    return re.sub(r"[_-]", "", word).lower()


def _choice(words: Sequence[str]) -> str:
    few = 12
    return ", ".join(words) if len(words) <= few else f"the {len(words)} known words"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), default=str)
    longest = 60
    return text if len(text) <= longest else f"{text[:longest]}…"
