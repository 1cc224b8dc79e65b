"""Every repository, on every database."""

from __future__ import annotations

import asyncio

import pytest

from relay.core.access import Role
from relay.core.allowance import Spent
from relay.core.decision_chain import DecisionRecord
from relay.core.kill_switch import KillSwitch
from relay.core.stored import (
    AuditNote,
    KeyKind,
    KillKind,
    SessionRow,
    StaleRevision,
    UnfitText,
    UsageBy,
    UsageDelta,
)

NOTE = AuditNote("ada", "owner", "test.change")
DIGEST = "ab" * 32
# What a database may spoil: a NUL, half of a surrogate pair, letters beyond the first plane, too many of them.
NASTY = "o'brien\"; --\0 \ud800 \N{GRINNING FACE}" + "x" * 300


def session(number: int, **changed) -> SessionRow:
    values = {
        "id": f"rs_{number:03}",
        "tenant": "contoso" if number % 2 else "fabrikam",
        "subject": "s1",
        "policy": "desk",
        "reason": "client_hung_up",
        "started_at": 1000.0 + number,
        "ended_at": 2000.0 + number // 2,
        "body": {"number": number},
        "timeline": ({"at": 1.5, "kind": "phase"},),
    }
    return SessionRow(**{**values, **changed})


def decision(number: int, **changed) -> DecisionRecord:
    values = {
        "at": 1000.0 + number,
        "session": f"rs_{number % 3}",
        "tenant": "contoso" if number % 2 else "fabrikam",
        "subject": "s1",
        "policy": "desk",
        "revision": "r1",
        "leg": "downstream",
        "event_type": "session.update",
        "rule": "instructions",
        "verdict": "strip",
        "mode": "enforce",
        "content_sha256": DIGEST,
    }
    return DecisionRecord(**{**values, **changed})


async def publish(store, expected, text="a", note="first"):
    return await store.revisions.publish({"a.yaml": text}, DIGEST, "ada", note, expected, NOTE, 1.0)


async def test_revisions_are_numbered_and_kept_whole(store):
    assert await store.revisions.head() is None
    assert await store.revisions.head_number() is None
    text = 'name: "a"\n# \N{GRINNING FACE}\r\n'
    first = await publish(store, None, text)
    second = await publish(store, 1, "b")
    assert (first.number, second.number) == (1, 2)
    assert await store.revisions.get(1) == first
    assert first.files == {"a.yaml": text}
    assert await store.revisions.head() == second
    assert await store.revisions.get(3) is None
    assert await store.revisions.get(2**80) is None
    rows = await store.revisions.list()
    assert [row.number for row in rows] == [2, 1]
    assert [row.number for row in await store.revisions.list(before=2)] == [1]
    assert [row.note.action for row in await store.audit.search()] == ["test.change", "test.change"]


async def test_of_many_that_saw_the_same_head_one_publishes(store):
    await publish(store, None)
    outcomes = await asyncio.gather(*(publish(store, 1, f"text {n}") for n in range(20)), return_exceptions=True)
    won = [each for each in outcomes if not isinstance(each, Exception)]
    assert [each.number for each in won] == [2]
    assert {each.head for each in outcomes if isinstance(each, StaleRevision)} == {2}
    assert len(outcomes) == 20
    # Whoever lost left nothing: no revision, no audit row.
    assert await store.revisions.get(2) == won[0]
    assert await store.revisions.head_number() == 2
    assert [row.number for row in await store.audit.search()] == [2, 1]


async def test_a_stale_publish_leaves_no_audit_row(store):
    with pytest.raises(StaleRevision):
        await publish(store, 7)
    assert await store.audit.search() == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"note": "secret" * 1000}, "note is longer than 2000 characters"),
        ({"files": {"a": "secret" * 2_000_000}}, "the set of files is larger than 8388608 bytes"),
    ],
)
async def test_a_revision_that_does_not_fit_is_refused_in_words_that_do_not_quote_it(store, changed, words):
    values = {"files": {}, "hash": DIGEST, "author": "ada", "note": "", "expected": None, "audit": NOTE, "at": 1.0}
    with pytest.raises(UnfitText, match=words) as refused:
        await store.revisions.publish(**{**values, **changed})
    assert "secret" not in str(refused.value)
    assert await store.revisions.head_number() is None


async def test_an_author_whose_name_is_longer_than_its_column_publishes_all_the_same(store):
    made = await store.revisions.publish({}, DIGEST, f"key {'n' * 300}", "", None, NOTE, 1.0)
    assert made == await store.revisions.get(1)
    assert made.author.startswith("key nnn")


async def test_keys_are_found_by_digest_until_they_are_revoked(store, clock):
    key = await store.keys.create(KeyKind.ADMIN, "ci", None, Role.GOVERNOR, DIGEST, "ada", clock.now + 10, NOTE)
    assert await store.keys.find(DIGEST) == key
    assert await store.keys.find("cd" * 32) is None
    assert (key.tenant, key.role, key.opens(clock.now), key.opens(clock.now + 10)) == (None, Role.GOVERNOR, True, False)
    tenants = await store.keys.create(KeyKind.TENANT, "app", "contoso", None, "cd" * 32, "ada", None, NOTE)
    assert [row.id for row in await store.keys.list(KeyKind.TENANT)] == [tenants.id]
    assert [row.id for row in await store.keys.list(tenant="contoso")] == [tenants.id]
    assert await store.keys.list(KeyKind.ADMIN, "contoso") == []
    revoked = await store.keys.revoke(key.id, NOTE)
    assert revoked.revoked_at == clock.now
    assert not (await store.keys.find(DIGEST)).opens(clock.now)
    assert await store.keys.revoke(key.id, NOTE) is None
    assert await store.keys.revoke(NASTY, NOTE) is None
    assert [row.note.target for row in await store.audit.search()] == [key.id, tenants.id, key.id]


async def test_a_key_that_has_expired_is_not_rotated_to_one_that_has_too(store, clock):
    old = await store.keys.create(KeyKind.TENANT, "shop", "acme", None, "ab" * 32, "ann", clock() + 5, NOTE)
    clock.now += 5
    assert await store.keys.rotate(old.id, "cd" * 32, 60, "bob", NOTE) is None
    assert await store.keys.find("cd" * 32) is None


async def test_a_rotated_key_ends_after_the_overlap_and_not_later_than_it_would_have(store, clock):
    old = await store.keys.create(KeyKind.TENANT, "app", "contoso", None, DIGEST, "ada", clock.now + 50, NOTE)
    new = await store.keys.rotate(old.id, "cd" * 32, 60, "bob", NOTE)
    assert (new.name, new.tenant, new.kind, new.expires_at) == ("app", "contoso", KeyKind.TENANT, old.expires_at)
    assert (await store.keys.get(old.id)).expires_at == clock.now + 50
    last = await store.keys.rotate(new.id, "ef" * 32, 0, "bob", NOTE)
    assert (await store.keys.get(new.id)).revoked_at == clock.now
    assert await store.keys.rotate(new.id, "01" * 32, 0, "bob", NOTE) is None
    assert (await store.keys.find("ef" * 32)).id == last.id
    assert (await store.audit.search())[0].note.body == {"replaces": new.id}


async def test_a_use_is_noted_once_a_minute(store, clock):
    key = await store.keys.create(KeyKind.TENANT, "app", "contoso", None, DIGEST, "ada", None, NOTE)
    for at in (100.0, 159.0, 160.0):
        await store.keys.touch(key.id, at)
        assert (await store.keys.get(key.id)).used_at == (100.0 if at < 160 else 160.0)


async def test_sessions_are_searched_a_page_at_a_time(store):
    await store.sessions.add_many([session(number) for number in range(9)])
    # Told again, as after a failure nobody knows the extent of.
    await store.sessions.add(session(3, reason="changed"))
    found, cursor = [], None
    while True:
        page = await store.sessions.search(before_cursor=cursor, limit=2)
        found += [row.id for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert found == [f"rs_{number:03}" for number in reversed(range(9))]
    mine = await store.sessions.search(tenant="contoso", since=2001.0, until=2003.0, reason="client_hung_up")
    assert [row.id for row in mine.rows] == ["rs_005", "rs_003"]
    assert mine.rows[0].timeline is None
    assert mine.rows[0].body == {"number": 5}
    assert await store.sessions.get("rs_003") == session(3)
    assert await store.sessions.get("rs_x") is None
    with pytest.raises(UnfitText):
        await store.sessions.search(before_cursor="zz~rs_1")


async def test_a_record_is_kept_whatever_stands_in_it(store):
    row = session(
        1,
        tenant=NASTY,
        body={"text": NASTY, "many": "y" * 70_000},
        timeline=tuple({"at": n, "text": "z" * 1000} for n in range(500)),
    )
    await store.sessions.add_many([row, session(2, tenant=NASTY[:-1], body={"bad": float("nan")})])
    kept = await store.sessions.get("rs_001")
    assert kept.body["left_out"] == "too large"
    # The last ones that fit.
    assert 200 < len(kept.timeline) < 300
    assert kept.timeline[-1]["at"] == 499
    assert (await store.sessions.get("rs_002")).body == {"left_out": "not JSON"}
    # Two that are cut at the same letter are two still.
    assert [row.id for row in (await store.sessions.search(tenant=NASTY)).rows] == ["rs_001"]


async def test_usage_adds_up_exactly_however_many_add_at_once(store):
    def batch(n: int) -> list[UsageDelta]:
        return [
            UsageDelta("2026-11-22", "contoso", f"s{n % 3}", 1, 1.5, 10, 0.25),
            UsageDelta("2026-11-22", "fabrikam", "s0", 0, 1.0, 2**40, 0.5),
            UsageDelta("2026-11-21", "contoso", "s0", tokens=1),
        ]

    await asyncio.gather(*(store.usage.add(batch(n), f"writer {n}", "1", 0.0) for n in range(30)))
    asked = {"subjects": [("contoso", "s1"), ("contoso", "nobody")], "tenants": ["contoso"], "relay": True}
    assert await store.usage.spent("2026-11-22", **asked) == {
        ("contoso", "s1"): Spent(15.0, 100, 2.5),
        ("contoso",): Spent(45.0, 300, 7.5),
        (): Spent(75.0, 300 + 30 * 2**40, 22.5),
    }
    assert await store.usage.spent("2026-11-23", **asked) == {(): Spent()}
    days = await store.usage.report("2026-11-21", "2026-11-23", None, UsageBy.DAY)
    assert [(row.day, row.tokens) for row in days] == [("2026-11-21", 30), ("2026-11-22", 300 + 30 * 2**40)]
    tenants = await store.usage.report("2026-11-22", "2026-11-23", None, UsageBy.TENANT)
    assert [(row.tenant, row.dollars) for row in tenants] == [("fabrikam", 15.0), ("contoso", 7.5)]
    subjects = await store.usage.report("2026-11-22", "2026-11-23", "contoso", UsageBy.SUBJECT)
    assert [(row.tenant, row.subject, row.sessions) for row in subjects] == [("contoso", f"s{n}", 10) for n in range(3)]
    with pytest.raises(ValueError, match="month"):
        await store.usage.report("2026-22-11", "2026-11-23", None, UsageBy.DAY)


async def test_a_batch_of_usage_that_comes_late_or_twice_is_added_once(store):
    async def add(batch: str) -> None:
        await store.usage.add([UsageDelta("2026-11-22", "t", "s", tokens=1)], "w", batch, 0.0)

    # Three times at once; then one that was given up and sent again comes through after the next one.
    await asyncio.gather(add("0001"), add("0001"), add("0001"), return_exceptions=True)
    await add("0002")
    await add("0001")
    assert (await store.usage.spent("2026-11-22", relay=True))[()].tokens == 2


async def test_decisions_are_searched_by_what_they_are_about(store):
    await store.decisions.add_many([decision(number) for number in range(10)])
    await store.decisions.add_many([decision(10, event_type=NASTY, would_be="end", content_sha256=None)])
    found = await store.decisions.search(limit=3)
    assert [row.record.at for row in found] == [1010.0, 1009.0, 1008.0]
    assert found[1].record == decision(9)
    assert found[0].record.event_type != NASTY
    below = await store.decisions.search(before=found[-1].number, tenant="contoso", since=1003.0, until=1008.0)
    assert [row.record.at for row in below] == [1007.0, 1005.0, 1003.0]
    assert [row.record.at for row in await store.decisions.search(session="rs_0", rule="instructions", limit=2)] == [
        1009.0,
        1006.0,
    ]
    assert await store.decisions.search(verdict="end", before=2**80) == []


async def test_kill_switches_are_replaced_as_a_whole(store, clock):
    assert await store.kill_switches.all() == []
    first = await store.kill_switches.set(KillKind.TENANT, "contoso", "ada", "spam", NOTE)
    clock.now += 5
    rows = await store.kill_switches.replace(
        KillSwitch(everybody=True, tenants=frozenset({"contoso"}), policies=frozenset({"desk"})), "bob", "", NOTE
    )
    assert {(row.kind, row.name, row.author) for row in rows} == {
        (KillKind.ALL, "", "bob"),
        (KillKind.TENANT, "contoso", "ada"),
        (KillKind.POLICY, "desk", "bob"),
    }
    assert first in rows
    assert await store.kill_switches.clear(KillKind.ALL, "", NOTE)
    assert not await store.kill_switches.clear(KillKind.ALL, "", NOTE)
    assert await store.kill_switches.replace(KillSwitch(), "bob", "", NOTE) == []
    assert len(await store.audit.search()) == 5
