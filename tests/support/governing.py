"""Nodes that share a store of policies: each with its policies, its governance and its followers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.core.kill_switch import KillSwitch
from relay.core.policy_resolve import Identity, ServiceDefaults
from relay.core.revision_files import tag_of
from relay.governance import Governance, Published, Shelf
from relay.policies import Policies
from relay.policy_loader import PolicyLoader, _answer
from relay.policy_sources import one_set, policy_set
from relay.policy_trials import PolicyTrials
from relay.revisions import first_revision
from relay.store import Store, open_store
from relay.stored_switch import StoredSwitch
from support.admin import GOVERNOR
from support.policies import document

DEFAULTS = ServiceDefaults("contoso-rt", "contoso-transcribe")
ALICE = Identity(subject_hash="alice")


class LoaderHere(PolicyLoader):
    """The loader without its process, which takes a second to start."""

    async def _ask(self, request: bytes) -> bytes:
        return await asyncio.to_thread(_answer, request)


class Heard:
    """What the listener of policies was told."""

    def __init__(self) -> None:
        self.loaded: list[dict[str, str]] = []
        self.refused: list[str] = []
        self.switches: list[KillSwitch] = []
        self.warned: list[str] = []
        self._news = asyncio.Event()

    def policies_loaded(self, revisions: Any, warnings: tuple[str, ...]) -> None:
        self.loaded.append(dict(revisions))
        self._news.set()

    def policies_refused(self, problems: str) -> None:
        self.refused.append(problems)
        self._news.set()

    def kill_switch_changed(self, switch: KillSwitch, unknown: tuple[str, ...]) -> None:
        self.switches.append(switch)
        self._news.set()

    def policy_unresolved(self, reason: str, detail: str) -> None:
        """Nobody asks."""

    def warn(self, event: str, error: str) -> None:
        self.warned.append(event)
        self._news.set()

    async def until(self, wanted: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not wanted():
                self._news.clear()
                await self._news.wait()


@dataclass
class Node:
    """One relay as far as policies go."""

    governance: Governance
    policies: Policies
    trials: PolicyTrials
    switch: StoredSwitch
    store: Store
    heard: Heard

    @property
    def tag(self) -> str:
        """The tag of what is in force."""
        assert self.governance.in_force is not None
        return tag_of(self.governance.in_force)

    @property
    def number(self) -> int:
        """The number of what is in force."""
        assert self.governance.in_force is not None
        return self.governance.in_force.number

    def text(self) -> str:
        """The instructions of a session that would begin now."""
        return self.policies.admit(ALICE, None).instructions.text

    async def put(self, text: str, **more: Any) -> Published:
        """Publish the first document with another text, as a change to what is in force."""
        return await self.governance.change({"base.yaml": document(text=text, **more)}, "", self.tag, GOVERNOR)


@contextlib.asynccontextmanager
async def node(url: str, documents: Path | None = None, *, follow: bool = False) -> AsyncIterator[Node]:
    """A node on a store; with `follow` it looks for what others did, 50 times a second."""
    heard = Heard()
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(url)
        stack.push_async_callback(store.close)
        loader = LoaderHere(DEFAULTS)
        stack.push_async_callback(loader.close)
        path = None if documents is None else str(documents)
        first = await first_revision(store.revisions, path, loader, lambda: 1.0)
        policies = Policies(one_set(policy_set(first.loaded, DEFAULTS)), None, heard)
        switch = StoredSwitch(store.kill_switches, policies, heard.warn, poll_seconds=0.02)
        governance = Governance(Shelf(store.revisions, first, path), policies, DEFAULTS, heard, heard.warn, loader)
        stack.push_async_callback(governance.close)
        trials = PolicyTrials(governance, DEFAULTS, store.sessions)
        trials._loader = LoaderHere(DEFAULTS)
        watches = [governance.watch(0.02), switch.watch()] if follow else []
        tasks = [asyncio.create_task(watch) for watch in watches]
        try:
            yield Node(governance, policies, trials, switch, store, heard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
