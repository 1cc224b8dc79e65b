"""One policy document as a value, read from the plain data of its file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from relay.core.policy_check import Kind, Path, Problem, Severity, Source, violations
from relay.core.policy_paths import FORBIDDEN_FIELDS, PREVIEW_FIELDS
from relay.core.policy_schema import INSTRUCTIONS_MAX_BYTES, POLICY_SCHEMA

ANY = "*"
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_EVENT = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Match:
    """Whom a document is for; None: the key is not given, so anybody."""

    priority: int = 0
    default: bool = False
    tenants: tuple[str, ...] | None = None
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    origins: tuple[str, ...] | None = None
    deployments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """What one document says. In `spec` instructions from a file stand as text; `match` None: only to be extended."""

    name: str
    spec: Mapping[str, Any] = field(repr=False)
    match: Match | None = None
    extends: tuple[str, ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()
    version: str = ""
    owner: str = ""
    source: Source = field(default_factory=Source, repr=False)

    def error(self, path: tuple[str | int, ...], message: str) -> Problem:
        """An error at a path of this document."""
        return self.source.problem(Severity.ERROR, path, message, self.name)

    def warning(self, path: tuple[str | int, ...], message: str) -> Problem:
        """A warning at a path of this document."""
        return self.source.problem(Severity.WARNING, path, message, self.name)


class UnreadableText(Exception):  # noqa: N818 - a problem of a document
    """The file of instructions cannot be used; the message says why."""


def read_document(
    data: Any, source: Source | None = None, text_of: Callable[[str], str] | None = None
) -> tuple[PolicyDocument | None, list[Problem]]:
    """The document, or None and what is wrong with it. `text_of` reads a `file:`; it raises UnreadableText."""
    source = replace(source or Source(), schema=POLICY_SCHEMA)
    data = _plain_numbers(data)
    name = _name_of(data)
    problems = [
        source.problem(Severity.ERROR, path, _field_words(path) or message, name, Kind.FORM)
        for path, message in (*_no_text(data, ()), *violations(data, POLICY_SCHEMA))
    ]
    if problems:
        return None, problems
    metadata, spec = data["metadata"], data["spec"]
    instructions = dict(spec.get("instructions", {}))
    try:
        text = _text(instructions, text_of)
    except UnreadableText as error:
        key = "file" if "file" in instructions else "text"
        return None, [source.problem(Severity.ERROR, ("spec", "instructions", key), str(error), name, Kind.FORM)]
    if text is not None:
        instructions.pop("file", None)
        instructions["text"] = text
        spec = {**spec, "instructions": instructions}
    document = PolicyDocument(
        name=name,
        spec=spec,
        match=_match(spec["match"]) if "match" in spec else None,
        extends=tuple(spec.get("extends", ())),
        tests=tuple(spec.get("tests", ())),
        version=metadata.get("version", ""),
        owner=metadata.get("owner", ""),
        source=source,
    )
    return document, []


def _no_text(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Characters that no text has: they would be invisible in a log or a list, and some cannot be sent at all.

    An event in a test may hold any but half a surrogate pair: what such an event does is worth a test.
    """
    match value:
        case str():
            if path[-2:] == ("instructions", "text"):
                return  # line ends are made one kind before it is looked at
            if found := (_NO_EVENT if path[:2] == ("spec", "tests") else _NO_TEXT).search(value):
                yield path, f"holds a control character (U+{ord(found[0]):04X})"
        case list():
            for index, entry in enumerate(value):
                yield from _no_text(entry, (*path, index))
        case dict():
            for key, entry in value.items():
                if found := _NO_NAME.search(key):
                    yield (*path, key), f"a key holds a control character (U+{ord(found[0]):04X})"
                yield from _no_text(entry, (*path, key))


def _field_words(path: tuple[str | int, ...]) -> str:
    """What to say of a session field that no rule can name; empty for all else."""
    match path:
        case ("spec", "session", "fields", str(name)) if name in FORBIDDEN_FIELDS:
            return f"no rule can give it to a client: {FORBIDDEN_FIELDS[name]}"
        case ("spec", "session", "fields", str(name)) if name in PREVIEW_FIELDS:
            return f"is the preview's name; write {PREVIEW_FIELDS[name]}, which holds for both"
    return ""


def _text(instructions: Mapping[str, Any], text_of: Callable[[str], str] | None) -> str | None:
    """The instructions, without white space around them: the service's echo is compared exactly and may not keep it."""
    if "text" in instructions and "file" in instructions:
        raise UnreadableText("stands beside text; give one of the two")
    if "file" in instructions:
        if text_of is None:
            raise UnreadableText("there are no files here; give text")
        text = text_of(instructions["file"])
    elif "text" in instructions:
        text = instructions["text"]
    else:
        return None
    text = text.replace("\r\n", "\n").strip()
    if found := _NO_TEXT.search(text):
        raise UnreadableText(f"holds a control character (U+{ord(found[0]):04X})")
    if len(text.encode()) > INSTRUCTIONS_MAX_BYTES:
        raise UnreadableText(f"holds more than {INSTRUCTIONS_MAX_BYTES} bytes")
    return text


def _match(match: Mapping[str, Any]) -> Match:
    def names(key: str) -> tuple[str, ...] | None:
        return tuple(match[key]) if key in match else None

    return Match(
        priority=match.get("priority", 0),
        default=match.get("default", False),
        tenants=names("tenants"),
        claims={name: tuple(values) for name, values in match.get("claims", {}).items()},
        origins=names("origins"),
        deployments=names("deployments"),
    )


def _name_of(data: Any) -> str:
    match data:
        case {"metadata": {"name": str(name)}}:
            return name[:64].encode("ascii", "replace").decode()
    return ""


def _plain_numbers(value: Any) -> Any:
    """`1.0` is `1`: one number has one form, and one hash."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain_numbers(entry) for entry in value]
        case dict():
            return {key: _plain_numbers(entry) for key, entry in value.items()}
        case _:
            return value
