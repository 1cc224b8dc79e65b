"""What changed policies would do, before anybody publishes them: faults, differences in meaning, whom they reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.core.policy_diff import Change, diff
from relay.core.policy_document import PolicyDocument
from relay.core.policy_impact import (
    GovernedSession,
    LiveImpact,
    Principal,
    RecordedImpact,
    live_impact,
    recorded_impact,
)
from relay.core.policy_resolve import ServiceDefaults
from relay.core.revision_files import Finding, laid_over, require_fit
from relay.governance import Governance, good_of
from relay.policy_loader import Outcome, PolicyLoader
from relay.policy_loading import LoadedPolicies
from relay.revisions import SessionRecords

MOST_CHANGES = 2_000
MOST_PRINCIPALS = 1_000
_RECORDED_SECONDS = 30 * 86_400.0
_RECORDS = 500
_MOST_PAGES = 20


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a set would change: its rules, sessions that run, and those who talked in the last 30 days.

    `truncated`: there are more of these than are told.
    """

    changes: tuple[Change, ...]
    live: tuple[LiveImpact, ...]
    recorded: tuple[RecordedImpact, ...]
    truncated: bool


class PolicyTrials:
    """Tries sets in a process of its own, so that nobody who types holds up a publication; stores nothing.

    Every method raises UnfitFiles, LoaderBusy, ConfigError and StoreError.
    """

    def __init__(
        self,
        governance: Governance,
        defaults: ServiceDefaults,
        records: SessionRecords | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._governance = governance
        self._defaults = defaults
        self._records = records
        self._live: Callable[[], Sequence[GovernedSession]] = tuple
        self._clock = clock
        self._loader = PolicyLoader(defaults)

    def watch(self, live: Callable[[], Sequence[GovernedSession]]) -> None:
        """Be told what gives the sessions that run."""
        self._live = live

    async def check(self, changes: Mapping[str, str | None]) -> tuple[Finding, ...]:
        """What would be wrong with the set in force if these files were laid over it; None takes one away."""
        return (await self._tried(changes)).findings

    async def dry_run(self, changes: Mapping[str, str | None]) -> DryRun:
        """What would change if these files were laid over the set in force. Raises InvalidPolicies."""
        after = good_of(await self._tried(changes)).documents
        before = (await self._now()).documents
        sessions = tuple(self._live())
        principals, more = await self._principals()

        def impact() -> tuple[tuple[LiveImpact, ...], tuple[RecordedImpact, ...]]:
            recorded = recorded_impact(before, after, self._defaults, principals)
            return tuple(live_impact(after, self._defaults, sessions)), tuple(recorded)

        changed = await _differences(before, after)
        live, recorded = await asyncio.to_thread(impact)
        return DryRun(changed[:MOST_CHANGES], live, recorded, more or len(changed) > MOST_CHANGES)

    async def diff(self, old: int, new: int) -> tuple[Change, ...]:
        """What changed in meaning from one revision to another, 2,000 changes at most.

        Raises NotThere, and InvalidPolicies for one that this program would not put in force.
        """
        before, after = [
            good_of(await self._loader.load((await self._governance.revision(each)).files)) for each in (old, new)
        ]
        return (await _differences(before.documents, after.documents))[:MOST_CHANGES]

    async def close(self) -> None:
        """End the process."""
        await self._loader.close()

    async def _tried(self, changes: Mapping[str, str | None]) -> Outcome:
        current = await self._governance.files()
        known = {path: text for path, text in changes.items() if text is not None or path in current}
        files = laid_over(current, known)
        await asyncio.to_thread(require_fit, files)
        return await self._loader.load(files)

    async def _now(self) -> LoadedPolicies:
        loaded = self._governance.loaded
        return loaded if loaded is not None else good_of(await self._loader.load(await self._governance.files()))

    async def _principals(self) -> tuple[tuple[Principal, ...], bool]:
        """Who talked in the last 30 days, the latest first, and whether there are more than are told."""
        if self._records is None:
            return (), False
        found: dict[tuple[str, str], Principal] = {}
        since, cursor = self._clock() - _RECORDED_SECONDS, None
        for _ in range(_MOST_PAGES):
            page = await self._records.search(since=since, before_cursor=cursor, limit=_RECORDS)
            for row in page.rows:
                found.setdefault((row.tenant, row.subject), Principal(row.tenant, row.subject, row.policy))
            cursor = page.next
            if cursor is None or len(found) > MOST_PRINCIPALS:
                break
        return tuple(found.values())[:MOST_PRINCIPALS], cursor is not None or len(found) > MOST_PRINCIPALS


async def _differences(before: Sequence[PolicyDocument], after: Sequence[PolicyDocument]) -> tuple[Change, ...]:
    return await asyncio.to_thread(lambda: tuple(diff(before, after)))
