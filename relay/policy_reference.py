"""`docs/reference/policy.md`, written from the schema: a field that is not in the schema is in no document either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relay.core.policy_paths import FORBIDDEN_FIELDS
from relay.core.policy_schema import POLICY_SCHEMA
from relay.policy_yaml import MAX_VALUES

_FEW_WORDS = 7
_INHERIT = {
    "tightest": "the tighter",
    "all": "`true` if all say so",
    "smallest": "the smaller",
    "smallest_but_zero": "the smaller that is not 0",
    "common": "what all list",
    "common_keys": "the names all have, with the base's values",
    "common_names": "the names all list, the base's definitions",
    "union": "all together",
    "joined": "all, the base's first",
    "first": "the base's",
    "first_of_each": "all together, the base's values",
    "last": "the child's",
    "session": "by field, the tighter",
}

_HEAD = f"""\
# Policy documents

Written by `relay policy schema --markdown` from the schema that the relay checks documents against; a test compares.
`relay policy schema` prints that JSON Schema (draft 2020-12) for editors. How to write one: [govern.md](../govern.md).

- Keys not listed here are refused, with the line and the nearest key. `---` separates documents of one file.
- What YAML 1.1 and 1.2 read differently is refused: write `true` and `false`, decimal numbers, and quote the rest
  (`"no"`, `"2026-11-20"`, `"1.10"` where text belongs). Duplicate keys, tags, anchors and aliases are refused,
  and so is a file of more than {MAX_VALUES:,} values, keys counted too.
- The last column says what holds in a document that `extends` others. A child that would loosen is an error, and the
  tighter holds all the same.
"""

_RULES = """\
## Rules of session fields

Each of these paths in `spec.session.fields` takes the keys below. In a child a lock stays, lists are cut to what is
common, bounds to the tighter; its `default` counts as far as the rule allows it.
"""

_FORBIDDEN = """\
No rule can name these: they are never a client's.
"""


def reference_markdown() -> str:
    """The whole page."""
    spec = POLICY_SCHEMA["properties"]["spec"]
    fields = spec["properties"]["session"]["properties"]["fields"]["properties"]
    parts = [_HEAD, "## The document\n", _table(_document_rows())]
    for name, group in spec["properties"].items():
        if "properties" in group:
            parts += [f"## {name}\n", f"{group['description']}\n", _table(_rows(group, f"spec.{name}"))]
    test = spec["properties"]["tests"]["items"]
    parts += ["## tests\n", f"{test['description']}\n", _table(_rows(test, "spec.tests[]"))]
    parts += [_RULES, _table(_field_rows(fields), ("field", "meaning"))]
    rule = next(iter(fields.values()))
    parts += [_table(_rows(rule, "…", inherits=False), ("key", "type", "default", "meaning"))]
    forbidden = ([f"`{path}`", why] for path, why in FORBIDDEN_FIELDS.items())
    parts += [_FORBIDDEN, _table(forbidden, ("field", "why"))]
    return "\n".join(parts)


def _document_rows() -> Iterator[list[str]]:
    for name, part in POLICY_SCHEMA["properties"].items():
        if name == "spec":
            yield from (
                _row(f"spec.{key}", value) for key, value in part["properties"].items() if "properties" not in value
            )
        elif "properties" in part:
            yield from _rows(part, name)
        else:
            yield _row(name, part)


def _field_rows(fields: Mapping[str, Any]) -> Iterator[list[str]]:
    return ([f"`{path}`", rule["description"]] for path, rule in fields.items())


def _rows(group: Mapping[str, Any], prefix: str, *, inherits: bool = True) -> Iterator[list[str]]:
    for name, part in group["properties"].items():
        path = f"{prefix}.{name}"
        row = _row(path, part)
        yield row if inherits else row[:4]
        if path == "spec.session.fields":
            continue
        if "properties" in part:
            yield from _rows(part, path, inherits=inherits)
        elif "properties" in part.get("items", {}):
            yield from _rows(part["items"], f"{path}[]", inherits=inherits)


def _row(path: str, part: Mapping[str, Any]) -> list[str]:
    default = part.get("default")
    written = "\N{EN DASH}" if default is None else f"`{_written(default)}`"
    kind = "session" if path.startswith("spec.session.") else part.get("x-inherit", "")
    inherited = _INHERIT.get(kind, "\N{EN DASH}")
    return [f"`{path.removeprefix('….')}`", _type(part), written, part["description"], inherited]


def _type(part: Mapping[str, Any]) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return _words(part)
    kind = part.get("type", "any")
    if isinstance(kind, list):
        return "an event or its text"
    if kind == "array" and "enum" in part.get("items", {}):
        return f"list of {_words(part['items'])}"
    bounds = ""
    if "maxLength" in part:
        bounds = f", up to {part['maxLength']}"
    elif "maximum" in part:
        bounds = f", {part['minimum']} to {part['maximum']}"
    return _KINDS[kind] + bounds


_KINDS = {
    "any": "any",
    "array": "list",
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "object": "keys",
    "string": "text",
}


def _words(part: Mapping[str, Any]) -> str:
    words = part["enum"]
    if "x-see" in part:
        return f"one of [{part['x-see']}](metrics.md)"
    if len(words) > _FEW_WORDS and "default" not in part:
        return f"{len(words)} known words"
    return ", ".join(f"`{word}`" for word in words)


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(map(str, value)) + "]"
        case _:
            return str(value)


def _table(rows: Any, head: tuple[str, ...] = ("key", "type", "default", "meaning", "in a child")) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"
