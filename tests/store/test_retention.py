"""Old rows go, a batch at a time, and nothing else does."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from relay.core.decision_chain import DecisionRecord
from relay.core.stored import (
    MEMORY_DECISIONS,
    MEMORY_REVISIONS,
    MEMORY_SESSIONS,
    MEMORY_USAGE_DAYS,
    AuditNote,
    SessionRow,
    UsageBy,
    UsageDelta,
)
from relay.store import RetentionDays, open_store
from relay.store.retention import Deleted, Retention
from relay.store.tables import DECISIONS, SESSIONS, USAGE

DAY = 86_400.0
NOTE = AuditNote("ada", "owner", "key.create")


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


@pytest.fixture(params=["memory", "durable"])
async def either(request, tmp_path):
    """A store in memory, whose rows are bounded, and one on a disk, whose rows are not."""
    store = await open_store(f"sqlite:///{tmp_path}/relay.db" if request.param == "durable" else "sqlite://")
    yield store, store.database.in_memory
    await store.close()


def used(day: str, *subjects: str) -> list[UsageDelta]:
    return [UsageDelta(day, "t", subject, seconds=1.0) for subject in subjects]


async def test_memory_holds_the_usage_of_the_last_days_alone(either):
    store, in_memory = either
    days = [f"2027-01-{number:02}" for number in range(1, MEMORY_USAGE_DAYS + 4)]
    for number, day in enumerate(days):
        await store.usage.add(used(day, "s"), "w", f"{number:03}", 1_798_761_600.0 + number * DAY)
    rows = await store.usage.report("2027-01-01", "2027-02-01", None, UsageBy.DAY)
    assert [row.day for row in rows] == (days[-MEMORY_USAGE_DAYS:] if in_memory else days)


async def test_memory_without_room_for_usage_forgets_the_oldest_days_first_and_never_today(either, monkeypatch):
    monkeypatch.setattr("relay.store.usage.MEMORY_USAGE_ROWS", 4)
    store, in_memory = either
    today = 1_798_761_600.0 + 2 * DAY
    await store.usage.add(used("2027-01-01", "a", "b", "c") + used("2027-01-02", "a"), "w", "1", today)
    assert await count(store, USAGE) == 4
    await store.usage.add(used("2027-01-03", "a", "b"), "w", "2", today)
    rows = await store.usage.report("2027-01-01", "2027-02-01", None, UsageBy.DAY)
    assert [(row.day, row.seconds) for row in rows] == [
        ("2027-01-01", 1.0 if in_memory else 3.0), ("2027-01-02", 1.0), ("2027-01-03", 2.0)]  # fmt: skip
    await store.usage.add(used("2027-01-03", "c", "d", "e", "f"), "w", "3", today)
    spent = await store.usage.spent("2027-01-03", tenants=["t"])
    assert (spent[("t",)].seconds, await count(store, USAGE)) == (6.0, 6 if in_memory else 10)


async def test_memory_trims_the_audit_log_now_and_then_and_the_rest_still_proves_itself(either, monkeypatch):
    monkeypatch.setattr("relay.store.audit_log.MEMORY_AUDIT", 20)
    monkeypatch.setattr("relay.store.audit_log._MEMORY_OVER", 5)
    store, in_memory = either
    most = 0
    for _ in range(60):
        row = await store.audit.append(NOTE)
        verdict = await store.audit.verify()
        assert verdict.ok
        assert await store.audit.get(row.number) == row
        most = max(most, verdict.rows)
    trims = await store.audit.search(action="audit.trim")
    assert (most, len(trims)) == ((24, 5) if in_memory else (60, 0))


async def test_memory_holds_the_newest_revisions_alone(either):
    store, in_memory = either
    for number in range(MEMORY_REVISIONS + 3):
        await store.revisions.publish({"a": str(number)}, "ab" * 32, "ada", "", number or None, NOTE, 1.0)
    rows = await store.revisions.list(limit=500)
    assert len(rows) == MEMORY_REVISIONS + (0 if in_memory else 3)
    head = await store.revisions.head()
    assert (head.number, head.files) == (MEMORY_REVISIONS + 3, {"a": str(MEMORY_REVISIONS + 2)})
    assert (await store.revisions.get(3) is None) == in_memory
