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
    """One form for rules that mean the same: beside a lock nothing counts, and a default is one the rule can have."""
    if "lock" in rule:
        return {key: rule[key] for key in ("lock", "otherwise") if key in rule}
    plain = dict(rule)
    if "allow" in rule:
        plain["allow"] = [value for value in rule["allow"] if _within_bounds(rule, value)]
    if "default" in plain and not _has_room_for(plain, plain["default"]):
        default = plain.pop("default")
        if instead := _instead_of(default, plain):
            plain["default"] = instead[0]
    return plain


def freedom(rule: Mapping[str, Any]) -> WrittenRule:
    """What is left of a rule as far as clients can choose: equal for two rules that let them choose the same."""
    kept = {key: value for key, value in normal(rule).items() if key != "default"}
    if "lock" in kept or not _is_closed(kept):
        return kept
    return {key: value for key, value in ({**kept, "allow": []}).items() if key in ("allow", "otherwise")}


def meet_rules(base: Mapping[str, Any], child: Mapping[str, Any]) -> WrittenRule:
    """Both rules at once, and never a value that the base does not allow.

    A lock stays. A child's lock or bounds that leave no value which the base allows leave the client nothing, and the
    base's own default and bounds hold.
    """
    base, child = normal(base), normal(child)
    if "lock" in base:
        met = {"lock": base["lock"]}
    elif "lock" in child and permits(base, child["lock"]):
        met = {"lock": child["lock"]}
    else:
        met = _meet_open(base, child)
    strictness = [rule["otherwise"] for rule in (base, child) if "otherwise" in rule]
    if strictness:
        met["otherwise"] = "refuse" if "refuse" in strictness else "strip"
    return met


def _meet_open(base: Mapping[str, Any], child: Mapping[str, Any]) -> WrittenRule:
    own = {key: base[key] for key in ("default", "min", "max") if key in base}
    bounds = {key: child[key] for key in ("min", "max") if key in child}
    if "lock" in child or base.get("allow") == [] or _is_closed(_common(base, bounds)):
        met: WrittenRule = {**own, "allow": []}
    else:
        met = {**({"default": base["default"]} if "default" in base else {}), **_common(base, child)}
    if "default" in child and permits(base, child["default"]):
        met["default"] = child["default"]
    return normal(met)


def _common(base: Mapping[str, Any], child: Mapping[str, Any]) -> WrittenRule:
    """The values that both allow."""
    met: WrittenRule = {}
    if "allow" in base and "allow" in child:
        met["allow"] = [value for value in base["allow"] if any(same(value, other) for other in child["allow"])]
    elif "allow" in base or "allow" in child:
        met["allow"] = base.get("allow", child.get("allow"))
    for key, pick in (("min", max), ("max", min)):
        bounds = [rule[key] for rule in (base, child) if key in rule]
        if bounds:
            met[key] = pick(bounds)
    return met


def permits(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether a value may be in force under a rule; under one that allows nothing, its default alone."""
    if "lock" in rule:
        return same(rule["lock"], value)
    if rule.get("allow") == []:
        return "default" in rule and same(rule["default"], value)
    if "allow" in rule and not any(same(value, allowed) for allowed in rule["allow"]):
        return False
    return _within_bounds(rule, value)


def field_rule(rule: Mapping[str, Any]) -> FieldRule:
    """The rule as the engine reads it."""
    rule = normal(rule)
    return FieldRule(
        has_lock="lock" in rule,
        lock=rule.get("lock"),
        has_default="default" in rule,
        default=rule.get("default"),
        allow=tuple(rule["allow"]) if "allow" in rule else None,
        minimum=rule.get("min"),
        maximum=rule.get("max"),
        otherwise=Strictness(rule.get("otherwise", "strip")),
    )


def with_cap(path: str, rule: WrittenRule, base: Mapping[str, Any] | None = None) -> WrittenRule:
    """A cap on tokens holds from the start: where a list goes with it, the base's too, by the largest of both."""
    if path != "max_output_tokens" or "max" not in rule or "default" in rule:
        return rule
    listed = rule.get("allow") or (base or {}).get("allow") or ()
    fitting = [value for value in listed if _within_bounds(rule, value)]
    return {**rule, "default": max(fitting)} if fitting else rule


def cap_of(rule: Mapping[str, Any]) -> float | None:
    """The most tokens that a session has under the rule of `max_output_tokens` before a client chooses; None: any."""
    for key in ("lock", "default", "max"):
        if key in rule and isinstance(rule[key], int | float) and not isinstance(rule[key], bool):
            return float(rule[key])
        if key in rule:
            return None
    return None


def _has_room_for(rule: Mapping[str, Any], default: Any) -> bool:
    """Whether a default can stand beside the rest of its rule: what no client may choose is the administrator's."""
    open_rule = {key: value for key, value in rule.items() if key != "allow"} if rule.get("allow") == [] else rule
    return permits(open_rule, default)


def _instead_of(default: Any, rule: Mapping[str, Any]) -> list[Any]:
    """What a default that its rule does not allow gives way to; empty where there is nothing."""
    if rule.get("allow"):
        return list(rule["allow"][:1])
    low, high = rule.get("min"), rule.get("max")
    if low is not None and high is not None and low > high:
        return []
    if default == "inf" and high is not None:
        return [high]
    if isinstance(default, bool) or not isinstance(default, int | float):
        return []
    return [low if low is not None and default < low else high]


def _is_closed(rule: Mapping[str, Any]) -> bool:
    """Whether no value at all is allowed."""
    if "allow" in rule:
        return not any(_within_bounds(rule, value) for value in rule["allow"])
    return bool("min" in rule and "max" in rule and rule["min"] > rule["max"])


def _within_bounds(rule: Mapping[str, Any], value: Any) -> bool:
    if "min" not in rule and "max" not in rule:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return bool(value == "inf" and "max" not in rule)
    return bool(rule.get("min", value) <= value <= rule.get("max", value))
