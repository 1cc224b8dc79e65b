"""The policies of one relay put together: where they are kept, what loads them, who may change them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from relay.config import Settings
from relay.core.policy import policy_from_instructions, policy_revision
from relay.core.policy_resolve import ServiceDefaults
from relay.core.policy_rules import OnSinkFailure
from relay.errors import ConfigError
from relay.governance import Governance, Shelf
from relay.policies import Policies
from relay.policy_loader import PolicyLoader
from relay.policy_sources import PolicySource, documents_at, one_policy, one_set, policy_set
from relay.policy_trials import PolicyTrials
from relay.revisions import first_revision
from relay.store import Store, StoreError
from relay.stored_switch import StoredSwitch
from relay.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class PolicyKeeping:
    """What asks and what changes the policies; `managed`: they are kept in the store."""

    policies: Policies
    governance: Governance
    trials: PolicyTrials
    switch: StoredSwitch
    managed: bool

    def watches(self) -> dict[str, Callable[[], Awaitable[NoReturn]]]:
        """What has to run for as long as the relay, by name."""
        # A managed relay's documents are a seed; what is looked at beside them is the file of the kill switch.
        changes = self.governance.watch if self.managed else self.policies.watch
        return {"policies": changes, "switch": self.policies.watch_switch, "stored-switch": self.switch.watch}


@contextlib.asynccontextmanager
async def policy_keeping(
    settings: Settings, store: Store, telemetry: Telemetry, recordable: Callable[[], bool]
) -> AsyncIterator[PolicyKeeping]:
    """Load the policies for the first time; on leaving, the processes that check them end. Raises ConfigError."""

    def warn(event: str, error: str) -> None:
        telemetry.warn(event, error=error)

    defaults, documents = _defaults(settings), settings.policy.documents
    async with contextlib.AsyncExitStack() as stack:
        loader = PolicyLoader(defaults)
        stack.push_async_callback(loader.close)
        if settings.policy.managed:
            first = await first_revision(store.revisions, documents, loader, time.time)
            shelf = Shelf(store.revisions, first, documents)
            source = one_set(policy_set(first.loaded, defaults))
        else:
            shelf, source = Shelf(documents=documents), _source(settings)
        policies = Policies(source, documents, telemetry.policies, recordable)
        switch = StoredSwitch(store.kill_switches, policies, warn)
        try:
            await switch.read()
        except StoreError as error:
            raise ConfigError(f"the kill switch cannot be read from the store: {error}") from None
        governance = Governance(shelf, policies, defaults, telemetry.policies, warn, loader)
        stack.push_async_callback(governance.close)
        trials = PolicyTrials(governance, defaults, store.sessions)
        stack.push_async_callback(trials.close)
        yield PolicyKeeping(policies, governance, trials, switch, settings.policy.managed)


def _source(settings: Settings) -> PolicySource:
    """What loads the policies that are not in the store: the documents' files, or the one instruction text."""
    defaults = _defaults(settings)
    if settings.policy.documents is not None:
        return documents_at(settings.policy.documents, defaults)
    policy = policy_from_instructions(
        settings.policy.instructions, defaults.deployment, defaults.transcription_deployment
    )
    policy = replace(policy, on_sink_failure=OnSinkFailure(settings.decision_log.on_failure))
    return one_policy(replace(policy, revision=policy_revision(policy)))


def _defaults(settings: Settings) -> ServiceDefaults:
    upstream = settings.upstream
    return ServiceDefaults(upstream.deployment, upstream.transcription_deployment, upstream.regions)
