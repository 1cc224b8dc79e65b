"""What a change of documents means: which policy became tighter or looser, and in what.

Policies are compared as they resolve, with all they extend: a change of a base shows in every document built on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.core.policy_check import same
from relay.core.policy_document import PolicyDocument
from relay.core.policy_fields import cap_of, freedom, meet_rules, rule_of
from relay.core.policy_inherit import LEAVES, Said, meet
from relay.core.policy_resolve import merged


class Direction(StrEnum):
    """LOOSER: something is allowed that was not, whatever else became tighter. CHANGED: neither can be said."""

    TIGHTER = "tighter"
    LOOSER = "looser"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. Instructions are shown as hash and length, never as text."""

    document: str
    path: str
    old: str
    new: str
    direction: Direction


def diff(old: Sequence[PolicyDocument], new: Sequence[PolicyDocument]) -> Iterator[Change]:
    """All differences between two sound sets of documents, by document. Raises Unresolved for a set that is not."""
    before = {document.name: document for document in old}
    after = {document.name: document for document in new}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            # Its sessions fall to another document, or to none.
            yield Change(name, "", "a document", "nothing", Direction.CHANGED)
        elif name not in before:
            yield Change(name, "", "nothing", "a document", Direction.CHANGED)
        else:
            yield from _matching(before[name], after[name])
            yield from compare(name, merged(old, name)[0], merged(new, name)[0])


def compare(name: str, old: Said, new: Said) -> Iterator[Change]:
    """The differences between what two policies say."""
    for path in LEAVES:
        was, is_now = old.get(path), new.get(path)
        if path == "session":
            yield from _session(name, was or {}, is_now or {})
        elif path == "instructions.text":
            if _joined(was) != _joined(is_now):
                yield Change(name, path, _fingerprint(was), _fingerprint(is_now), Direction.CHANGED)
        elif not _alike(was, is_now):
            direction = _models(old, was, is_now) if path == "upstream.models" else _direction(path, was, is_now)
            yield Change(name, path, _shown(was), _shown(is_now), direction)


def _matching(old: PolicyDocument, new: PolicyDocument) -> Iterator[Change]:
    before, after = old.spec.get("match"), new.spec.get("match")
    if not same(before, after):
        yield Change(new.name, "match", _shown(before), _shown(after), Direction.CHANGED)


_UNORDERED = frozenset({"first", "last", "first_of_each", "joined"})


def _direction(path: str, old: Any, new: Any) -> Direction:
    kind = LEAVES[path]["x-inherit"]
    if path == "instructions.allowEmpty":
        return Direction.LOOSER if new else Direction.TIGHTER
    if kind in _UNORDERED or path == "tools.admin":
        return Direction.CHANGED
    if kind == "common_keys":
        return Direction.CHANGED  # a name that is not listed is served too, by the default
    if old is None:
        return Direction.TIGHTER
    if new is None:
        return Direction.LOOSER
    met = meet({path: old}, {path: new})[path]
    return Direction.TIGHTER if _alike(met, new) else Direction.LOOSER


def _models(policy: Said, old: Any, new: Any) -> Direction:
    """Where names that are not listed are refused, each one more is granted; elsewhere it is served already."""
    if policy.get("upstream.unknown") != "refuse":
        return Direction.CHANGED
    old, new = old or {}, new or {}
    if new.keys() - old.keys():
        return Direction.LOOSER
    return Direction.TIGHTER if all(same(old[name], new[name]) for name in new) else Direction.CHANGED


def _alike(one: Any, other: Any) -> bool:
    """Equal, whatever the order of a list."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    return same(one, other)


def _session(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    words = ("allow", "strip", "refuse")
    was, is_now = old.get("default", "allow"), new.get("default", "allow")
    if was != is_now:
        looser = words.index(is_now) < words.index(was)
        yield Change(name, "session.default", was, is_now, Direction.LOOSER if looser else Direction.TIGHTER)
    for path in sorted({*old.get("fields", {}), *new.get("fields", {})}):
        before, after = rule_of(old, path), rule_of(new, path)
        if not same(_plain(before), _plain(after)):
            direction = _rule_direction(before, after)
            if path == "max_output_tokens":
                direction = _token_direction(before, after, direction)
            yield Change(name, f"session.fields[{path}]", _shown(before), _shown(after), direction)


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    """`otherwise: strip` is what holds without it."""
    return {key: value for key, value in rule.items() if (key, value) != ("otherwise", "strip")}


def _rule_direction(old: Mapping[str, Any], new: Mapping[str, Any]) -> Direction:
    """By what a client may choose; another lock or default alone is neither."""
    if "lock" in old and "lock" in new and not same(old["lock"], new["lock"]):
        return Direction.CHANGED
    before, after = _plain(freedom(old)), _plain(freedom(new))
    if before.keys() == after.keys() and all(_alike(before[key], after[key]) for key in before):
        return Direction.CHANGED
    met = _plain(freedom(meet_rules(before, after)))
    if met.keys() == after.keys() and all(_alike(met[key], after[key]) for key in met):
        return Direction.TIGHTER
    return Direction.LOOSER


def _token_direction(old: Mapping[str, Any], new: Mapping[str, Any], direction: Direction) -> Direction:
    """The cap before a client chooses counts too: it costs money."""
    was, is_now = cap_of(old), cap_of(new)
    if was is not None and (is_now is None or is_now > was):
        return Direction.LOOSER
    if "lock" in old and "lock" in new and is_now != was:
        return Direction.TIGHTER
    return direction


def _joined(parts: Any) -> str:
    return "\n\n".join(text for _, text in parts or () if text)


def _fingerprint(parts: Any) -> str:
    text = _joined(parts)
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}" if text else "nothing"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "not given"
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(_shown(entry) for entry in value) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {_shown(entry)}" for key, entry in value.items()) + "}"
        case _:
            return str(value)
