"""How documents combine: a child can make what its bases say tighter, never looser.

What a document says is a flat value, `{"instructions.client": "append", …}`, with nothing for what it leaves open.
`meet` combines two of them as the `x-inherit` words of the schema say: it is idempotent, and what it returns allows
nothing that the first does not. Documents are combined from the bases down; a default, and what a document grants where
its bases are silent, depends on what stands below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relay.core.policy_check import same
from relay.core.policy_fields import freedom, meet_rules, normal, outer_of, permits, rule_of, with_cap
from relay.core.policy_members import settled, suits
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
        fields = {**around, **{path: with_cap(path, normal(rule)) for path, rule in fields.items()}}
        said["session"] = {**said["session"], "fields": settled({}, fields)}
    return said


def completed(said: Said) -> Said:
    """What a document without bases says, the relay's own defaults filled in."""
    defaults = {
        path: schema["default"]
        for path, schema in LEAVES.items()
        if "default" in schema and schema["x-inherit"] != "last"
    }
    session = {"default": "allow", "fields": {}} | said.get("session", {})
    return _all_granted(defaults | said | {"session": session})


def meet(base: Said, child: Said) -> Said:
    """Both at once; where they differ the tighter holds."""
    met = base = _all_granted(base)
    for path, value in child.items():
        met = met | {path: _MEET[LEAVES[path]["x-inherit"]](base[path], value, LEAVES[path]) if path in base else value}
    return _all_granted(met)


def _all_granted(said: Said) -> Said:
    """Where names that are not listed are refused and none is listed, the list is there and empty."""
    return {"upstream.models": {}, **said} if said.get("upstream.unknown") == "refuse" else said


def loosened(base: Said, child: Said) -> Iterator[tuple[str, str]]:
    """Where a child says more than its base allows: the path, and words for it. What holds is `meet` all the same."""
    for path, value in child.items():
        if path not in base:
            continue
        kind = LEAVES[path]["x-inherit"]
        met = meet({path: base[path]}, {path: value})[path]
        if kind == "session":
            yield from _loosened_session(base[path], met, value)
        elif kind in {"tightest", "all", "smallest", "smallest_but_zero", "first"} and not same(met, value):
            yield path, f"{_shown(value)} is looser than {_shown(met)} of the document it extends"
        elif kind in {"common", "common_keys", "common_names", "first_of_each"}:
            beyond = [_key(entry) for entry in _entries(value) if not _among(entry, _entries(met))]
            if beyond:
                yield path, f"{', '.join(beyond)}: not so in the document it extends"


def _loosened_session(
    base: Mapping[str, Any], met: Mapping[str, Any], child: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    if "default" in child and met["default"] != child["default"]:
        yield "session.default", f"{child['default']} is looser than {met['default']} of the document it extends"
    for path, rule in child.get("fields", {}).items():
        outer = outer_of(path)
        if outer and path not in met["fields"]:
            around = rule_of(base, outer)
            if not ("lock" in around and suits(around["lock"], {path: rule})):
                word = "locks" if "lock" in around else "closes" if around.get("allow") == [] else "lists"
                yield f"session.fields.[{path}]", f"has no effect: the document it extends {word} {outer}"
            continue
        holds = rule_of(met, path)
        for key, value in rule.items():
            fits = permits(rule_of(base, path), value) if key == "default" else _as_tight(holds.get(key, ...), value)
            if not fits:
                yield f"session.fields.[{path}].{key}", f"{_shown(value)} is not within the document it extends"


def conflicts(one: Said, other: Said) -> Iterator[tuple[str, str]]:
    """Where two bases of one document cannot both have what they say: the path, and words for it."""
    for path in one.keys() & other.keys():
        kind, a, b = LEAVES[path]["x-inherit"], one[path], other[path]
        match kind:
            case "first" if not same(a, b):
                yield path, f"{_shown(a)} and {_shown(b)}"
            case "first_of_each" | "common_keys":
                unlike = [name for name in a if name in b and not same(a[name], b[name])]
                yield from ((path, f"{name} is not the same") for name in unlike)
            case "common_names" | "union":
                named = {_identity(entry): entry for entry in a if isinstance(entry, dict)}
                for entry in b:
                    if isinstance(entry, dict) and not same(named.get(_identity(entry), entry), entry):
                        yield path, f"{_key(entry)} is not the same"
            case "session":
                yield from _conflicting_fields(a, b)


def _conflicting_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    met = _session(dict(one), dict(other), {})
    for path in one["fields"].keys() | other["fields"].keys():
        a, b, both = rule_of(one, path), rule_of(other, path), rule_of(met, path)
        if "lock" in a or "lock" in b:
            clash = not (permits(b, a["lock"]) if "lock" in a else permits(a, b["lock"]))
        elif outer_of(path) and path not in met["fields"]:
            clash = bool(b) and not _suited(met, path, b)
        else:
            clash = _is_shut(both) and not _is_shut(a) and not _is_shut(b)
        if clash:
            yield f"session.fields.[{path}]", "no value is as both say"


def _is_shut(rule: Mapping[str, Any]) -> bool:
    return freedom(rule).get("allow") == []


def _suited(met: Mapping[str, Any], path: str, rule: Mapping[str, Any]) -> bool:
    around = rule_of(met, str(outer_of(path)))
    return "lock" in around and suits(around["lock"], {path: dict(rule)})


def _as_tight(holds: Any, value: Any) -> bool:
    if holds is ...:
        return False
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
    if not isinstance(entry, dict):
        return entry
    return (entry.get("type"), entry.get("name"), entry.get("server_label"))


def _session(base: dict[str, Any], child: dict[str, Any], _schema: Schema) -> dict[str, Any]:
    words = ("allow", "strip", "refuse")
    paths = {**base.get("fields", {}), **child.get("fields", {})}
    fields = {}
    for path in paths:
        own = rule_of(base, path)
        fields[path] = with_cap(path, meet_rules(own, rule_of(child, path)), own)
    met: dict[str, Any] = {"fields": settled(base, fields)}
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
