"""What the administrator decided for one session, as one value, and the session configurations composed from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from relay.core.dialect import (
    param_to_preview,
    preview_holds,
    session_to_ga,
    session_to_preview,
    session_to_preview_service,
)
from relay.core.events import EventError
from relay.core.instruction_text import combine
from relay.core.policy_rules import (
    RESPONSE_FIELDS,
    CanaryRules,
    ClientInstructions,
    EventRules,
    FieldRule,
    InstructionRules,
    ItemRules,
    LimitRules,
    Mode,
    ModelRules,
    OnCanary,
    OnSinkFailure,
    ResidencyRules,
    ResponseRules,
    Strictness,
    ToolRules,
)
from relay.core.session_fields import DEFAULT_TRANSCRIPTION_NAME, SERVICE_DEFAULTS, Shown, leaves, put, redact_session
from relay.core.session_rules import JudgedSession, field_of, judge_session, with_settings
from relay.core.tool_rules import all_tools
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

if TYPE_CHECKING:  # lifecycle imports this module
    from relay.core.lifecycle import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """The policy one session runs under.

    `revision` is the SHA-256 of the policy's canonical form: the text in force can be proved without showing it.
    `deployment` is what the service calls this session's model; `transcription_deployment` None removes transcription.
    `fields` are rules by GA path without `session.`; `fields_default` is for the fields a client may set and that no
    rule names (ALLOW: the built-in table).
    """

    name: str
    revision: str
    instructions: InstructionRules
    deployment: str
    transcription_deployment: str | None = None
    mode: Mode = Mode.ENFORCE
    models: ModelRules = field(default_factory=ModelRules)
    residency: ResidencyRules = field(default_factory=ResidencyRules)
    fields: Mapping[str, FieldRule] = field(default_factory=dict)
    fields_default: Strictness = Strictness.ALLOW
    responses: ResponseRules = field(default_factory=ResponseRules)
    items: ItemRules = field(default_factory=ItemRules)
    tools: ToolRules = field(default_factory=ToolRules)
    events: EventRules = field(default_factory=EventRules)
    limits: LimitRules = field(default_factory=LimitRules)
    canary: CanaryRules = field(default_factory=CanaryRules)
    apply_live: bool = False
    on_sink_failure: OnSinkFailure = OnSinkFailure.FAIL_CLOSED


class ConfigRefusal(Exception):  # noqa: N818 - a refusal that a door turns into 400
    """A client's session configuration that cannot be used.

    `param` is the path as the client's dialect names it, `rule` what decided.
    """

    def __init__(self, code: ErrorCode, param: str | None, rule: Rule = Rule.FIELDS) -> None:
        super().__init__(f"{code.value} ({param})")
        self.code = code
        self.param = param
        self.rule = rule


def policy_from_instructions(
    text: str, deployment: str, transcription_deployment: str | None = None
) -> EffectivePolicy:
    """The policy of a configuration that consists of one instruction text; every other rule has its safe default.

    White space around it is dropped: the service's echo is compared exactly, and may not keep it.
    """
    policy = EffectivePolicy(
        name="default",
        revision="",
        instructions=InstructionRules(text=text.strip()),
        models=ModelRules(default=deployment, transcription_default=transcription_deployment),
        deployment=deployment,
        transcription_deployment=transcription_deployment,
    )
    return replace(policy, revision=policy_revision(policy))


def policy_revision(policy: EffectivePolicy) -> str:
    """The SHA-256 of the canonical JSON of all that a policy says, its own revision apart."""
    said = {name: value for name, value in asdict(policy).items() if name != "revision"}
    form = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=_sorted)
    return hashlib.sha256(form.encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


def choose_deployment(policy: EffectivePolicy, model: str | None) -> str | None:
    """The deployment that serves a model as the client names it; None when it is not granted.

    A name that exists at the service and is not granted is like one that does not exist.
    """
    models = policy.models
    if model and model in models.map:
        return models.map[model]
    if model and models.unknown is Strictness.REFUSE:
        return None
    return models.default or None


def permissive(policy: EffectivePolicy) -> EffectivePolicy:
    """The loosest form of a policy: what acts while its rules are only written down, or disabled.

    Framing, sizes, models, what is confidential, drift and end-of-session limits stay as they are; and what no policy
    could grant is not granted either.
    """
    return replace(
        policy,
        instructions=replace(policy.instructions, client=ClientInstructions.PASSTHROUGH, client_max_chars=1_000_000),
        fields={path: _opened(rule) for path, rule in policy.fields.items()},
        fields_default=Strictness.ALLOW,
        responses=ResponseRules(
            overrides=Strictness.ALLOW, fields=RESPONSE_FIELDS, max_in_flight=policy.responses.max_in_flight
        ),
        items=ItemRules(history_import=True, insert_first=True, remote_images=True, max_text_chars=1_000_000),
        tools=replace(policy.tools, client_functions=Strictness.ALLOW, mcp_approvals=True),
        events=replace(policy.events, client=None, server=None, input_audio_append=True),
        canary=replace(policy.canary, action=OnCanary.LOG),
    )


def _opened(rule: FieldRule) -> FieldRule:
    """A rule that starts with the same value, and lets a client have any other."""
    if rule.has_lock or rule.has_default:
        return FieldRule(has_default=True, default=rule.lock if rule.has_lock else rule.default)
    return FieldRule()


def acting(policy: EffectivePolicy) -> EffectivePolicy:
    """The rules that are carried out: the policy's in `enforce`, else its loosest form."""
    return policy if policy.mode is Mode.ENFORCE else permissive(policy)


def deployments(policy: EffectivePolicy) -> frozenset[str]:
    """Every name of a deployment that the policy knows; none of them is for a browser's eyes."""
    models = policy.models
    names = {policy.deployment, policy.transcription_deployment, models.default, models.transcription_default}
    names |= {*models.map.values(), *models.transcription_map.values()}
    for path, rule in policy.fields.items():
        if path.startswith("audio.input.transcription"):
            for value in (rule.lock, rule.default):
                names.add(value.get("model") if isinstance(value, dict) else None)
                names.add(value if path.endswith(".model") and isinstance(value, str) else None)
    return frozenset(name for name in names if isinstance(name, str) and name)


@dataclass(frozen=True, slots=True)
class Composed:
    """A session to mint, and what of it is the client's: its text, its functions, the fields that it chose.

    `transcription_name` is what the client calls its transcription model.
    """

    session: dict[str, Any] = field(repr=False)
    transcription_name: str
    instructions: str | None = field(repr=False)
    functions: tuple[dict[str, Any], ...] = field(repr=False)
    fields: frozenset[str]


def compose(
    policy: EffectivePolicy,
    client_session: dict[str, Any] | None,
    client_dialect: Dialect,
    service_dialect: Dialect,
) -> Composed:
    """The complete session to mint at the service, in its dialect: the policy's, and what the client may choose.

    `client_session` is what the client sent with its mint or its offer, judged here once for all that follows. Raises
    ConfigRefusal, also for a lock that the service could not hold: a session without it is not the policy's.
    """
    rules = acting(policy)
    judged = judge_wish(rules, client_session, client_dialect)
    settings = with_settings(rules, judged.fields)
    session = {
        "type": "realtime",
        "model": rules.deployment,
        "instructions": combine(rules.instructions, judged.instructions),
        **settings,
    }
    if rules.tools.admin or judged.functions is not None:
        session["tools"] = all_tools(rules.tools, judged.functions or ())
    if service_dialect.value == "preview":
        _check_locks(rules, settings)
        session = session_to_preview_service(session)
    return Composed(
        session,
        judged.transcription_name or DEFAULT_TRANSCRIPTION_NAME,
        judged.instructions,
        tuple(judged.functions or ()),
        frozenset(path for path, _ in leaves(judged.fields)),
    )


def _check_locks(policy: EffectivePolicy, settings: dict[str, Any]) -> None:
    locked = {field_of(path) for path, rule in policy.fields.items() if rule.has_lock}
    for path, value in leaves(settings):
        if path in locked and not preview_holds(path, value):
            raise ConfigRefusal(ErrorCode.POLICY_VIOLATION, path, Rule.SESSION_FIELDS)


def compose_service_session(
    policy: EffectivePolicy,
    client_session: dict[str, Any] | None,
    client_dialect: Dialect,
    service_dialect: Dialect,
) -> dict[str, Any]:
    """The session of `compose` alone. Raises ConfigRefusal."""
    return compose(policy, client_session, client_dialect, service_dialect).session


def describe_session(
    policy: EffectivePolicy,
    client_session: dict[str, Any] | None,
    dialect: Dialect,
    session_id: str,
    model: str,
    expires_at: int,
) -> dict[str, Any]:
    """The session of a mint answer, in the door's dialect: defaults and the client's choices, nothing of the policy.

    Raises ConfigRefusal.
    """
    rules = acting(policy)
    judged = judge_wish(rules, client_session, dialect)
    session = _merged(_default_session(), with_settings(rules, judged.fields))
    session["tools"] = judged.functions or []
    shown_as = Shown(
        session_id=session_id,
        model=model,
        transcription_name=judged.transcription_name or DEFAULT_TRANSCRIPTION_NAME,
        tools=rules.tools,
        hide=rules.events.hide_fields,
    )
    shown = redact_session({**session, "expires_at": expires_at}, shown_as)
    return session_to_preview(shown) if dialect.value == "preview" else shown


def judge_wish(policy: EffectivePolicy, client_session: dict[str, Any] | None, dialect: Dialect) -> JudgedSession:
    """Judge what a client sent with its mint or its offer by these very rules, whatever their mode.

    Raises ConfigRefusal; a part that is refused refuses the whole here: a door has one answer.
    """
    session: Any = {} if client_session is None else client_session
    preview = dialect.value == "preview"
    if preview and isinstance(session, dict):
        session = session_to_ga(session)
    try:
        judged = judge_session(session, policy)
        if judged.refused is not None:
            raise judged.refused
    except EventError as error:
        raise ConfigRefusal(error.code, _door_param(error.param, preview=preview), error.rule) from None
    return judged


def _door_param(param: str | None, *, preview: bool) -> str | None:
    """A GA path as a door names it: a preview mint has no `session` around its fields."""
    if param is None or not preview:
        return param
    return param_to_preview(param).removeprefix("session.")


def _default_session() -> dict[str, Any]:
    """What the service does for a session that asks for nothing (Azure GA, recorded)."""
    form = {"type": "audio/pcm", "rate": 24000}
    session: dict[str, Any] = {"tools": [], "audio": {"input": {"format": form}, "output": {"format": form}}}
    for path, value in SERVICE_DEFAULTS.items():
        if path == "parallel_tool_calls":
            continue  # it is not in what the service shows
        put(session, path, deepcopy(value))
    return session


def _merged(session: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    merged = dict(session)
    for name, value in choices.items():
        if name in ("audio", "input", "output"):
            merged[name] = _merged(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged
