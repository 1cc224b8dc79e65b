"""Limits held while sessions run, and when what they count cannot be counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.resources import settled

from relay.config import OnStoreFailure
from relay.core.allowance import Allowance, Bound, Scope, Spent
from relay.core.leases import Claim
from relay.core.policy_resolve import Identity
from relay.core.policy_rules import LimitRules
from relay.core.stored import StoreError, StoreOperation
from relay.core.tally import Tally
from relay.errors import ApiError
from relay.metering import Metering
from relay.quotas import QuotaRules, Quotas
from relay.slots import Slots
from relay.store import leases as leases_module
from relay.store.leases import SqlLeases

ALICE, BOB = Identity("t", "alice"), Identity("t", "bob")
OPEN, CLOSED = OnStoreFailure.FAIL_OPEN, OnStoreFailure.FAIL_CLOSED


class Session:
    """A session that writes down what it is told."""

    def __init__(self, rules: LimitRules | None = None) -> None:
        self.rules = rules or LimitRules()
        self.told: list[tuple[str, int | str]] = []

    def warn_ending(self, reason, seconds_left):
        self.told.append((reason, seconds_left))

    def end(self, reason, detail=""):
        self.told.append((reason, detail))


class Store:
    """Leases and usage in memory, which fail when told to, or forget."""

    def __init__(self) -> None:
        self.away = False
        self.held: set[str] = set()
        self.room = 100
        self.usage = Tally(100)

    def _ask(self) -> None:
        if self.away:
            raise StoreError("away")

    async def take(self, claim, limits):
        self._ask()
        if limits.scopes and len(self.held - {claim.session}) >= self.room:
            return Scope.RELAY
        self.held.add(claim.session)
        return None

    async def renew(self, claims):
        self._ask()
        return frozenset(claim.session for claim in claims) - self.held

    async def release(self, session, *, at_once=True):
        self._ask()
        self.held.discard(session)

    def hurry(self):
        pass

    async def free_own(self):
        self._ask()
        return 0

    async def add(self, deltas, writer, batch, at):
        self._ask()
        for each in deltas:
            self.usage.add(each.day, each.tenant, each.subject, Spent(each.seconds, each.tokens, each.dollars))

    async def spent(self, day, subjects, tenants, *, relay):
        self._ask()
        keys = [*subjects, *((tenant,) for tenant in tenants), *([()] if relay else [])]
        return {key: self.usage.of(day, key) for key in keys}

    async def take_mint(self, tenant, subject, limits):
        self._ask()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def quotas(store, clock, telemetry):
    def make(allowance: Allowance | None = None, on_failure: OnStoreFailure = CLOSED) -> Quotas:
        slots = Slots(store, on_failure, telemetry.quotas)
        metering = Metering(store, clock=clock, monotonic=clock)
        rules = QuotaRules(allowance or Allowance(), Bound(user=1), 10.0, on_failure, on_failure)
        return Quotas(rules, slots, metering, store.take_mint, telemetry.quotas, clock, clock)

    return make


async def talking(quotas, session_id, identity, session):
    await quotas.admit(session_id, identity, session.rules)
    quotas.follow(session_id, identity, session)
    quotas.count(session_id)


def pass_seconds(quotas, clock, seconds):
    for _ in range(seconds):
        clock.now += 1
        quotas._look()


async def test_two_sessions_of_one_user_share_the_minutes_exactly(quotas, clock):
    held = quotas(Allowance(minutes=Bound(user=5)))
    one, two, other = Session(), Session(), Session()
    await talking(held, "rs_1", ALICE, one)
    await talking(held, "rs_o", BOB, other)
    pass_seconds(held, clock, 100)
    await talking(held, "rs_2", ALICE, two)
    pass_seconds(held, clock, 99)
    assert one.told == two.told == [("quota_time", 60)]
    assert all(isinstance(left, int) for _, left in one.told)
    pass_seconds(held, clock, 1)
    assert one.told == two.told == [("quota_time", 60), ("quota_time", "user")]
    assert other.told == []
    held.stop("rs_1")
    with pytest.raises(ApiError) as refused:
        await held.admit("rs_3", ALICE, LimitRules())
    error = refused.value
    assert (error.status, error.code, error.headers["retry-after"]) == (429, "quota_exceeded", str(57_600 - 200))
    assert error.message == "All minutes of sessions that you may have today are used up."
    await held.admit("rs_4", BOB, LimitRules())


async def test_a_policy_tightens_what_the_settings_allow_also_in_a_session_that_runs(quotas, clock):
    held = quotas(Allowance(minutes=Bound(user=5)))
    session = Session(LimitRules(warn_seconds=10))
    await talking(held, "rs_1", ALICE, session)
    pass_seconds(held, clock, 100)
    session.rules = replace(session.rules, allowance=Allowance(minutes=Bound(user=2)))
    pass_seconds(held, clock, 20)
    assert session.told == [("quota_time", 10), ("quota_time", "user")]


async def test_tokens_and_cost_end_sessions_after_the_grace(quotas, clock):
    held = quotas(Allowance(tokens=Bound(tenant=100), dollars=Bound(relay=1)))
    one, other = Session(), Session()
    await talking(held, "rs_1", ALICE, one)
    await talking(held, "rs_2", Identity("u", "x"), other)
    held.used(BOB, 99, 0.5)
    held._look()
    assert one.told == []
    held.used(ALICE, 1, 0.0)
    pass_seconds(held, clock, 11)
    assert one.told == [("quota_tokens", 10), ("quota_tokens", "tenant")]
    held.used(ALICE, 0, 0.5)
    pass_seconds(held, clock, 11)
    assert other.told == [("quota_cost", 10), ("quota_cost", "relay")]


async def test_a_session_that_waits_for_its_client_uses_no_time(quotas, clock):
    held = quotas(Allowance(minutes=Bound(user=1)))
    session = Session()
    await held.admit("rs_1", ALICE, session.rules)
    held.follow("rs_1", ALICE, session)
    pass_seconds(held, clock, 100)
    held.count("rs_1")
    held.count("rs_1")
    pass_seconds(held, clock, 59)
    assert session.told == [("quota_time", 59)]


async def test_closed_limits_refuse_while_the_store_is_away_and_running_sessions_go_on(quotas, store, clock, telemetry):
    held = quotas(Allowance(sessions=Bound(user=5), minutes=Bound(user=5)))
    session = Session()
    await talking(held, "rs_1", ALICE, session)
    store.away = True
    clock.now += 60
    for asked in (held.admit("rs_2", ALICE, LimitRules()), held.may_mint(ALICE)):
        with pytest.raises(ApiError) as refused:
            await asked
        assert (refused.value.status, refused.value.code) == (503, "quota_unavailable")
    await held._slots.renew()
    held._look()
    assert [left for _, left in session.told] == []
    failures = telemetry.quotas._failures
    assert failures.labels("usage")._value.get() == 1
    assert failures.labels("mints")._value.get() == 1
    assert failures.labels("sessions")._value.get() == 1


async def test_open_limits_let_in_while_the_store_is_away_and_count_them_when_it_is_back(quotas, store):
    held = quotas(Allowance(sessions=Bound(user=5), minutes=Bound(user=5)), OPEN)
    store.away, store.room = True, 0
    session = Session()
    await talking(held, "rs_1", ALICE, session)
    await held.may_mint(ALICE)
    store.away = False
    await held._slots.renew()
    assert (store.held, session.told) == ({"rs_1"}, [])


async def test_what_this_node_counted_holds_while_the_store_is_away(quotas, store, clock):
    held = quotas(Allowance(minutes=Bound(user=1)), OPEN)
    store.away = True
    await talking(held, "rs_1", ALICE, Session())
    clock.now += 60
    with pytest.raises(ApiError) as refused:
        await held.admit("rs_2", ALICE, LimitRules())
    assert refused.value.code == "quota_exceeded"


async def test_a_place_that_was_lost_is_taken_again_and_without_room_the_session_ends(quotas, store):
    held = quotas(Allowance(sessions=Bound(relay=2)))
    sessions = {name: Session() for name in ("rs_1", "rs_2")}
    for name, session in sessions.items():
        await talking(held, name, ALICE, session)
    store.held.clear()
    await held._slots.renew()
    assert store.held == {"rs_1", "rs_2"}
    store.held, store.room = {"rs_of_another_node"}, 2
    await held._slots.renew()
    assert sessions["rs_1"].told == []
    assert sessions["rs_2"].told == [("quota_sessions", "relay")]


async def test_a_request_that_is_cancelled_while_it_takes_its_place_gives_it_back(quotas, store):
    held = quotas(Allowance(sessions=Bound(relay=2)))
    taken, may_go_on = asyncio.Event(), asyncio.Event()
    take = store.take

    async def slowly(claim, limits):
        scope = await take(claim, limits)
        taken.set()
        await may_go_on.wait()
        return scope

    store.take = slowly
    asked = asyncio.create_task(held.admit("rs_1", ALICE, LimitRules()))
    await taken.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert store.held == {"rs_1"}
    may_go_on.set()
    await held.close()
    assert store.held == set()


async def test_a_session_whose_limits_cannot_be_read_frees_no_other_one(quotas, clock):
    held = quotas(Allowance(minutes=Bound(user=1)))

    class Broken(Session):
        @property
        def rules(self):
            raise RuntimeError("broken")

        @rules.setter
        def rules(self, _rules):
            pass

    await held.admit("rs_0", BOB, LimitRules())
    held.follow("rs_0", BOB, Broken())
    held.count("rs_0")
    session = Session()
    await talking(held, "rs_1", ALICE, session)
    pass_seconds(held, clock, 75)
    assert session.told[-1] == ("quota_time", "user")


async def test_a_place_taken_again_behind_our_back_is_given_back_when_its_session_is_over(quotas, store):
    held = quotas(Allowance(sessions=Bound(user=1)))
    await held.admit("rs_1", ALICE, LimitRules())
    store.held.clear()
    take, asked, may_go_on = store.take, asyncio.Event(), asyncio.Event()

    async def slow(claim, limits):
        asked.set()
        await may_go_on.wait()
        await take(claim, limits)
        raise StoreError("no answer")

    store.take = slow
    renewing = asyncio.create_task(held._slots.renew())
    await asked.wait()
    await held.leave("rs_1")
    may_go_on.set()
    await renewing
    await held.close()
    assert store.held == set()


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_fault_of_the_relay_s_own_leaves_nobody_waiting(kind, databases):
    database = databases()
    leases = SqlLeases(database, "one")
    run = database.run

    async def broken(*_arguments, **_options):
        raise RuntimeError("not the database's")

    database.run = broken
    with pytest.raises(StoreError, match="RuntimeError"):
        await asyncio.wait_for(leases.take(Claim("rs_1", "t", "alice"), Bound(user=1)), 5)
    database.run = run
    assert await leases.take(Claim("rs_1", "t", "alice"), Bound(user=1)) is None


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_while_a_database_hangs_no_more_than_so_many_places_wait_for_it(kind, databases, telemetry, monkeypatch):
    monkeypatch.setattr(leases_module, "_MOST_WAITING", 10)
    database, asked, may_go_on = databases(), asyncio.Event(), asyncio.Event()
    leases = SqlLeases(database, "one")
    slots = Slots(leases, OPEN, telemetry.quotas)
    run = database.run

    async def hanging(*arguments, **options):
        asked.set()
        await may_go_on.wait()
        return await run(*arguments, **options)

    database.run = hanging
    await slots.take(Claim("rs_0", "t", "alice"), Bound())
    await asked.wait()
    # Their set-ups wait for nothing, and neither do their ends.
    for number in range(1, 100):
        assert await slots.take(Claim(f"rs_{number}", "t", "alice"), Bound()) is None
    for number in range(100):
        slots.release(f"rs_{number}")
    assert not await settled(lambda: len(slots._tasks) > 11)
    assert (len(slots._tasks), len(leases._waiting)) == (11, 10)
    with pytest.raises(StoreError, match="10 places wait"):
        await asyncio.wait_for(leases.take(Claim("rs_1", "t", "alice"), Bound(user=1)), 5)
    may_go_on.set()
    await slots.close()
    assert not slots._tasks
    assert await leases.free_own() == 0
    assert await leases.take(Claim("rs_1", "t", "alice"), Bound(user=1)) is None


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_places_that_nobody_waits_for_are_written_together_and_before_one_that_somebody_waits_for(
    kind, databases, monkeypatch
):
    monkeypatch.setattr(leases_module, "_GATHER_SECONDS", 3600)
    database, written = databases(), []
    database.told = lambda operation, _error: written.append(operation)
    leases = SqlLeases(database, "one")

    def unlimited(name):
        return asyncio.create_task(leases.take(Claim(name, "t", "alice"), Bound()))

    await unlimited("rs_1")
    waiting = [unlimited("rs_2"), asyncio.create_task(leases.release("rs_1", at_once=False)), unlimited("rs_3")]
    for _ in range(3):
        # Whatever did not wait would be written before this is answered.
        await database.run(lambda _connection: None)
    # It is counted with those that were asked for before it.
    assert await leases.take(Claim("rs_4", "t", "alice"), Bound(user=2)) is Scope.USER
    assert [await each for each in waiting] == [None] * 3
    assert written.count(StoreOperation.LEASES) == 2
    last = unlimited("rs_5")
    leases.hurry()
    await asyncio.wait_for(last, 10)
    await asyncio.wait_for(leases.release("rs_5", at_once=False), 10)
