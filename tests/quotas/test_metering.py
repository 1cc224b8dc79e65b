"""Usage: counted once, kept over a restart, seen by other nodes, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from support.kinds import DATABASES

from relay.core.allowance import Scope, Spent
from relay.core.stored import StoreError
from relay.core.tally import OTHERS
from relay.metering import FLUSH_SECONDS, Metering, Who
from relay.store.usage import Usages

ALICE, BOB = Who("t", "alice"), Who("t", "bob")
DAY = 86_400.0
ALL = tuple(Scope)


class Faulty:
    """A store that fails before or after it did what it was asked."""

    def __init__(self, usage: Usages) -> None:
        self._usage = usage
        self.before = self.after = False

    async def add(self, deltas, writer, batch, at):
        if self.before:
            raise StoreError("away")
        await self._usage.add(deltas, writer, batch, at)
        if self.after:
            raise StoreError("no answer")

    async def spent(self, day, subjects, tenants, *, relay):
        if self.before or self.after:
            raise StoreError("away")
        return await self._usage.spent(day, subjects, tenants, relay=relay)


def told(metering: Metering, who: Who) -> list[tuple[float, int, float]]:
    """Seconds, tokens and dollars of user, tenant and relay."""
    metering.accrue()
    return [
        (each.spent.seconds, each.spent.tokens, each.spent.dollars) for each in metering.accounts(who, ALL).values()
    ]


@pytest.fixture
def node(databases, clock):
    return lambda **options: Metering(Usages(databases()), clock=clock, monotonic=clock, **options)


@pytest.mark.parametrize("kind", DATABASES)
async def test_what_was_used_is_there_after_a_restart_and_at_other_nodes(kind, node, clock):
    first = node()
    first.start("rs_1", ALICE)
    first.start("rs_2", BOB)
    clock.now += 30
    first.used(ALICE, 100, 0.5)
    assert told(first, ALICE) == [(30, 100, 0.5), (60, 100, 0.5), (60, 100, 0.5)]
    await first.sync()
    other = node()
    await other.know(ALICE, ALL)
    assert told(other, ALICE) == [(30, 100, 0.5), (60, 100, 0.5), (60, 100, 0.5)]
    other.start("rs_3", ALICE)
    clock.now += FLUSH_SECONDS
    for metering in (first, other, first):
        await metering.sync()
    assert told(first, ALICE) == told(other, ALICE) == [(40, 100, 0.5), (75, 100, 0.5), (75, 100, 0.5)]
    assert first.stop("rs_1")
    assert not first.stop("rs_1")
    clock.now += 10
    assert told(first, ALICE)[0][0] == 40


@pytest.mark.parametrize("kind", DATABASES)
async def test_nothing_is_counted_twice_or_lost_when_a_flush_fails(kind, databases, clock):
    faulty = Faulty(Usages(databases()))
    metering = Metering(faulty, clock=clock, monotonic=clock)
    metering.used(ALICE, 1, 1.0)
    for before, after in [(True, False), (False, True), (False, True), (True, False)]:
        faulty.before, faulty.after = before, after
        metering.used(ALICE, 10, 0.0)
        with pytest.raises(StoreError):
            await metering.sync()
    assert told(metering, ALICE) == [(0, 41, 1.0)] * 3
    faulty.before = faulty.after = False
    await metering.sync()
    await metering.know(ALICE, ALL)
    assert told(metering, ALICE) == [(0, 41, 1.0)] * 3
    assert await Usages(databases()).spent("2027-01-15", [("t", "alice")]) == {("t", "alice"): Spent(0, 41, 1.0)}


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_session_over_midnight_counts_for_both_days(kind, node, databases, clock):
    metering = node()
    clock.now += DAY - clock.now % DAY - 20
    metering.start("rs_1", ALICE)
    clock.now += 10
    await metering.know(ALICE, ALL)
    clock.now += 45
    assert told(metering, ALICE)[0] == (35, 0, 0)
    await metering.sync()
    assert told(metering, ALICE)[0] == (35, 0, 0)
    usage = Usages(databases())
    days = [(await usage.spent(day, relay=True))[()].seconds for day in ("2027-01-15", "2027-01-16")]
    assert days == [20, 35]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_of_too_many_subjects_the_rest_counts_for_tenant_and_relay(kind, databases, clock):
    faulty = Faulty(Usages(databases()))
    metering = Metering(faulty, most_subjects=3, clock=clock, monotonic=clock)
    faulty.before = True
    for number in range(10):
        metering.used(Who("t", f"subject {number}"), 1, 0.0)
    assert [tokens for _, tokens, _ in told(metering, Who("t", "subject 9"))] == [0, 10, 10]
    faulty.before = False
    await metering.sync()
    kept = await Usages(databases()).spent("2027-01-15", [("t", "subject 2"), ("t", OTHERS)], ["t"])
    assert [each.tokens for each in kept.values()] == [7, 1, 10]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_who_is_gone_is_forgotten(kind, node, clock):
    metering = node()
    for number in range(50):
        who = Who("t", f"subject {number}")
        await metering.know(who, ALL)
        metering.start(f"rs_{number}", who)
        metering.stop(f"rs_{number}")
    clock.now += 60
    await metering.sync()
    assert (len(metering._read), len(metering._pending), len(metering._counts)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_many_who_come_at_once_are_one_question_to_the_store(kind, databases, clock):
    usage = Usages(databases())
    asked = []

    class Counting:
        add = usage.add

        async def spent(self, day, subjects, tenants, *, relay):
            asked.append(len(subjects))
            return await usage.spent(day, subjects, tenants, relay=relay)

    metering = Metering(Counting(), clock=clock, monotonic=clock)
    await asyncio.gather(*(metering.know(Who("t", f"subject {number}"), ALL) for number in range(50)))
    # The one who came first asked alone.
    assert asked == [1, 49]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_tenants_without_end_fill_no_memory_while_the_store_is_away(kind, databases, clock):
    faulty = Faulty(Usages(databases()))
    metering = Metering(faulty, most_subjects=3, clock=clock, monotonic=clock)
    faulty.before = True
    for number in range(50):
        metering.used(Who(f"tenant {number}", "s"), 1, 0.0)
    assert len(metering._pending) == 7
    assert [tokens for _, tokens, _ in told(metering, Who("tenant 0", "s"))] == [1, 1, 50]
    faulty.before = False
    await metering.sync()
    assert (await Usages(databases()).spent("2027-01-15", relay=True))[()].tokens == 50
