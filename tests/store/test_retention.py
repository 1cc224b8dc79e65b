"""Old rows go, a batch at a time, and nothing else does."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from relay.core.decision_chain import DecisionRecord
from relay.core.stored import MEMORY_DECISIONS, MEMORY_SESSIONS, SessionRow, UsageBy, UsageDelta
from relay.store import RetentionDays, open_store
from relay.store.retention import Deleted, Retention
from relay.store.tables import DECISIONS, SESSIONS

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


async def count(store, table) -> int:
    return await store.database.run(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar()
    )


@pytest.mark.parametrize("durable", [False, True])
async def test_memory_holds_the_newest_alone(tmp_path, durable):
    """Else a relay without a directory would grow for as long as it runs."""
    store = await open_store(f"sqlite:///{tmp_path}/relay.db" if durable else "sqlite://")
    sessions = [SessionRow(f"rs_{at}", "t", "s", "p", "r", 0.0, float(at)) for at in range(MEMORY_SESSIONS + 60)]
    for first in range(0, len(sessions), 50):
        await store.sessions.add_many(sessions[first : first + 50])
    one = DecisionRecord(1.0, "rs", "t", "s", "p", "r", "downstream", "e", "rule", "end", "enforce")
    for _ in range(MEMORY_DECISIONS // 500 + 1):
        await store.decisions.add_many([one] * 500)
    kept = (MEMORY_SESSIONS + 60, MEMORY_DECISIONS + 500) if durable else (MEMORY_SESSIONS, MEMORY_DECISIONS)
    assert (await count(store, SESSIONS), await count(store, DECISIONS)) == kept
    assert (await store.sessions.search(limit=1)).rows[0].id == sessions[-1].id
    assert (await store.sessions.get("rs_0") is not None) == durable
    assert (await store.decisions.search(limit=1))[0].number == MEMORY_DECISIONS + 500
    await store.close()
