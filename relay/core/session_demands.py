"""What a session, as the service shows it, has otherwise than its policy wants it. Compared is what was asked for.

A service may show more than it was sent, leave out what it does not know, and write a number in another way: members
that nobody asked for and members that are not shown say nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit
from relay.core.session_fields import SERVICE_DEFAULTS, leaves, well_formed
from relay.core.session_rules import ABSENT, SETTABLE, Refused, allowed_value, field_of, rules_of, same, setting
from relay.core.tool_rules import admin_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from relay.core.policy import EffectivePolicy
    from relay.core.policy_rules import ToolRules

_TRANSCRIPTION = "audio.input.transcription"
_TOOL_MEMBERS = ("description", "parameters")


@dataclass(frozen=True, slots=True)
class Demands:
    """Values that fields have to get, by GA path, whole: what is `locked` in them, and what other rules bound."""

    locked: dict[str, Any] = field(default_factory=dict)
    bounded: dict[str, Any] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, Any]:
        """Both."""
        return {**self.bounded, **self.locked}


def demands(policy: EffectivePolicy, session: Mapping[str, Any]) -> Demands:
    """Judge the fields that a GA session of the service shows, by the rules that set or bound them."""
    found = Demands()
    governed = {field_of(path) for path in policy.fields}
    for path, value in leaves(well_formed(dict(session))):
        if path in SETTABLE and path in governed:
            _judge(found, path, value, policy, Proof())
    return found


@dataclass(frozen=True, slots=True)
class Proof:
    """What is asked of a policy that takes another one's place, beyond what the session shows.

    `sent` are the values that the service took, by path: they count where the session shows none. `chosen` are the
    fields that the client set: what the policy does not leave to clients goes back to what the service does by itself.
    """

    sent: Mapping[str, Any] | None = None
    chosen: Collection[str] = ()


def unproved(policy: EffectivePolicy, session: Mapping[str, Any], proof: Proof) -> Demands:
    """Judge the fields as `demands` does; a lock that is neither shown nor known to have been taken does not hold."""
    found = Demands()
    shown = dict(leaves(well_formed(dict(session))))
    for path in sorted({field_of(path) for path in policy.fields} | set(proof.chosen)):
        if path in SETTABLE:
            _judge(found, path, shown.get(path, ABSENT), policy, proof)
    return found


def _judge(found: Demands, path: str, value: Any, policy: EffectivePolicy, proof: Proof) -> None:
    if (whole := _locked(path, value, policy, proof)) is not ABSENT:
        found.locked[path] = whole
    elif value is not ABSENT:
        wanted = _bounded(path, value, policy, replaced=proof.sent is not None)
        if wanted is not ABSENT:
            found.bounded[path] = wanted


def _locked(path: str, value: Any, policy: EffectivePolicy, proof: Proof) -> Any:
    """The whole value to send where a lock does not hold; ABSENT where all do."""
    rules = rules_of(path, policy)
    if not any(rule.has_lock for rule in rules.values()):
        return ABSENT
    known = value
    if proof.sent is not None:
        sent = proof.sent.get(path, ABSENT)
        known = sent if value is ABSENT else value
        if isinstance(sent, dict) and isinstance(value, dict):
            known = {**sent, **value}
    outer = rules.get(path)
    if outer is not None and outer.has_lock:
        wanted = setting(path, policy)
        return ABSENT if known is not ABSENT and agrees(wanted, known, whole=proof.sent is not None) else wanted
    locks = {name[len(path) + 1 :]: rule.lock for name, rule in rules.items() if rule.has_lock}
    if isinstance(known, dict) and agrees(locks, known, whole=proof.sent is not None):
        return ABSENT
    return setting(path, policy, value) if isinstance(value, dict) else setting(path, policy)


def _bounded(path: str, value: Any, policy: EffectivePolicy, *, replaced: bool) -> Any:
    """The whole value to send where the policy would not take this one from a client; ABSENT where it would."""
    rules = rules_of(path, policy)
    outer = rules.get(path)
    if (outer is not None and outer.has_lock) or (path == _TRANSCRIPTION and outer is not None and outer.allow):
        return ABSENT  # a list of transcription models has the clients' names for them
    try:
        decided = allowed_value(path, value, policy, path)
    except (Unfit, Refused, EventError):
        wanted = setting(path, policy)
        if wanted is ABSENT and replaced:
            allowed = outer.allow if outer is not None else None
            wanted = allowed[0] if allowed else SERVICE_DEFAULTS.get(path, ABSENT)
        return ABSENT if wanted is ABSENT or agrees(wanted, value) else wanted
    members = [name[len(path) + 1 :] for name in rules if name != path]
    if agrees(decided, value) and not any(_lacks(decided, value, member) for member in members):
        return ABSENT
    return decided


def _lacks(decided: Any, value: Any, member: str) -> bool:
    return isinstance(value, dict) and isinstance(decided, dict) and member in value and member not in decided


def agrees(wanted: Any, shown: Any, *, whole: bool = False) -> bool:
    """Whether a shown value is what was asked for, as far as it says; `whole`: it has to say all of it."""
    if isinstance(wanted, dict) and isinstance(shown, dict):
        return all(
            agrees(value, shown[name], whole=whole) if name in shown else value is None or not whole
            for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple) and isinstance(shown, list):
        return len(wanted) == len(shown) and all(
            agrees(one, other, whole=whole) for one, other in zip(wanted, shown, strict=True)
        )
    return same(wanted, shown)


# --- tools -----------------------------------------------------------------------------------------------------------


class ToolsShown(Enum):
    """How the tools of the service compare with those that were asked for."""

    AS_ASKED = auto()
    REWORDED = auto()
    OTHERS = auto()


def compare_tools(wanted: Sequence[Mapping[str, Any]], shown: Any, rules: ToolRules) -> ToolsShown:
    """Compare them by kind and name: one too many, or one of the administrator's missing, are OTHERS.

    A client's function that is missing is the client's affair.
    """
    if not isinstance(shown, list):
        return ToolsShown.AS_ASKED  # nothing is said of tools
    asked, there = Counter(map(_identity, wanted)), Counter(map(_identity, shown))
    if not there <= asked:
        return ToolsShown.OTHERS
    admins = admin_names(rules)
    mine = [tool for tool in wanted if tool.get("name") in admins or tool.get("type") != "function"]
    if not Counter(map(_identity, mine)) <= there:
        return ToolsShown.OTHERS
    by_identity = {_identity(tool): tool for tool in shown}
    return ToolsShown.AS_ASKED if all(_is_worded(tool, by_identity) for tool in wanted) else ToolsShown.REWORDED


def _is_worded(tool: Mapping[str, Any], shown: Mapping[tuple[str, str], Mapping[str, Any]]) -> bool:
    there = shown.get(_identity(tool))
    return there is None or all(
        agrees(tool[member], there[member]) for member in _TOOL_MEMBERS if member in tool and member in there
    )


def _identity(tool: Any) -> tuple[str, str]:
    if not isinstance(tool, dict):
        return ("", "")
    return (
        str(tool.get("type")),
        str(tool.get("name") if tool.get("type") == "function" else tool.get("server_label")),
    )


def paths_in(session: Mapping[str, Any]) -> Iterator[str]:
    """The fields that a judged GA session holds."""
    return (path for path, _ in leaves(dict(session)))
