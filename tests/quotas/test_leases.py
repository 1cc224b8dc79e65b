"""Places among the sessions that may run at one time, wherever they are kept."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support.kinds import KINDS

from relay.core.allowance import Bound, Scope
from relay.core.leases import Claim

pytestmark = pytest.mark.parametrize("kind", KINDS)
TEN = Bound(relay=10)


def claims(count: int, tenant: str = "t", subject: str = "s") -> list[Claim]:
    return [Claim(f"rs_{tenant}_{subject}_{number}", tenant, subject) for number in range(count)]


async def test_two_nodes_together_let_exactly_as_many_in_as_may(kind, places):
    nodes = [places.node(name) for name in ("one", "two")]
    asked = [nodes[number % 2].take(claim, TEN) for number, claim in enumerate(claims(100))]
    outcomes = Counter(await asyncio.gather(*asked))
    assert outcomes == {None: 10, Scope.RELAY: 90}


async def test_each_scope_counts_its_own(kind, places):
    leases = places.node("one")
    limits = Bound(user=1, tenant=2, relay=3)
    told = [
        await leases.take(Claim(session, tenant, subject), limits)
        for session, tenant, subject in [
            ("rs_1", "a", "x"), ("rs_2", "a", "x"), ("rs_3", "a", "y"), ("rs_4", "a", "z"), ("rs_5", "b", "x"),
            ("rs_6", "c", "x"), ("rs_7", "a:x", ""),
        ]
    ]  # fmt: skip
    assert told == [None, Scope.USER, None, Scope.TENANT, None, Scope.RELAY, Scope.RELAY]
    # Whoever has no limit counts for the others.
    assert await leases.take(Claim("rs_8", "c", "x"), Bound()) is None
    await leases.release("rs_1")
    assert await leases.take(Claim("rs_9", "a", "x"), limits) is Scope.RELAY
    await leases.release("rs_8")
    assert await leases.take(Claim("rs_9", "a", "x"), limits) is None


async def test_a_place_that_is_renewed_stays_and_one_that_is_not_lapses(kind, places):
    mine, other = places.node("one"), places.node("two")
    kept, killed = claims(2)
    for claim in (kept, killed):
        assert await mine.take(claim, Bound(relay=2)) is None
    await places.pass_time(20)
    assert await mine.renew([kept]) == frozenset()
    await places.pass_time(20)
    newcomer, late = claims(2, subject="other")
    assert await other.take(newcomer, Bound(relay=2)) is None
    assert await other.take(late, Bound(relay=2)) is Scope.RELAY
    # Whose place lapsed cannot renew it: another has it. Who has one may ask again, if the answer was lost.
    assert await mine.renew([kept, killed]) == {killed.session}
    assert await mine.take(kept, Bound(relay=2)) is None
    assert await mine.take(killed, Bound(relay=2)) is Scope.RELAY


async def test_a_node_that_starts_anew_frees_what_it_left_and_nothing_else(kind, places):
    before, other = places.node("one"), places.node("two")
    for claim in claims(3):
        assert await before.take(claim, Bound()) is None
    assert await other.take(claims(1, subject="other")[0], Bound()) is None
    assert await places.node("one").free_own() == 3
    assert await before.renew(claims(3)) == {claim.session for claim in claims(3)}
    assert await other.renew(claims(1, subject="other")) == frozenset()
    again = [await before.take(claim, Bound(relay=3)) for claim in claims(3)]
    assert again == [None, None, Scope.RELAY]


async def test_what_was_never_given_back_is_forgotten_once_it_lapsed(kind, places):
    leases = places.node("one")
    for claim in claims(4):
        assert await leases.take(claim, Bound()) is None
        await places.pass_time(20)
    running, newest = claims(4)[-1], claims(1, subject="other")[0]
    assert await leases.renew([running]) == frozenset()
    assert await leases.take(newest, Bound()) is None
    assert await places.kept("one") == 2
    # What still runs is there for the node that starts anew.
    assert await leases.free_own() == 2
    assert await leases.renew([running, newest]) == {running.session, newest.session}


async def test_giving_back_what_is_not_there_changes_nothing(kind, places):
    leases = places.node("one")
    await leases.release("rs_unknown")
    assert await leases.free_own() == 0
    assert await leases.renew([]) == frozenset()
