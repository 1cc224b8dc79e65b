"""Whom a set of documents would change, before it is in force: sessions that run, and who talked lately. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

from relay.core.policy import EffectivePolicy
from relay.core.policy_document import PolicyDocument
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, Unresolved, resolve

# What names a policy and where it is served; no rule of it.
_NO_RULE = frozenset({"name", "revision", "deployment", "transcription_deployment"})


class Reach(StrEnum):
    """When a session that runs is changed: at once, in its limits alone, or only the next one is another."""

    NOW = "now"
    LIMITS = "limits now"
    NEXT = "next session"


@dataclass(frozen=True, slots=True)
class GovernedSession:
    """A session that runs: for whom, what its client asked for, and the policy it is under."""

    session_id: str
    identity: Identity
    model_asked: str | None
    policy: EffectivePolicy


@dataclass(frozen=True, slots=True)
class LiveImpact:
    """What becomes of a session that runs. `to` None: no policy covers it; it goes on, and the next is refused.

    `changes` counts the rules that differ, by their own names or by session field.
    """

    session: GovernedSession
    to: EffectivePolicy | None
    changes: int
    reach: Reach


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who talked lately, and the policy of the last of those sessions. Claims are not kept."""

    tenant: str
    subject: str
    policy: str


@dataclass(frozen=True, slots=True)
class RecordedImpact:
    """What somebody would get next time, by name of policy. `certain` False: claims, origin or model decide here."""

    principal: Principal
    to: str | None
    certain: bool


def live_impact(
    documents: Sequence[PolicyDocument], defaults: ServiceDefaults, sessions: Sequence[GovernedSession]
) -> Iterator[LiveImpact]:
    """The sessions that run and would be changed; those that would not are left out."""
    resolver = _Resolver(documents, defaults)
    for session in sessions:
        to = resolver.policy(session.identity, session.model_asked)
        has = session.policy
        if to is None:
            yield LiveImpact(session, None, 0, Reach.NEXT)
        elif (to.name, to.revision) != (has.name, has.revision):
            limits = Reach.LIMITS if to.limits != has.limits else Reach.NEXT
            yield LiveImpact(session, to, differences(has, to), Reach.NOW if to.apply_live else limits)


def recorded_impact(
    before: Sequence[PolicyDocument],
    after: Sequence[PolicyDocument],
    defaults: ServiceDefaults,
    principals: Sequence[Principal],
) -> Iterator[RecordedImpact]:
    """Those who would get another policy, or another revision of theirs, as far as tenant and subject tell."""
    resolvers = [_Resolver(documents, defaults) for documents in (before, after)]
    for principal in principals:
        has, to = (resolver.policy(Identity(principal.tenant, principal.subject), None) for resolver in resolvers)
        if _named(has) != _named(to):
            certain = has is not None and has.name == principal.policy
            yield RecordedImpact(principal, None if to is None else to.name, certain)


def differences(one: EffectivePolicy, other: EffectivePolicy) -> int:
    """In how many rules two policies differ."""
    return sum(
        _different(getattr(one, rule.name), getattr(other, rule.name))
        for rule in fields(EffectivePolicy)
        if rule.name not in _NO_RULE
    )


def _different(one: Any, other: Any) -> int:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())
    if is_dataclass(one) and type(one) is type(other):
        return sum(getattr(one, member.name) != getattr(other, member.name) for member in fields(one))
    return int(one != other)


def _named(policy: EffectivePolicy | None) -> tuple[str, str] | None:
    return None if policy is None else (policy.name, policy.revision)


class _Resolver:
    """Resolves each kind of caller once: a subject is in no document's match, so most callers are of few kinds."""

    def __init__(self, documents: Sequence[PolicyDocument], defaults: ServiceDefaults) -> None:
        self._documents = documents
        self._defaults = defaults
        self._known: dict[tuple[str, str | None, str, str | None], EffectivePolicy | None] = {}

    def policy(self, identity: Identity, model: str | None) -> EffectivePolicy | None:
        """The policy of a new session; None if there is none."""
        claims = repr(sorted(identity.claims.items(), key=lambda claim: claim[0]))
        kind = (identity.tenant, identity.origin, claims, model)
        if kind not in self._known:
            try:
                found = resolve(self._documents, identity, PolicyRequest(model), self._defaults).policy
            except Unresolved:
                found = None
            self._known[kind] = found
        return self._known[kind]
