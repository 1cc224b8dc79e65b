"""The members of the upstream pool: each with its adapter, credential and connections, and what is known of its health.

Where there is no pool, the one resource of the settings is its only member, and everything is the same.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relay.config import UpstreamAuth
from relay.core.pool import MemberState, PoolFacts, PoolHealth, Trouble
from relay.upstream.adapters import create_upstream
from relay.upstream.credentials import entra_credential
from relay.upstream.service import ServiceError, ServiceRefusal, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from relay.config import UpstreamSettings
    from relay.core.lifecycle import Dialect
    from relay.core.policy_rules import ResidencyRules
    from relay.core.pool import Condition
    from relay.upstream.credentials import Credential

# What stands against the member, and not against the request: another one may be asked in its place.
_TROUBLES = {
    ServiceRefusal.RATE_LIMITED: Trouble.BUSY,
    ServiceRefusal.FAILED: Trouble.FAILING,
    ServiceRefusal.TIMEOUT: Trouble.FAILING,
    ServiceRefusal.UNREACHABLE: Trouble.FAILING,
    ServiceRefusal.INVALID_ANSWER: Trouble.FAILING,
    ServiceRefusal.UNAUTHORIZED: Trouble.MISCONFIGURED,
    ServiceRefusal.NO_DEPLOYMENT: Trouble.MISCONFIGURED,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One resource. `service` is its base URL: calls that outlive the relay are kept with it."""

    facts: PoolFacts
    service: str
    upstream: Upstream

    @property
    def name(self) -> str:
        """What it is called in settings, metrics and logs."""
        return self.facts.name


class PoolListener(Protocol):
    """Who is told of members that change."""

    def member_changed(self, member: str, condition: Condition, error: str | None, seconds: float | None) -> None:
        """Hear how it stands with a member now, what went wrong last, and for how long it is left alone."""
        ...


class UpstreamPool:
    """All members. `deployment` is the one of the settings, which a member may call otherwise.

    `request_seconds` bounds one request to a member.
    """

    def __init__(
        self,
        members: Sequence[Member],
        deployment: str,
        request_seconds: float,
        listener: PoolListener,
        health: PoolHealth | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = tuple(members)
        self.request_seconds = request_seconds
        self.sessions: Counter[str] = Counter()
        self._by_name = {member.name: member for member in members}
        self._deployment = deployment
        self._listener = listener
        self._health = health or PoolHealth([member.facts for member in members])
        self._draw = draw
        self.now = clock

    @property
    def dialect(self) -> Dialect:
        """The dialect of session objects and events, which all members share."""
        return self.members[0].upstream.dialect

    @property
    def deployments(self) -> frozenset[str]:
        """What members call the deployment of the settings; none of it is for a browser's eyes."""
        return frozenset(each.facts.deployment for each in self.members if each.facts.deployment)

    @property
    def credential_expires_at(self) -> float | None:
        """When the first of the credentials ends, Unix seconds; None if none does."""
        ends = [each.upstream.credential_expires_at for each in self.members]
        return min((at for at in ends if at is not None), default=None)

    def deployment_at(self, member: Member, deployment: str) -> str:
        """What a member calls a deployment."""
        own = member.facts.deployment
        return own if own is not None and deployment == self._deployment else deployment

    def allowed(self, member: Member, residency: ResidencyRules, deployment: str) -> bool:
        """Whether a session of this deployment may be at a member at all."""
        return residency.allows(member.facts.region, self.deployment_at(member, deployment))

    def choose(self, residency: ResidencyRules, deployment: str, tried: Collection[str]) -> Member | None:
        """The member to try next; never one that the rules leave out. It is to be tried with `trying`."""
        allowed = [each.name for each in self.members if self.allowed(each, residency, deployment)]
        name = self._health.choose(allowed, tried, self.now(), self._draw())
        return None if name is None else self._by_name[name]

    @contextlib.contextmanager
    def trying(self, member: Member) -> Iterator[None]:
        """Set a call up at the member within this; what comes of it is noted as its health."""
        name, began = member.name, self.now()
        try:
            yield
        except ServiceError as error:
            trouble = _TROUBLES.get(error.refusal)
            if trouble is None:
                self._health.left(name, began)
            else:
                told = None if error.retry_after_ms is None else error.retry_after_ms / 1000
                if self._health.failed(name, trouble, error.refusal.value, began, self.now(), told):
                    self._tell(name)
            raise
        except BaseException:
            self._health.left(name, began)
            raise
        if self._health.succeeded(name, began):
            self._tell(name)

    def named(self, name: str) -> Member:
        """The member of this name; KeyError if there is none."""
        return self._by_name[name]

    def at(self, service: str, name: str = "") -> Member | None:
        """The member with this base URL, of several the one of this name; None if the settings know none any more."""
        found = [each for each in self.members if each.service == service]
        return next((each for each in found if each.name == name), found[0] if found else None)

    def state(self) -> list[MemberState]:
        """How it stands with every member."""
        return [self._state(member.facts) for member in self.members]

    async def close(self) -> None:
        """Close every member's connections; may be called twice."""
        for member in self.members:
            await member.upstream.close()

    def _state(self, facts: PoolFacts) -> MemberState:
        left = self._health.seconds_left(facts.name, self.now())
        return MemberState(
            facts.name,
            facts.region,
            facts.weight,
            self._health.condition(facts.name),
            None if left is None else time.time() + left,
            self._health.last_error(facts.name),
            self.sessions[facts.name],
        )

    def _tell(self, name: str) -> None:
        health = self._health
        left = health.seconds_left(name, self.now())
        self._listener.member_changed(name, health.condition(name), health.last_error(name), left)


def fails_over(error: ServiceError) -> bool:
    """Whether another member may be asked in place of the one that said this; else the request is at fault."""
    return error.refusal in _TROUBLES


def retry_after_seconds(states: Collection[MemberState], now: float) -> int:
    """When the first of these members is tried again, whole seconds from `now` (Unix), at least one."""
    soonest = min((state.until for state in states if state.until is not None), default=now)
    return max(1, -int(-(soonest - now) // 1))


def create_pool(settings: UpstreamSettings, listener: PoolListener) -> UpstreamPool:
    """Make every member's adapter; needs a running loop, opens no connection yet. Raises ConfigError."""
    entra: Credential | None = None
    members = []
    for each in settings.members:
        own = settings.of_member(each)
        if own.auth is UpstreamAuth.ENTRA and entra is None:
            # One identity, one token for all who take it.
            entra = entra_credential(settings.entra_scope, settings.timeout_seconds)
        facts = PoolFacts(each.name, each.region, each.weight, each.deployment)
        members.append(Member(facts, own.endpoint, create_upstream(own, entra)))
    return UpstreamPool(members, settings.deployment, settings.timeout_seconds, listener)
