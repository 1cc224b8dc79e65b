"""Old rows go, a batch at a time, and nothing else does."""

from __future__ import annotations

import pytest

from relay.core.decision_chain import DecisionRecord
from relay.core.stored import SessionRow, UsageBy, UsageDelta
from relay.store import RetentionDays
from relay.store.retention import Deleted, Retention

DAY = 86_400.0


@pytest.mark.parametrize(("days", "kept"), [(RetentionDays(2, 3, 4), (2, 3, 5)), (RetentionDays(0, 0, 0), (9, 9, 9))])
async def test_what_is_older_than_its_days_is_deleted(store, clock, days, kept):
    # 2027-01-15, at 08:00.
    for age in range(9):
        at = clock.now - age * DAY
        await store.sessions.add(SessionRow(f"rs_{age}", "t", "s", "p", "r", at - 5, at))
        record = DecisionRecord(at, "rs", "t", "s", "p", "r", "downstream", "e", "rule", "end", "enforce")
        await store.decisions.add_many([record])
        deltas = [UsageDelta(f"2027-01-{15 - age:02}", "t", subject, 1) for subject in ("a", "b", "c")]
        await store.usage.add(deltas, f"writer {age}", "1", 0.0)
    clock.now += 1
    retention = Retention(store.database, store.audit, days, clock, batch=2)
    deleted = await retention.delete_old()
    assert deleted == Deleted(9 - kept[0], 9 - kept[1], 3 * (9 - kept[2]))
    assert len((await store.sessions.search()).rows) == kept[0]
    assert len(await store.decisions.search()) == kept[1]
    assert len(await store.usage.report("2027-01-01", "2027-02-01", None, UsageBy.DAY)) == kept[2]
    assert await retention.delete_old() == Deleted()
