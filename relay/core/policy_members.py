"""Rules for members of a field (`turn_detection.create_response`) held against the rule of the field around them.

The engine puts a member's lock or default into whatever is in force around it. So what a child says of a member must
not reach into a value that its base has fixed as a whole, nor what it says of the whole get round a base's member.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.core.policy_check import same
from relay.core.policy_fields import WrittenRule, normal, outer_of, permits, rule_of
from relay.core.policy_paths import INNER_FIELDS

_OUTER_FIELDS = sorted({path.rpartition(".")[0] for path in INNER_FIELDS})


def settled(base: Mapping[str, Any], fields: Mapping[str, WrittenRule]) -> dict[str, WrittenRule]:
    """The rules that a base and its child have together, made so that no member's contradicts the field's around it.

    `base` is the `session` of the base. A child's rule that cannot be had without leaving what the base says is gone.
    """
    result = dict(fields)
    for outer in _OUTER_FIELDS:
        inner = {path: rule for path, rule in fields.items() if outer_of(path) == outer}
        if inner:
            for path in inner:
                del result[path]
            result[outer], kept = _one(base, outer, fields.get(outer, {}), inner)
            result |= kept
    return result


def _one(
    base: Mapping[str, Any], outer: str, rule: WrittenRule, inner: dict[str, WrittenRule]
) -> tuple[WrittenRule, dict[str, WrittenRule]]:
    around = rule_of(base, outer)
    own = {path: rule_of(base, path) for path in inner if path in base.get("fields", {})}
    if "lock" in around:
        return rule, {}
    if around.get("allow") == []:
        return rule, own
    if "lock" in rule:
        if suits(rule["lock"], own):
            return rule, {}
        closed = {key: value for key, value in {**around, **rule, "allow": []}.items() if key != "lock"}
        return _with_default(closed, own), own
    if around.get("allow"):
        rule, inner = _listed(rule, inner, own)
    elif "allow" in rule:
        rule = {**rule, "allow": [value for value in rule["allow"] if suits(value, inner)]}
    return _with_default(rule, inner), inner


def _listed(
    rule: WrittenRule, inner: dict[str, WrittenRule], own: dict[str, WrittenRule]
) -> tuple[WrittenRule, dict[str, WrittenRule]]:
    """The base lists whole values: of a child's member rules those count that leave one, and one of these is set."""
    kept = dict(inner)
    for path, wanted in inner.items():
        fitting = [value for value in rule.get("allow", ()) if suits(value, {path: wanted})]
        if fitting or rule.get("allow") == []:
            rule = {**rule, "allow": fitting}
        elif path in own:
            kept[path] = own[path]
        else:
            del kept[path]
    sets = any("lock" in one or "default" in one for path, one in kept.items() if path not in own)
    if sets and "default" not in rule and rule.get("allow"):
        rule = {**rule, "default": rule["allow"][0]}
    return rule, kept


def suits(value: Any, inner: Mapping[str, WrittenRule]) -> bool:
    """Whether a whole value stays as it is under the rules for its members."""
    if not isinstance(value, dict):
        return not any("lock" in rule for rule in inner.values())
    for path, rule in inner.items():
        member = path.rpartition(".")[2]
        if member in value and not permits(rule, value[member]):
            return False
        if member not in value and ("lock" in rule or "default" in rule):
            return False
    return True


def contradiction(path: str, rule: WrittenRule, inner: Mapping[str, WrittenRule]) -> str:
    """Why a field and its members cannot both be as one document says; empty when they can."""
    if "lock" in rule:
        return f"stands inside {path}, which is locked: write it there"
    if rule.get("allow") and not any(suits(value, inner) for value in rule["allow"]):
        return f"fits none of the values that {path} allows"
    default = rule.get("default")
    if isinstance(default, dict) and not same(_with_default(rule, inner).get("default"), default):
        return f"does not fit the default of {path}"
    return ""


def _with_default(rule: WrittenRule, inner: Mapping[str, WrittenRule]) -> WrittenRule:
    """The rule with its default's members within the bounds that members have."""
    if not isinstance(rule.get("default"), dict):
        return normal(rule)
    default = dict(rule["default"])
    for path, member_rule in inner.items():
        member = path.rpartition(".")[2]
        if member not in default or "lock" in member_rule or permits(member_rule, default[member]):
            continue
        fitted = normal({"default": default.pop(member), **member_rule})
        if "default" in fitted and permits(fitted, fitted["default"]) and fitted.get("allow") != []:
            default[member] = fitted["default"]
    return normal({**rule, "default": default})
