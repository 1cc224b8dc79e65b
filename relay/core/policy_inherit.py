"""How documents combine: a child can make what its bases say tighter, never looser.

What a document says is a flat value, `{"instructions.client": "append", …}`, with nothing for what it leaves open.
`meet` combines two of them as the `x-inherit` words of the schema say; it is associative and idempotent, and what it
returns allows nothing that the first does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relay.core.policy_check import same
from relay.core.policy_fields import meet_rules, normal, outer_of, rule_of
from relay.core.policy_schema import SPEC
from relay.core.policy_shapes import Schema

Said = dict[str, Any]
"""Path in `spec` → value. `instructions.text` is a list of [document, text]; `session` keeps its two keys."""


def _leaves(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    for name, part in schema.get("properties", {}).items():
        if "x-inherit" in part:
            yield f"{prefix}{name}", part
        else:
            yield from _leaves(part, f"{prefix}{name}.")


LEAVES: dict[str, Schema] = dict(_leaves(SPEC))
"""Every value that inheritance decides, by its path in `spec`."""


def said_by(spec: Mapping[str, Any], document: str) -> Said:
    """What one document says. Its instructions stand in `text`; a list of client functions closes the rest."""
    said: Said = {}
    for path in LEAVES:
        value: Any = spec
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            said[path] = value
    if "instructions.text" in said:
        said["instructions.text"] = [[document, said["instructions.text"]]]
    if "tools.client" in said:
        said.setdefault("tools.clientFunctions", "strip")
    if said.get("tools.clientFunctions", "allow") != "allow":
        said.setdefault("tools.client", [])
    if "session" in said:
        # The field around a member is spelled out: a rule for the member would open one that a base leaves closed.
        fields = said["session"].get("fields", {})
        around: dict[str, Any] = {outer: {} for inner in fields if (outer := outer_of(inner)) is not None}
        fields = {**around, **{path: normal(rule) for path, rule in fields.items()}}
        said["session"] = {**said["session"], "fields": fields}
    return said


def completed(said: Said) -> Said:
    """What a document without bases says, the relay's own defaults filled in."""
    defaults = {
        path: schema["default"]
        for path, schema in LEAVES.items()
        if "default" in schema and schema["x-inherit"] != "last"
    }
    session = {"default": "allow", "fields": {}} | said.get("session", {})
    return defaults | said | {"session": session}


def meet(base: Said, child: Said) -> Said:
    """Both at once; where they differ the tighter holds."""
    met = dict(base)
    for path, value in child.items():
        met[path] = _MEET[LEAVES[path]["x-inherit"]](base[path], value, LEAVES[path]) if path in base else value
    return met


def loosened(base: Said, child: Said) -> Iterator[tuple[str, str]]:
    """Where a child says more than its base allows: the path, and words for it. What holds is `meet` all the same."""
    for path, value in child.items():
        if path not in base:
            continue
        kind = LEAVES[path]["x-inherit"]
        met = meet({path: base[path]}, {path: value})[path]
        if kind == "session":
            yield from _loosened_session(met, value)
        elif kind in {"tightest", "all", "smallest", "smallest_but_zero", "first"} and not same(met, value):
            yield path, f"{_shown(value)} is looser than {_shown(met)} of the document it extends"
        elif kind in {"common", "common_keys", "common_names", "first_of_each"}:
            beyond = [_key(entry) for entry in _entries(value) if not _among(entry, _entries(met))]
            if beyond:
                yield path, f"{', '.join(beyond)}: not so in the document it extends"


def _loosened_session(met: Mapping[str, Any], child: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "default" in child and met["default"] != child["default"]:
        yield "session.default", f"{child['default']} is looser than {met['default']} of the document it extends"
    for path, rule in child.get("fields", {}).items():
        holds = rule_of(met, path)
        outer = outer_of(path)
        if outer and rule_of(met, outer).get("allow") == [] and not child["fields"].get(outer):
            yield f"session.fields.[{path}]", f"has no effect: the document it extends closes {outer}"
        for key, value in rule.items():
            if key == "default" or (key in holds and _as_tight(holds[key], value)):
                continue
            yield f"session.fields.[{path}].{key}", f"{_shown(value)} is not within the document it extends"


def _as_tight(holds: Any, value: Any) -> bool:
    if isinstance(holds, list) and isinstance(value, list):
        return all(any(same(entry, held) for held in holds) for entry in value)
    return same(holds, value)


def _entries(value: Any) -> list[Any]:
    return list(value.items()) if isinstance(value, dict) else list(value)


def _among(entry: Any, entries: list[Any]) -> bool:
    if isinstance(entry, dict):
        return any(entry["name"] == other["name"] and same({**other, **entry}, other) for other in entries)
    return any(same(list(entry), list(other)) if isinstance(entry, tuple) else same(entry, other) for other in entries)


def _key(entry: Any) -> str:
    match entry:
        case {"name": str(name)}:
            return name
        case (str(name), _):
            return name
        case _:
            return str(entry)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- one value -------------------------------------------------------------------------------------------------------


def _tightest(base: str, child: str, schema: Schema) -> str:
    words: list[str] = schema["enum"]
    return max(base, child, key=words.index)


def _smallest_but_zero(base: int, child: int, _schema: Schema) -> int:
    return min(base, child) if base and child else base or child


def _common_names(base: list[dict[str, Any]], child: list[dict[str, Any]], _schema: Schema) -> list[dict[str, Any]]:
    named = {entry["name"]: entry for entry in child}
    return [{**named[entry["name"]], **entry} for entry in base if entry["name"] in named]


def _union(base: list[Any], child: list[Any], _schema: Schema) -> list[Any]:
    """A base's entry stays where a child has another of the same name."""
    held = {_identity(entry) for entry in base}
    return [*base, *(entry for entry in child if _identity(entry) not in held)]


def _joined(base: list[list[str]], child: list[list[str]], _schema: Schema) -> list[list[str]]:
    held = {document for document, _ in base}
    return [*base, *(part for part in child if part[0] not in held)]


def _identity(entry: Any) -> Any:
    return (entry["type"], entry.get("name"), entry.get("server_label")) if isinstance(entry, dict) else entry


def _session(base: dict[str, Any], child: dict[str, Any], _schema: Schema) -> dict[str, Any]:
    words = ("allow", "strip", "refuse")
    paths = {**base.get("fields", {}), **child.get("fields", {})}
    met: dict[str, Any] = {"fields": {path: meet_rules(rule_of(base, path), rule_of(child, path)) for path in paths}}
    said = [session["default"] for session in (base, child) if "default" in session]
    return met | ({"default": max(said, key=words.index)} if said else {})


_MEET: dict[str, Callable[[Any, Any, Schema], Any]] = {
    "tightest": _tightest,
    "all": lambda base, child, _schema: base and child,
    "smallest": lambda base, child, _schema: min(base, child),
    "smallest_but_zero": _smallest_but_zero,
    "first": lambda base, _child, _schema: base,
    "last": lambda _base, child, _schema: child,
    "first_of_each": lambda base, child, _schema: {**child, **base},
    "common": lambda base, child, _schema: [entry for entry in base if entry in child],
    "common_keys": lambda base, child, _schema: {name: base[name] for name in base if name in child},
    "common_names": _common_names,
    "union": _union,
    "joined": _joined,
    "session": _session,
}
