"""What governance asks of the store, and the first set of a relay whose policies are kept in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relay.core.revision_files import files_hash, require_fit
from relay.core.stored import AuditNote, Revision, RevisionRow, SessionPage, StaleRevision, StoreError
from relay.errors import ConfigError
from relay.policy_loader import LoaderBusy, PolicyLoader
from relay.policy_loading import LoadedPolicies
from relay.policy_revision import files_at

SEED = "seed"
_SEED_NOTE = "The documents of policy.documents, into an empty store."


class Revisions(Protocol):
    """The published sets in the store; every method raises StoreError."""

    async def head(self) -> Revision | None:
        """The newest."""
        ...

    async def get(self, number: int) -> Revision | None:
        """One of them."""
        ...

    async def list(self, before: int | None, limit: int) -> Sequence[RevisionRow]:
        """The newest below a number, newest first, without their files."""
        ...

    async def publish(
        self,
        files: dict[str, str],
        hash: str,  # noqa: A002  the word of the table
        author: str,
        note: str,
        expected: int | None,
        audit: AuditNote,
        at: float,
    ) -> Revision:
        """Add one after number `expected`, with its audit row. Raises StaleRevision."""
        ...


class SessionRecords(Protocol):
    """The finished sessions in the store."""

    async def search(
        self, *, since: float | None = None, before_cursor: str | None = None, limit: int = 100
    ) -> SessionPage:
        """Some of them, the last ended first. Raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class InForce:
    """A revision, and what it was loaded to."""

    revision: Revision
    loaded: LoadedPolicies = field(repr=False)


async def first_revision(
    revisions: Revisions, documents: str | None, loader: PolicyLoader, clock: Callable[[], float]
) -> InForce:
    """The newest revision, made of `documents` if the store has none. Raises ConfigError.

    One that cannot be loaded is a reason not to start: an older one may allow what this one was published to forbid.
    """
    try:
        head = await revisions.head() or await _seeded(revisions, documents, loader, clock)
    except StoreError as error:
        raise ConfigError(f"the policies cannot be read from the store: {error}") from None
    try:
        return InForce(head, await load_revision(head, loader))
    except ConfigError as error:
        way_out = (
            f"revision {head.number} of the policies, the newest in the store, cannot be put in force by this program. "
            "Start the one that published it, or write it out (relay policy export DIR), mend it, and publish it "
            "(relay policy import DIR --note WHY)"
        )
        raise ConfigError(f"{way_out}:\n{error}") from None


async def load_revision(revision: Revision, loader: PolicyLoader) -> LoadedPolicies:
    """What a stored revision loads to. Raises ConfigError, in words that may stand in a log."""
    if await asyncio.to_thread(files_hash, revision.files) != revision.hash:
        raise ConfigError(f"revision {revision.number}: its files are not those it was published with")
    try:
        outcome = await loader.load(revision.files)
    except LoaderBusy:
        raise ConfigError("too many sets wait to be checked") from None
    if outcome.loaded is None:
        raise ConfigError("\n".join(outcome.errors))
    return outcome.loaded


async def _seeded(
    revisions: Revisions, documents: str | None, loader: PolicyLoader, clock: Callable[[], float]
) -> Revision:
    if documents is None:
        words = "the store holds no policies yet: set policy.documents to begin with, or relay policy import DIR"
        raise ConfigError(f"policy.managed is true and {words}")
    files = await asyncio.to_thread(files_at, documents)
    digest = fit_hash(files)
    outcome = await loader.load(files)
    if outcome.loaded is None:
        raise ConfigError("\n".join(outcome.errors))
    audit = AuditNote(SEED, "", "policy.publish", target="1", body=told(files, digest))
    try:
        return await revisions.publish(files, digest, SEED, _SEED_NOTE, None, audit, clock())
    except StaleRevision:
        head = await revisions.head()  # another node was first
        if head is None:
            raise ConfigError("the policies cannot be read from the store") from None
        return head


def fit_hash(files: Mapping[str, str]) -> str:
    """The hash of a set, once it was found fit to be a revision. Raises UnfitFiles."""
    require_fit(files)
    return files_hash(files)


def told(files: Mapping[str, str], digest: str) -> dict[str, object]:
    """What the audit log tells of a published set."""
    return {"hash": digest, "files": len(files)}
