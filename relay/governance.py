"""Policies as administrators handle them: looked at, published, taken back; a whole set at a time.

What is in force is always what is stored: a set is stored first and put in force then, and every node looks once a
second for what others stored. Where policies are kept in files they are looked at in the same way, and changed as
files are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from relay.core.access import Administrator
from relay.core.policy_resolve import ServiceDefaults
from relay.core.revision_files import Finding, NotThere, laid_over, tag_of
from relay.core.stored import AuditNote, Revision, RevisionRow, StaleRevision, StoreError
from relay.errors import ConfigError
from relay.policies import POLL_SECONDS, Policies, PolicyListener
from relay.policy_loader import MOST_WAITING, LoaderBusy, Outcome, PolicyLoader
from relay.policy_loading import LoadedPolicies
from relay.policy_revision import files_at
from relay.policy_sources import policy_set
from relay.revisions import InForce, Revisions, fit_hash, load_revision, told

# A stored set that could not be loaded here is tried again: the fault may have been this machine's.
_RETRY_SECONDS = 30.0

Files = Mapping[str, str]


class InvalidPolicies(Exception):  # noqa: N818 - a refusal that a door turns into 422
    """A set that cannot be put in force; `findings` say why."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(f"{len(findings)} problems")
        self.findings = findings


class KeptInFiles(Exception):  # noqa: N818 - a refusal that a door turns into 409
    """The policies are kept in files and cannot be changed here."""


@dataclass(frozen=True, slots=True)
class Published:
    """A revision that is in force now, and what its author should know of it."""

    revision: Revision
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where policies are kept: revisions in a store with the one in force at the start, or else files at a path."""

    revisions: Revisions | None = None
    first: InForce | None = None
    documents: str | None = None


class Governance:
    """The one place through which policies change while the relay runs.

    Everything that asks the store raises StoreError, everything that loads LoaderBusy and ConfigError.
    """

    def __init__(
        self,
        shelf: Shelf,
        policies: Policies,
        defaults: ServiceDefaults,
        listener: PolicyListener,
        warn: Callable[[str, str], None],
        loader: PolicyLoader,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.policies = policies
        self._revisions = shelf.revisions
        self._in_force = shelf.first
        self._documents = shelf.documents
        self._defaults = defaults
        self._listener = listener
        self._warn = warn
        self._clock = clock
        self._loader = loader
        self._turn = asyncio.Lock()
        self._publishing: set[asyncio.Task[Published]] = set()
        self._refused: tuple[int, float] | None = None
        self._away = False

    @property
    def in_force(self) -> Revision | None:
        """The revision in force on this node; None where policies are kept in files."""
        return None if self._in_force is None else self._in_force.revision

    @property
    def loaded(self) -> LoadedPolicies | None:
        """What that revision was loaded to."""
        return None if self._in_force is None else self._in_force.loaded

    def require_managed(self) -> None:
        """Raise KeptInFiles where nothing can be published."""
        if self._revisions is None:
            raise KeptInFiles

    async def files(self) -> Files:
        """The files of the set in force; where they are kept in files, as these are now (raises ConfigError)."""
        if self._in_force is not None:
            return self._in_force.revision.files
        return {} if self._documents is None else await asyncio.to_thread(files_at, self._documents)

    async def publish(self, files: Files, note: str, expected: str, administrator: Administrator) -> Published:
        """Put this set in force in place of the one whose tag is `expected`.

        Raises StaleRevision, InvalidPolicies, UnfitFiles and KeptInFiles; then nothing was stored or changed.
        """
        return await self._publish(lambda _: dict(sorted(files.items())), note, expected, administrator)

    async def change(
        self, changes: Mapping[str, str | None], note: str, expected: str, administrator: Administrator
    ) -> Published:
        """Put the set with these files changed in force, None taking one away; raises as `publish`, and NotThere."""
        return await self._publish(lambda files: laid_over(files, changes), note, expected, administrator)

    async def rollback(self, number: int, note: str, expected: str, administrator: Administrator) -> Published:
        """Publish the files of an earlier revision again, as a new one; raises as `publish`, and NotThere."""
        files = (await self.revision(number)).files
        return await self._publish(lambda _: files, note, expected, administrator, rolled_back_to=number)

    async def revisions(self, before: int | None, limit: int) -> Sequence[RevisionRow]:
        """The newest revisions below a number, newest first; none where policies are kept in files."""
        return () if self._revisions is None else await self._revisions.list(before, limit)

    async def revision(self, number: int) -> Revision:
        """One revision. Raises NotThere."""
        found = None if self._revisions is None else await self._revisions.get(number)
        if found is None:
            raise NotThere
        return found

    async def watch(self, poll_seconds: float = POLL_SECONDS) -> NoReturn:
        """Put in force what other nodes publish, for ever; an outage of the store is told once."""
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self._catch_up()
            except StoreError as error:
                if not self._away:
                    self._warn("policies_not_followed", str(error))
                self._away = True
            else:
                self._away = False

    async def close(self) -> None:
        """Give up what is under way, and end the process."""
        for task in self._publishing:
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)
        await self._loader.close()

    # --- publishing --------------------------------------------------------------------------------------------------

    async def _publish(
        self,
        edit: Callable[[Files], Files],
        note: str,
        expected: str,
        administrator: Administrator,
        rolled_back_to: int | None = None,
    ) -> Published:
        if self._revisions is None:
            raise KeptInFiles
        if len(self._publishing) >= MOST_WAITING:
            raise LoaderBusy
        work = self._store(self._revisions, edit, note, expected, administrator, rolled_back_to)
        # A client that goes away must not leave behind a set that is stored and not in force.
        task = asyncio.create_task(work, name="publish policies")
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return await asyncio.shield(task)

    async def _store(
        self,
        revisions: Revisions,
        edit: Callable[[Files], Files],
        note: str,
        expected: str,
        administrator: Administrator,
        rolled_back_to: int | None,
    ) -> Published:
        await self._catch_up()  # whoever asks may have seen what another node published
        head = self.in_force
        if head is None or tag_of(head) != expected:
            raise StaleRevision(None if head is None else head.number)
        files = dict(edit(head.files))
        digest = await asyncio.to_thread(fit_hash, files)
        outcome = await self._loader.load(files)
        good = good_of(outcome)
        body = (
            told(files, digest) | ({} if rolled_back_to is None else {"of_revision": rolled_back_to}) | {"note": note}
        )
        action = "policy.publish" if rolled_back_to is None else "policy.rollback"
        audit = AuditNote(administrator.name, administrator.role.value, action, target=str(head.number + 1), body=body)
        async with self._turn:
            revision = await revisions.publish(
                files, digest, administrator.name, note, head.number, audit, self._clock()
            )
            self._take(InForce(revision, good))
        return Published(revision, outcome.findings)

    async def _catch_up(self) -> None:
        """Put the newest stored revision in force, if it is another than the one that is."""
        if self._revisions is None:
            return
        async with self._turn:
            newest = await self._revisions.list(None, 1)
            if not newest or self._has(newest[0]):
                return
            head = await self._revisions.get(newest[0].number)
            if head is None:
                return
            try:
                self._take(InForce(head, await load_revision(head, self._loader)))
            except ConfigError as error:
                self._refused = (head.number, self._clock() + _RETRY_SECONDS)
                self._listener.policies_refused(str(error))

    def _has(self, newest: RevisionRow) -> bool:
        """Whether it is in force, or was found just now to be of no use to this program."""
        if self._refused is not None and self._refused[0] == newest.number and self._clock() < self._refused[1]:
            return True
        head = self.in_force
        return head is not None and (head.number, head.hash) == (newest.number, newest.hash)

    def _take(self, newest: InForce) -> None:
        self.policies.put_in_force(policy_set(newest.loaded, self._defaults))
        self._in_force = newest
        self._refused = None


def good_of(outcome: Outcome) -> LoadedPolicies:
    """What a set was loaded to. Raises InvalidPolicies."""
    if outcome.loaded is None:
        raise InvalidPolicies(outcome.findings)
    return outcome.loaded
