"""The audit log: whole under concurrency, and a row that was changed or taken out is found."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from relay.core.stored import AuditNote
from relay.store import RetentionDays, open_store

ROWS = 12


def note(number: int, **changed) -> AuditNote:
    values = {"actor": "ada", "role": "owner", "action": "key.create", "tenant": "contoso", "target": f"key_{number}"}
    return AuditNote(**{**values, "body": {"n": number, "words": ["\N{GRINNING FACE}", 0.1]}, **changed})


async def change(store, statement: str) -> None:
    """What somebody does who gets at the table."""
    await store.database.run(lambda connection: connection.execute(text(statement)))


async def test_rows_written_at_once_make_one_chain(store):
    rows = await asyncio.gather(*(store.audit.append(note(number)) for number in range(40)))
    assert sorted(row.number for row in rows) == list(range(1, 41))
    verdict = await store.audit.verify()
    assert (verdict.ok, verdict.rows, verdict.first_bad) == (True, 40, None)
    by_number = {row.number: row for row in rows}
    assert await store.audit.get(7) == by_number[7]
    assert (await store.audit.head()).number == 40


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE number = 5", 5),
        ("UPDATE audit SET body = '{\"n\": 4}' WHERE number = 5", 5),
        ("UPDATE audit SET accepted = NOT accepted WHERE number = 12", 12),
        ("UPDATE audit SET at = at + 1 WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 5", 5),
        ("DELETE FROM audit WHERE number <= 3", 1),
        ("UPDATE audit SET number = 99 WHERE number = 12", 12),
        ("UPDATE audit SET action = 'audit.trim' WHERE number = 6", 6),
    ],
)
async def test_a_row_changed_or_taken_out_is_named(store, statement, first_bad):
    for number in range(ROWS):
        await store.audit.append(note(number))
    await change(store, statement)
    verdict = await store.audit.verify()
    assert (verdict.ok, verdict.first_bad) == (False, first_bad)
    assert len(await store.audit.search()) >= ROWS - 3


async def test_a_search_finds_what_was_refused_to_a_tenant_s_administrator(store, clock):
    for number in range(6):
        clock.now += 1
        await store.audit.append(note(number, accepted=number != 3, tenant="contoso" if number % 2 else ""))
    found = await store.audit.search(tenant="contoso", actor="ada", action="key.create")
    assert [row.note.target for row in found] == ["key_5", "key_3", "key_1"]
    assert [row.note for row in await store.audit.search(accepted=False)] == [note(3, accepted=False)]
    assert [row.number for row in await store.audit.search(before=4, limit=2)] == [3, 2]
    assert len(await store.audit.search(since=clock.now, until=clock.now + 1)) == 1


async def test_old_rows_are_trimmed_and_the_rest_still_proves_itself(url, clock):
    store = await open_store(url, RetentionDays(audit=10), clock)
    try:
        for number in range(ROWS):
            clock.now += 86_400
            await store.audit.append(note(number))
        assert (await store.retention.delete_old()).audit == 0
        clock.now += 3 * 86_400
        assert (await store.retention.delete_old()).audit == 4
        kept = [row.number for row in await store.audit.search()]
        assert kept == [13, 12, 11, 10, 9, 8, 7, 6, 5]
        assert (await store.audit.verify()).ok
        # Every row is old by now, and the last one stays.
        clock.now += 100 * 86_400
        await store.retention.delete_old()
        assert (await store.audit.verify()).ok
        await store.audit.append(note(50))
        verdict = await store.audit.verify()
        assert verdict.ok
        # Nobody else can cut it so.
        first = (await store.audit.search())[-1].number
        await change(store, f"DELETE FROM audit WHERE number = {first}")
        assert not (await store.audit.verify()).ok
    finally:
        await store.close()


async def test_a_body_that_is_too_large_is_kept_by_its_hash(store):
    row = await store.audit.append(note(1, body={"text": "x" * 70_000}, target="t" * 500))
    assert row.note.body["left_out"] == "too large"
    assert len(row.note.target) == 200
    assert (await store.audit.verify()).ok
