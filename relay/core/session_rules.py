"""A client's session wish judged: the policy's field rules over the built-in table, and what the policy itself sets."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit, wrong_type
from relay.core.instruction_text import accepted_text
from relay.core.policy_rules import RESPONSE_FIELDS, ClientInstructions, FieldRule, ResponseRules, Strictness
from relay.core.session_fields import (
    DEFAULT_TRANSCRIPTION_NAME,
    NEVER_A_CLIENTS,
    NULL_HAS_MEANING,
    SESSION_FIELDS,
    SessionField,
    Treatment,
    leaves,
    put,
)
from relay.core.tool_rules import admin_names, judge_tools
from relay.core.verdicts import Rule, Verdict
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy

_TRANSCRIPTION = "audio.input.transcription"
_LONGEST_NAME = 256
# More than twice what a session has; each further one would only have to be looked at, to be dropped.
_MOST_MEMBERS = 64
_NO_RULE = FieldRule()


class Absent(Enum):
    """No value at all, where null is one."""

    ABSENT = auto()


ABSENT = Absent.ABSENT
SETTABLE = SESSION_FIELDS.keys() - (NEVER_A_CLIENTS - {"prompt", "tracing"})
"""Fields that a rule can set for everybody; the others the relay alone knows or decides, or rules of their own do."""


class Refused(Exception):  # noqa: N818 - a verdict, not a failure
    """The value is well-formed and the policy wants it answered with an error."""


@dataclass(slots=True)
class JudgedSession:
    """What is left of a client's session wish.

    `fields` in GA shape, without `type`, instructions and tools; `instructions` the client's own text where it counts;
    `functions` the functions it brought, None when it spoke of none; `transcription_name` the transcription model as it
    calls it, None when it asked for none or may have none; `refused` is to be answered with an error although the rest
    is done. `rule` is what touched the wish, ALLOWED when nothing did.
    """

    fields: dict[str, Any]
    verdict: Verdict = Verdict.FORWARD
    rule: Rule = Rule.ALLOWED
    instructions: str | None = None
    functions: list[dict[str, Any]] | None = None
    transcription_name: str | None = None
    refused: EventError | None = None

    def touched(self, rule: Rule, verdict: Verdict = Verdict.STRIP) -> None:
        """A rule changed something: instructions are reported above all, then what came first."""
        if self.refused is not None:
            return
        if self.rule is Rule.ALLOWED or self.verdict is Verdict.FORWARD or rule is Rule.SESSION_INSTRUCTIONS:
            self.rule = rule
        self.verdict = Verdict.STRIP if Verdict.STRIP in (verdict, self.verdict) else verdict

    def refuse(self, error: EventError) -> None:
        """One part is refused, the others stay; the first such error is the answer."""
        if self.refused is None:
            self.refused, self.rule, self.verdict = error, error.rule, Verdict.REFUSE


def judge_session(session: Any, policy: EffectivePolicy, *, audio_started: bool = False) -> JudgedSession:
    """Judge a GA session that a client sent.

    Raises EventError for wrong types, for another kind of session, and for instructions too long to be taken over.
    """
    if not isinstance(session, dict):
        raise wrong_type("session")
    if session.get("type", "realtime") != "realtime":
        raise EventError(ErrorCode.POLICY_VIOLATION, "session.type", Rule.SESSION_TYPE)
    _check_members(session)
    judged = JudgedSession({})
    for path, value in leaves(session):
        match path:
            case "type":
                continue
            case "instructions":
                _judge_instructions(judged, value, policy)
            case "tools":
                _judge_functions(judged, value, policy)
            case _:
                _judge_one(judged, path, value, policy, audio_started=audio_started)
    return judged


def _check_members(session: dict[str, Any]) -> None:
    """Refuse whole, unlooked at, what is no session of anybody's."""
    audio = session.get("audio")
    sides = audio.values() if isinstance(audio, dict) else ()
    places = [
        session,
        *([audio] if isinstance(audio, dict) else []),
        *(side for side in sides if isinstance(side, dict)),
    ]
    if len(session) > _MOST_MEMBERS or any(len(place) > _MOST_MEMBERS for place in places):
        raise EventError(ErrorCode.INVALID_VALUE, "session", Rule.SESSION_FIELDS)


def judge_value(path: str, value: Any, policy: EffectivePolicy, name: str) -> Any:
    """One value that overrides a session field for a single response, by that field's rule.

    A field without one is the client's as far as the policy says so for the session, or for responses. `name` is its
    path in the response, for errors. Raises EventError for a wrong type or when the rule refuses, Unfit.
    """
    field = SESSION_FIELDS[path]
    if path not in policy.fields and field.check is not None and _is_granted(path, policy):
        return _own_tool_choice(path, _checked(field, path, value, name), policy)
    try:
        return allowed_value(path, value, policy, name)
    except Refused:
        raise EventError(ErrorCode.POLICY_VIOLATION, name, Rule.RESPONSE_FIELDS) from None


def _is_granted(path: str, policy: EffectivePolicy) -> bool:
    """Whether a policy that closes what it does not name has named this field for responses by a list of its own."""
    if path not in RESPONSE_FIELDS or policy.fields_default is Strictness.ALLOW:
        return True
    return path in policy.responses.fields and policy.responses.fields != ResponseRules().fields


def with_settings(policy: EffectivePolicy, chosen: dict[str, Any]) -> dict[str, Any]:
    """The client's choices with the policy's locks over them and its defaults under them; a new object."""
    settled: dict[str, Any] = deepcopy(chosen)
    rules = sorted((path.count("."), path, rule) for path, rule in _settings(policy).items())
    locked = {path: rule.lock for _, path, rule in rules if rule.has_lock}
    for _, path, rule in rules:
        if any(path.startswith(f"{outer}.") and _says(lock, path[len(outer) + 1 :]) for outer, lock in locked.items()):
            continue  # the lock of the whole says what is in it
        if rule.has_lock:
            _force(settled, path, deepcopy(rule.lock))
        elif not _holds(settled, path):
            _force(settled, path, deepcopy(rule.default))
    match settled:
        case {"audio": {"input": {"turn_detection": dict(detection)}}} if "type" not in detection:
            detection["type"] = "server_vad"
    match settled:
        case {"audio": {"input": {"transcription": dict(transcription)} as side}} if "model" not in transcription:
            if policy.transcription_deployment is None:
                del side["transcription"]
            else:
                transcription["model"] = policy.transcription_deployment
    return settled


def _says(lock: Any, member: str) -> bool:
    return not isinstance(lock, dict) or member in lock


def rules_of(path: str, policy: EffectivePolicy) -> dict[str, FieldRule]:
    """The rules for a field and for its members, by path."""
    return {name: rule for name, rule in policy.fields.items() if name == path or name.startswith(f"{path}.")}


def setting(path: str, policy: EffectivePolicy, value: Any = ABSENT) -> Any:
    """One field with the locks over its value and the defaults under it; ABSENT when nothing says what it is."""
    chosen: dict[str, Any] = {}
    if value is not ABSENT:
        put(chosen, path, value)
    place: Any = with_settings(replace(policy, fields=rules_of(path, policy)), chosen)
    for name in path.split("."):
        if not isinstance(place, dict) or name not in place:
            return ABSENT
        place = place[name]
    return place


def _settings(policy: EffectivePolicy) -> dict[str, FieldRule]:
    """The rules that set something at the service; a cap on tokens does: the service's own default is none."""
    rules = dict(policy.fields)
    tokens = rules.get("max_output_tokens", _NO_RULE)
    if tokens.maximum is not None and not tokens.has_default:
        rules["max_output_tokens"] = replace(tokens, has_default=True, default=_number(tokens.maximum))
    return {
        path: rule for path, rule in rules.items() if (rule.has_lock or rule.has_default) and field_of(path) in SETTABLE
    }


def field_of(path: str) -> str:
    """The field of the table that a rule's path is, or lies inside of."""
    parts = path.split(".")
    return ".".join(parts[:3] if parts[0] == "audio" else parts[:1])


def _force(session: dict[str, Any], path: str, value: Any) -> None:
    """Set a value, also inside a field that was switched off."""
    *parents, leaf = path.split(".")
    for parent in parents:
        if not isinstance(session.get(parent), dict):
            session[parent] = {}
        session = session[parent]
    session[leaf] = value


def _holds(session: dict[str, Any], path: str) -> bool:
    place: Any = session
    for name in path.split("."):
        if place is None:
            return True  # switched off as a whole, which is a choice too
        if not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return True


# --- one field -------------------------------------------------------------------------------------------------------


def _judge_instructions(judged: JudgedSession, value: Any, policy: EffectivePolicy) -> None:
    try:
        judged.instructions = accepted_text(value, "session.instructions", policy.instructions)
    except EventError as error:
        if error.code is ErrorCode.POLICY_VIOLATION and policy.instructions.client is ClientInstructions.DENY:
            judged.refuse(error)
            return
        raise
    judged.touched(Rule.SESSION_INSTRUCTIONS, Verdict.STRIP if judged.instructions is None else Verdict.REWRITE)


def _judge_functions(judged: JudgedSession, value: Any, policy: EffectivePolicy) -> None:
    if value is None:
        judged.touched(Rule.SESSION_FIELDS)
        return
    try:
        tools = judge_tools(value, "session.tools", policy.tools)
    except EventError as error:
        if error.code is not ErrorCode.POLICY_VIOLATION:
            raise
        judged.refuse(error)
        return
    if tools.rule is not Rule.ALLOWED:
        judged.touched(tools.rule, Verdict.REWRITE if len(tools.functions) == len(value) else Verdict.STRIP)
    elif tools.functions and judged.rule is Rule.ALLOWED:
        judged.rule = Rule.TOOLS_CLIENT  # passes, and is worth a line: descriptions are text to the model
    rule = policy.fields.get("tools", _NO_RULE)
    if rule.has_lock or rule.allow == ():
        judged.touched(Rule.TOOLS_CLIENT)
        return
    # Nothing is left of a list that was not empty: what is there stays.
    if tools.functions or not value:
        judged.functions = tools.functions


def _judge_one(judged: JudgedSession, path: str, value: Any, policy: EffectivePolicy, *, audio_started: bool) -> None:
    name = f"session.{path}"
    field = SESSION_FIELDS.get(path)
    if field is not None and field.treatment is Treatment.BEFORE_AUDIO and audio_started:
        judged.touched(Rule.SESSION_FIELDS)  # the service would refuse the whole update
        return
    try:
        if path == _TRANSCRIPTION:
            _judge_transcription(judged, value, policy)
            return
        decided = allowed_value(path, value, policy, name)
    except Unfit:
        if not _is_locked_to(policy.fields.get(path), value):
            judged.touched(Rule.SESSION_FIELDS)
    except Refused:
        judged.refuse(EventError(ErrorCode.POLICY_VIOLATION, name, Rule.SESSION_FIELDS))
    else:
        if not same(decided, value):
            clamped = not isinstance(decided, dict | list)
            judged.touched(Rule.SESSION_FIELDS, Verdict.REWRITE if clamped else Verdict.STRIP)
        put(judged.fields, path, decided)


def _judge_transcription(judged: JudgedSession, value: Any, policy: EffectivePolicy) -> None:
    """Client names of transcription models become deployments; one that is not mapped is served by the default."""
    asked = value.get("model") if isinstance(value, dict) else None
    called = asked if isinstance(asked, str) and len(asked) <= _LONGEST_NAME else None
    served = None if called is None else policy.models.transcription_map.get(called)
    served = served or policy.transcription_deployment
    try:
        decided = allowed_value(_TRANSCRIPTION, value, policy, f"session.{_TRANSCRIPTION}")
    except Unfit:
        if policy.fields.get(_TRANSCRIPTION, _NO_RULE).has_lock and isinstance(value, dict):
            judged.transcription_name = called
            judged.touched(Rule.SESSION_TRANSCRIPTION)
            return
        raise
    if decided is not None:
        judged.touched(Rule.SESSION_TRANSCRIPTION, Verdict.STRIP if served is None else Verdict.REWRITE)
        if served is None:
            return
        judged.transcription_name = called or DEFAULT_TRANSCRIPTION_NAME
        decided = {**decided, "model": served}
    put(judged.fields, _TRANSCRIPTION, decided)


def allowed_value(path: str, value: Any, policy: EffectivePolicy, name: str) -> Any:
    """The value to send for one that a client asks for.

    Raises Unfit when the field is to be left out, Refused, EventError for a wrong type.
    """
    field = SESSION_FIELDS.get(path)
    if field is None or path in NEVER_A_CLIENTS:
        raise Unfit
    rule = policy.fields.get(path)
    inner = {inside: r for inside, r in policy.fields.items() if inside.startswith(path + ".")}
    if rule is None and not inner:
        return _by_default(field, path, value, policy, name)
    rule = rule or _NO_RULE
    try:
        decided = _by_rule(field, rule, path, value, name)
        if inner:
            decided = _inside(decided, {inside[len(path) + 1 :]: r for inside, r in inner.items()})
    except Unfit:
        if rule.otherwise is Strictness.REFUSE and not _is_locked_to(rule, value):
            raise Refused from None
        raise
    return _own_tool_choice(path, decided, policy)


def _by_default(field: SessionField, path: str, value: Any, policy: EffectivePolicy, name: str) -> Any:
    """No rule names the field: the table, and within it `fields_default`. What SDKs send unasked is never refused."""
    if field.check is None or field.treatment in (Treatment.STRIP, Treatment.FIXED):
        raise Unfit
    checked = _checked(field, path, value, name)
    match policy.fields_default:
        case Strictness.STRIP:
            raise Unfit
        case Strictness.REFUSE:
            raise Refused
    return _own_tool_choice(path, checked, policy)


def _by_rule(field: SessionField, rule: FieldRule, path: str, value: Any, name: str) -> Any:
    if rule.has_lock:
        if field.check is not None:
            _checked(field, path, value, name)  # for wrong types alone
        raise Unfit
    value = _clamped(rule, value)
    if field.check is None:
        if rule.allow is None:
            raise Unfit  # nobody could tell what it would be
        decided = value
    else:
        decided = _checked(field, path, value, name)
    if rule.allow is not None and rule.otherwise is not Strictness.ALLOW:
        if not any(same(decided, allowed) for allowed in rule.allow):
            raise Unfit
    elif field.check is None and not any(same(decided, allowed) for allowed in rule.allow or ()):
        raise Unfit
    return decided


def _inside(value: Any, rules: dict[str, FieldRule]) -> Any:
    """The members of an object by rules of their own (`turn_detection.create_response`)."""
    if not isinstance(value, dict):
        if value is None and any(rule.has_lock for rule in rules.values()):
            raise Unfit  # switching it off would take the locked member with it
        return value
    rebuilt = dict(value)
    for member, rule in rules.items():
        if rule.has_lock:
            if member in value and not same(value[member], rule.lock) and rule.otherwise is Strictness.REFUSE:
                raise Refused
            rebuilt[member] = rule.lock
        elif member not in rebuilt:
            if rule.has_default:
                rebuilt[member] = rule.default
        else:
            _judge_member(rebuilt, member, rule)
    return rebuilt


def _judge_member(rebuilt: dict[str, Any], member: str, rule: FieldRule) -> None:
    value = _clamped(rule, rebuilt[member])
    rebuilt[member] = value
    if rule.allow is None or any(same(value, allowed) for allowed in rule.allow):
        return
    match rule.otherwise:
        case Strictness.REFUSE:
            raise Refused
        case Strictness.STRIP if member == "type":
            raise Unfit  # an object of an unknown kind
        case Strictness.STRIP:
            del rebuilt[member]


def _clamped(rule: FieldRule, value: Any) -> Any:
    """A number moved to the bound it exceeds; `inf` tokens to the highest number."""
    if value == "inf" and rule.maximum is not None:
        return _number(rule.maximum)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if rule.minimum is not None and value < rule.minimum:
        return _number(rule.minimum)
    if rule.maximum is not None and value > rule.maximum:
        return _number(rule.maximum)
    return value


def _number(bound: float) -> int | float:
    return int(bound) if float(bound).is_integer() else bound


def _own_tool_choice(path: str, value: Any, policy: EffectivePolicy) -> Any:
    """A client may not force a function that it does not know."""
    if path == "tool_choice" and isinstance(value, dict) and value.get("name") in admin_names(policy.tools):
        raise Unfit
    return value


def _checked(field: SessionField, path: str, value: Any, name: str) -> Any:
    if value is None and path not in NULL_HAS_MEANING:
        raise Unfit  # as absent
    return value if field.check is None or value is None else field.check(value, name)


def _is_locked_to(rule: FieldRule | None, value: Any) -> bool:
    """Whether a client only repeats what is in force anyhow."""
    return rule is not None and rule.has_lock and same(rule.lock, value)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; `true` is no number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
