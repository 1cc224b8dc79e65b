"""Which policy a session runs under: documents, an identity and a request in, one effective policy out. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from relay.core.allowance import Allowance, Bound
from relay.core.policy import EffectivePolicy, choose_deployment
from relay.core.policy_check import canonical
from relay.core.policy_document import ANY, Match, PolicyDocument
from relay.core.policy_fields import field_rule
from relay.core.policy_inherit import LEAVES, Said, completed, meet, said_by
from relay.core.policy_rules import (
    CanaryRules,
    ClientInstructions,
    ClientTool,
    EventRules,
    InstructionRules,
    ItemRules,
    LimitRules,
    Mode,
    ModelRules,
    OnCanary,
    OnDrift,
    OnSinkFailure,
    ResidencyRules,
    ResponseRules,
    Strictness,
    ToolRules,
)
from relay.core.policy_schema import API_VERSION, EXTENDS_MAX_DEPTH
from relay.core.policy_variables import UnfitClaim, filled


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as far as it is verified. `claims` are texts, whole numbers or lists of them."""

    tenant: str = "default"
    subject_hash: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """What a client asks for: the model as it names it. `deployment` is matched in its place where it is known."""

    model: str | None = None
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceDefaults:
    """The deployments of the relay's settings, for documents that name none.

    `regions` are those of the members of its pool, None where they are not known; documents are checked against them.
    """

    deployment: str = ""
    transcription_deployment: str | None = None
    regions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Considered:
    """One document that could have matched, and the words that say why it did or did not."""

    name: str
    priority: int
    matched: bool
    why: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The policy, the documents it is made of (bases first), what they say together, and why it was this one."""

    policy: EffectivePolicy
    documents: tuple[str, ...]
    said: Said = field(repr=False)
    considered: tuple[Considered, ...] = ()


class UnresolvedReason(StrEnum):
    """Why no policy could be found: the session is refused."""

    NO_POLICY = "no_policy"
    TIE = "tie"
    CLAIM = "claim"
    UNKNOWN_MODEL = "unknown_model"
    BROKEN = "broken"


class Unresolved(Exception):  # noqa: N818 - a refusal that a door turns into 403, or 404 for a model
    """No policy for this session. The message is for the log and holds no claim's value and no instructions."""

    def __init__(self, reason: UnresolvedReason, message: str, considered: Sequence[Considered] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.considered = tuple(considered)


def resolve(
    documents: Sequence[PolicyDocument],
    identity: Identity,
    request: PolicyRequest,
    defaults: ServiceDefaults | None = None,
) -> Resolved:
    """The policy of one session. Raises Unresolved."""
    considered = tuple(
        Considered(document.name, document.match.priority, *_holds(document.match, identity, request))
        for document in documents
        if document.match is not None and not document.match.default
    )
    matched = [entry for entry in considered if entry.matched]
    best = max((entry.priority for entry in matched), default=0)
    names = [entry.name for entry in matched if entry.priority == best]
    if len(names) > 1:
        words = f"{' and '.join(names)} match with the same priority {best}"
        raise Unresolved(UnresolvedReason.TIE, words, considered)
    if not names:
        names = [document.name for document in documents if document.match is not None and document.match.default]
    if len(names) != 1:
        raise Unresolved(UnresolvedReason.NO_POLICY, "no document matches, and none is the default", considered)
    resolved = resolve_document(documents, names[0], identity, request, defaults)
    return replace(resolved, considered=considered)


def resolve_document(
    documents: Sequence[PolicyDocument],
    name: str,
    identity: Identity,
    request: PolicyRequest,
    defaults: ServiceDefaults | None = None,
) -> Resolved:
    """The policy that one document makes, whether it matches or not. Raises Unresolved."""
    said, chain = merged(documents, name)
    return resolve_merged(name, said, chain, identity, request, defaults or ServiceDefaults())


def resolve_merged(
    name: str,
    said: Said,
    chain: tuple[str, ...],
    identity: Identity,
    request: PolicyRequest,
    defaults: ServiceDefaults,
) -> Resolved:
    """The policy that a document makes, what it says with all it extends being known. Raises Unresolved."""
    parts = said.get("instructions.text", [])
    try:
        text = filled(
            "\n\n".join(part for _, part in parts if part), identity.claims, said["instructions.claimDefaults"]
        )
    except UnfitClaim as error:
        raise Unresolved(UnresolvedReason.CLAIM, f"{name}: {error}") from None
    policy = _policy(name, said, text, defaults)
    deployment = choose_deployment(policy, request.model)
    if deployment is None and request.model and said["upstream.unknown"] == "refuse":
        raise Unresolved(UnresolvedReason.UNKNOWN_MODEL, f"{name}: grants no such model")
    return Resolved(replace(policy, deployment=deployment or ""), chain, said)


def merged(documents: Iterable[PolicyDocument], name: str) -> tuple[Said, tuple[str, ...]]:
    """What a document and all it extends say together, and their names, bases first. Raises Unresolved."""
    by_name = {document.name: document for document in documents}
    chain: list[str] = []
    _collect(by_name, name, (), chain)
    whole: Said = {}
    for link in chain:
        document = by_name[link]
        said = said_by(document.spec, link)
        whole = meet(whole, said if document.extends else completed(said))
    for path, schema in LEAVES.items():
        if "default" in schema:
            whole.setdefault(path, schema["default"])
    whole.setdefault("instructions.claimDefaults", {})
    return whole, tuple(chain)


def revision_of(name: str, said: Said, defaults: ServiceDefaults) -> str:
    """SHA-256 of the canonical form of what a policy says, variables not filled: one for all whom it serves.

    The deployments of the settings count where the documents name none; the order of names in a set does not.
    """
    said = {path: _in_order(path, value) for path, value in said.items()}
    said.setdefault("upstream.default", defaults.deployment)
    said.setdefault("upstream.transcription.default", defaults.transcription_deployment)
    return hashlib.sha256(canonical({"apiVersion": API_VERSION, "name": name, "spec": said}).encode()).hexdigest()


def _in_order(path: str, value: Any) -> Any:
    is_set = LEAVES[path]["x-inherit"] in ("common", "union", "common_names") and path != "tools.admin"
    return sorted(value, key=canonical) if is_set else value


def _collect(by_name: Mapping[str, PolicyDocument], name: str, above: tuple[str, ...], chain: list[str]) -> None:
    if name not in by_name:
        raise Unresolved(UnresolvedReason.BROKEN, f"{above[-1] if above else 'nothing'} extends {name}: unknown")
    if name in above:
        raise Unresolved(UnresolvedReason.BROKEN, f"{' extends '.join((*above, name))}: a circle")
    if len(above) >= EXTENDS_MAX_DEPTH:
        raise Unresolved(UnresolvedReason.BROKEN, f"{above[0]} extends through more than {EXTENDS_MAX_DEPTH} documents")
    for base in by_name[name].extends:
        _collect(by_name, base, (*above, name), chain)
    if name not in chain:
        chain.append(name)


# --- matching --------------------------------------------------------------------------------------------------------


def _holds(match: Match, identity: Identity, request: PolicyRequest) -> tuple[bool, str]:
    asked = request.deployment or request.model
    keys = (
        ("tenant", match.tenants, identity.tenant),
        ("origin", match.origins, identity.origin),
        ("deployment", match.deployments, asked),
    )
    for word, wanted, given in keys:
        if wanted is not None and not _one_of(wanted, [given] if given else [], open_end=word == "deployment"):
            return False, f"{word} is {_quoted(given)}, not {_any_of(wanted)}"
    for claim, values in match.claims.items():
        if not _one_of(values, _claim_values(identity.claims.get(claim))):
            return False, f"claim {claim} is not {_any_of(values)}"
    return True, "all its keys hold" if _says_something(match) else "it matches everybody"


def _one_of(wanted: Sequence[str], given: Sequence[str], *, open_end: bool = False) -> bool:
    if ANY in wanted:
        return bool(given) or open_end
    return any(value in wanted for value in given)


def _claim_values(claim: Any) -> list[str]:
    match claim:
        case None | "":
            return []
        case bool():
            return [str(claim).lower()]
        case list() | tuple():
            return [value for entry in claim[:256] for value in _claim_values(entry)]
        case str() | int():
            return [str(claim)]
        case _:
            return []


def _says_something(match: Match) -> bool:
    return bool(match.claims) or any(key is not None for key in (match.tenants, match.origins, match.deployments))


def _any_of(values: Sequence[str]) -> str:
    return " or ".join("anything" if value == ANY else repr(value) for value in values)


def _quoted(value: str | None) -> str:
    return repr(value) if value else "not given"


# --- the value the engine reads --------------------------------------------------------------------------------------


def _policy(name: str, said: Said, text: str, defaults: ServiceDefaults) -> EffectivePolicy:
    session = said["session"]
    transcription = said.get("upstream.transcription.default", defaults.transcription_deployment)
    return EffectivePolicy(
        name=name,
        revision=revision_of(name, said, defaults),
        mode=Mode(said["mode"]),
        instructions=InstructionRules(
            text=text,
            client=ClientInstructions(said["instructions.client"]),
            client_max_chars=said["instructions.clientMaxChars"],
            on_drift=OnDrift(said["instructions.onDrift"]),
        ),
        models=ModelRules(
            default=said.get("upstream.default", defaults.deployment),
            map=dict(said.get("upstream.models", {})),
            unknown=Strictness.REFUSE if said["upstream.unknown"] == "refuse" else Strictness.ALLOW,
            transcription_default=transcription,
            transcription_map=dict(said.get("upstream.transcription.models", {})),
        ),
        residency=ResidencyRules(_names(said.get("upstream.regions")), _names(said.get("upstream.deployments"))),
        deployment="",
        transcription_deployment=transcription,
        fields={path: field_rule(rule) for path, rule in session["fields"].items()},
        fields_default=Strictness(session["default"]),
        responses=ResponseRules(
            overrides=Strictness(said["responses.overrides"]),
            fields=frozenset(said["responses.fields"]),
            out_of_band=said["responses.outOfBand"],
            max_in_flight=said["responses.maxInFlight"],
            max_output_tokens=said.get("responses.maxOutputTokens"),
        ),
        items=_items(said),
        tools=_tools(said),
        events=_events(said),
        limits=LimitRules(
            session_seconds=said.get("limits.sessionSeconds"),
            idle_seconds=said.get("limits.idleSeconds"),
            warn_seconds=said["limits.warnSeconds"],
            events_per_second=said.get("limits.eventsPerSecond"),
            allowance=_allowance(said),
        ),
        canary=CanaryRules(
            words=tuple(said["canary.words"]),
            overlap_words=said["canary.overlapWords"],
            action=OnCanary(said["canary.action"]),
        ),
        apply_live=said["apply"] == "live",
        on_sink_failure=OnSinkFailure(said["onSinkFailure"]),
    )


def _names(said: Sequence[str] | None) -> frozenset[str] | None:
    return None if said is None else frozenset(said)


def _allowance(said: Said) -> Allowance:
    def bound(name: str) -> Bound:
        return Bound(said.get(f"limits.{name}.user", 0), said.get(f"limits.{name}.tenant", 0))

    return Allowance(bound("concurrent"), bound("minutesPerDay"), bound("tokensPerDay"), bound("costUsdPerDay"))


def _items(said: Said) -> ItemRules:
    history = said["items.historyImport"]
    return ItemRules(
        allow=frozenset([*said["items.allow"], *(["assistant.output_text"] if history else [])]),
        history_import=history,
        retrieve=said["items.retrieve"],
        delete=said["items.delete"],
        truncate=said["items.truncate"],
        insert_first=said["items.insertFirst"],
        remote_images=said["items.remoteImages"],
        max_text_chars=said["items.maxTextChars"],
        max_content_parts=said["items.maxContentParts"],
    )


def _tools(said: Said) -> ToolRules:
    return ToolRules(
        admin=tuple(said.get("tools.admin", ())),
        client=tuple(_client_tool(entry) for entry in said.get("tools.client", ())),
        client_functions=Strictness(said["tools.clientFunctions"]),
        max_tools=said["tools.maxTools"],
        mcp_approvals=said["tools.mcpApprovals"],
    )


def _client_tool(entry: Mapping[str, Any]) -> ClientTool:
    definition = entry.get("definition")
    whole = {"type": "function", "name": entry["name"], **definition} if definition is not None else None
    return ClientTool(entry["name"], whole, entry.get("schemaHash"))


def _events(said: Said) -> EventRules:
    client, server = said.get("events.client"), said.get("events.server")
    return EventRules(
        client=None if client is None else frozenset(client),
        server=None if server is None else frozenset(server),
        hide_fields=frozenset(said["events.hideFields"]),
        rate_limits=said["events.rateLimits"],
        input_audio_append=said["events.inputAudioAppend"],
        pass_unknown=said["events.passUnknown"],
        max_event_bytes=said["events.maxEventBytes"],
        max_depth=said["events.maxDepth"],
    )
