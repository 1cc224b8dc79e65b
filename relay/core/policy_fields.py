"""Rules of session fields as documents write them: what one allows, and what two of them allow together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.core.policy_check import same
from relay.core.policy_paths import CLOSED_FIELDS, INNER_FIELDS, LOCK_ONLY_FIELDS
from relay.core.policy_rules import FieldRule, Strictness

WrittenRule = dict[str, Any]
_NOTHING: WrittenRule = {"allow": []}


def rule_of(session: Mapping[str, Any], path: str) -> WrittenRule:
    """The rule of a field: its own, or what `default` means for it; nothing at all where neither is given.

    A rule for a member opens the field around it.
    """
    fields = session.get("fields", {})
    if path in fields:
        return normal(fields[path])
    if path in INNER_FIELDS or any(outer_of(inner) == path for inner in fields):
        return {}
    match session.get("default"):
        case "strip" | "refuse" as word:
            return {**_NOTHING, "otherwise": word}
        case "allow" if path in (*CLOSED_FIELDS, *LOCK_ONLY_FIELDS):
            return dict(_NOTHING)
        case _:
            return {}


def outer_of(path: str) -> str | None:
    """The field that a member belongs to; None for a field."""
    return path.rpartition(".")[0] if path in INNER_FIELDS else None


def normal(rule: Mapping[str, Any]) -> WrittenRule:
    """One form for rules that mean the same: a lock, or no allowed value, leaves nothing else to say."""
    if "lock" in rule:
        return {key: rule[key] for key in ("lock", "otherwise") if key in rule}
    if rule.get("allow") == []:
        return {key: rule[key] for key in ("allow", "otherwise") if key in rule}
    return dict(rule)


def meet_rules(base: Mapping[str, Any], child: Mapping[str, Any]) -> WrittenRule:
    """Both rules at once. A lock stays; one that the base does not allow leaves the client, and the child, nothing."""
    met: WrittenRule
    base, child = normal(base), normal(child)
    if "lock" in base:
        met = {"lock": base["lock"]}
    elif "lock" in child:
        met = {"lock": child["lock"]} if permits(base, child["lock"]) else dict(_NOTHING)
    else:
        met = _meet_open(base, child)
    strictness = [rule["otherwise"] for rule in (base, child) if "otherwise" in rule]
    if strictness:
        met["otherwise"] = "refuse" if "refuse" in strictness else "strip"
    return normal(met)


def _meet_open(base: Mapping[str, Any], child: Mapping[str, Any]) -> WrittenRule:
    met: WrittenRule = {}
    if "allow" in base and "allow" in child:
        met["allow"] = [value for value in base["allow"] if any(same(value, other) for other in child["allow"])]
    elif "allow" in base or "allow" in child:
        met["allow"] = base.get("allow", child.get("allow"))
    for key, pick in (("min", max), ("max", min)):
        bounds = [rule[key] for rule in (base, child) if key in rule]
        if bounds:
            met[key] = pick(bounds)
    for rule in (base, child):
        if "default" in rule:
            met["default"] = rule["default"]
    return met


def permits(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether a value may be in force under a rule."""
    if "lock" in rule:
        return same(rule["lock"], value)
    if "allow" in rule and not any(same(value, allowed) for allowed in rule["allow"]):
        return False
    if "min" not in rule and "max" not in rule:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value == "inf" and "max" not in rule
    return bool(rule.get("min", value) <= value <= rule.get("max", value))


def field_rule(rule: Mapping[str, Any]) -> FieldRule:
    """The rule as the engine reads it. A default that bases do not allow gives way to the first value they do."""
    rule = normal(rule)
    has_default, default = "default" in rule, rule.get("default")
    if has_default and not permits(rule, default):
        fitting = [value for value in rule.get("allow", ()) if permits(rule, value)]
        has_default, default = bool(fitting), fitting[0] if fitting else None
    return FieldRule(
        has_lock="lock" in rule,
        lock=rule.get("lock"),
        has_default=has_default,
        default=default,
        allow=tuple(rule["allow"]) if "allow" in rule else None,
        minimum=rule.get("min"),
        maximum=rule.get("max"),
        otherwise=Strictness(rule.get("otherwise", "strip")),
    )
