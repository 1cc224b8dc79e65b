"""Where policies come from: documents on a disk, a revision of the store, or one instruction text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from relay.core.policy import EffectivePolicy
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, resolve
from relay.core.policy_rules import OnSinkFailure
from relay.policy_loading import LoadedPolicies, load, load_apart

_DEFAULT_TENANT = Identity().tenant


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies that were found good. `resolve` raises Unresolved; `revisions` has the hash of each by name.

    `by_origin`: some policy is for pages of certain origins, so nothing is sure before the page itself asks;
    `fail_closed`: some policy allows nothing that cannot be recorded; `tenants`: those that documents name.
    """

    resolve: Callable[[Identity, PolicyRequest], EffectivePolicy]
    revisions: Mapping[str, str]
    by_origin: bool = False
    fail_closed: bool = False
    warnings: tuple[str, ...] = field(default=())
    tenants: frozenset[str] = frozenset({_DEFAULT_TENANT})


class PolicySource(Protocol):
    """Where policies come from."""

    def __call__(self) -> PolicySet:
        """Load them here and now; raises ConfigError, in words that may stand in a log."""
        ...

    async def apart(self) -> PolicySet:
        """Load them while sessions run, without holding up the event loop; raises ConfigError likewise."""
        ...


@dataclass(frozen=True, slots=True)
class _OnePolicy:
    policy: EffectivePolicy

    def __call__(self) -> PolicySet:
        policy = self.policy
        fail_closed = policy.on_sink_failure is OnSinkFailure.FAIL_CLOSED
        return PolicySet(lambda _identity, _request: policy, {policy.name: policy.revision}, fail_closed=fail_closed)

    async def apart(self) -> PolicySet:
        return self()


@dataclass(frozen=True, slots=True)
class _Documents:
    path: str
    defaults: ServiceDefaults

    def __call__(self) -> PolicySet:
        return policy_set(load(self.path, self.defaults), self.defaults)

    async def apart(self) -> PolicySet:
        return policy_set(await load_apart(self.path, self.defaults), self.defaults)


@dataclass(frozen=True, slots=True)
class _OneSet:
    policies: PolicySet

    def __call__(self) -> PolicySet:
        return self.policies

    async def apart(self) -> PolicySet:
        return self.policies


def one_policy(policy: EffectivePolicy) -> PolicySource:
    """Return what loads a set of this one policy, for everybody and every model."""
    return _OnePolicy(policy)


def documents_at(path: str, defaults: ServiceDefaults) -> PolicySource:
    """Return what loads the documents at a path: read, checked, linted, their tests run."""
    return _Documents(path, defaults)


def one_set(policies: PolicySet) -> PolicySource:
    """Return what gives a set that was loaded already; others are put in force from outside."""
    return _OneSet(policies)


def policy_set(loaded: LoadedPolicies, defaults: ServiceDefaults) -> PolicySet:
    """The set that documents make."""
    documents = loaded.documents
    matches = [each.match for each in documents if each.match is not None]
    return PolicySet(
        lambda identity, request: resolve(documents, identity, request, defaults).policy,
        loaded.revisions,
        by_origin=any(match.origins is not None for match in matches),
        fail_closed=loaded.fail_closed,
        warnings=loaded.warnings,
        tenants=frozenset({_DEFAULT_TENANT}.union(*(match.tenants or () for match in matches))),
    )
