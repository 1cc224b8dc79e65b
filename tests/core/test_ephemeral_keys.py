from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.ephemeral_keys import (
    AFTER_END_SECONDS,
    SECONDS_PER_TRY,
    SPENT_SECONDS,
    TRIES_AT_ONCE,
    Begun,
    EphemeralKeys,
    Grant,
    Held,
    InUse,
    KeysExhaustedError,
    Replay,
    TriedTooOften,
    Unknown,
)
from relay.core.lifecycle import Dialect

NOW = 1_800_000_000.0
GRANT = Grant(Dialect.GA, "gpt-realtime", {"type": "realtime"}, "alice", size=100)


def material(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def keys() -> EphemeralKeys:
    return EphemeralKeys()


@pytest.fixture
def value(keys) -> str:
    return keys.mint(material(7), GRANT, NOW, 60).value


def test_v002_a_key_has_the_prefix_clients_insist_on_and_all_its_random_bits(keys):
    minted = keys.mint(b"\xab" * 32, GRANT, NOW + 0.7, 60)
    assert minted.value == "ek_" + "ab" * 32
    assert minted.expires_at == int(NOW) + 60
    assert isinstance(minted.expires_at, int)
    with pytest.raises(ValueError, match="32 random bytes"):
        keys.mint(b"short", GRANT, NOW, 60)


def test_v002_values_are_stored_as_hashes_and_not_printed(keys, value):
    assert value not in repr(vars(keys))
    assert value not in repr(keys.mint(material(8), GRANT, NOW, 60))


def test_a_fresh_key_begins_with_what_was_asked_for(keys, value):
    assert keys.begin(value, "offer", NOW) == Begun(GRANT)


def test_a_key_in_use_is_in_use_whatever_the_offer(keys, value):
    keys.begin(value, "offer", NOW)
    assert keys.begin(value, "offer", NOW) == InUse()
    assert keys.begin(value, "other", NOW) == InUse()


def test_a_refused_call_leaves_the_key_usable_until_it_expires(keys, value):
    keys.begin(value, "offer", NOW)
    keys.release(value)
    assert keys.begin(value, "another offer", NOW + 59) == Begun(GRANT)
    keys.release(value)
    assert keys.begin(value, "offer", NOW + 60) == Unknown()


def test_v003_a_spent_key_is_unknown_for_another_offer(keys, value):
    spend(keys, value)
    assert keys.begin(value, "another offer", NOW) == Unknown()


@pytest.mark.parametrize(("later", "outcome"), [(0, Replay("rs_1", "answer")), (30, Replay("rs_1", "answer"))])
def test_the_identical_offer_soon_gets_the_same_answer(keys, value, later, outcome):
    spend(keys, value)
    assert keys.begin(value, "offer", NOW + later) == outcome


def test_the_identical_offer_later_is_unknown(keys, value):
    spend(keys, value)
    assert keys.begin(value, "offer", NOW + 30.1) == Unknown()


def test_v004_v007_expired_and_forged_are_the_same(keys, value):
    assert keys.begin(value, "offer", NOW + 60) == Unknown()
    assert keys.begin("ek_0000", "offer", NOW) == Unknown()
    assert keys.holder(value, NOW + 60) is None
    assert keys.holder("ek_0000", NOW) is None


def test_a_spent_key_stays_the_credential_of_its_own_session_after_it_expired(keys, value):
    assert keys.holder(value, NOW) == Held("alice", None)
    spend(keys, value)
    assert keys.holder(value, NOW + 3000) == Held("alice", "rs_1")


def test_a_forgotten_session_is_not_replayed_and_its_key_goes_a_while_later(keys, value):
    spend(keys, value)
    keys.forget("rs_1", NOW + 5)
    assert keys.begin(value, "offer", NOW + 6) == Unknown()
    assert keys.holder(value, NOW + 6) == Held("alice", "rs_1")
    keys.mint(material(8), GRANT, NOW + 6 + AFTER_END_SECONDS, 60)
    assert keys.holder(value, NOW + 6 + AFTER_END_SECONDS) is None


def test_forgetting_an_unknown_session_does_nothing(keys, value):
    keys.forget("rs_unknown", NOW)
    assert keys.begin(value, "offer", NOW) == Begun(GRANT)


def test_a_session_nobody_forgot_does_not_keep_its_key_for_ever(keys, value):
    spend(keys, value)
    keys.mint(material(8), GRANT, NOW + SPENT_SECONDS, 60)
    assert keys.holder(value, NOW + SPENT_SECONDS) is None
    assert len(keys) == 1


def test_a_key_in_use_is_never_purged(keys, value):
    keys.begin(value, "offer", NOW)
    keys.mint(material(8), GRANT, NOW + 5000, 60)
    keys.succeed(value, "rs_1", "answer", NOW + 5000)
    assert keys.holder(value, NOW + 5000) == Held("alice", "rs_1")


def test_mint_refuses_beyond_its_number_and_takes_up_again_when_keys_expired():
    keys = EphemeralKeys(capacity=3)
    for number in range(3):
        keys.mint(material(number), replace(GRANT, owner=f"owner {number}"), NOW, 60)
    with pytest.raises(KeysExhaustedError) as full:
        keys.mint(material(3), GRANT, NOW + 59, 60)
    assert not full.value.of_owner
    keys.mint(material(3), GRANT, NOW + 60, 60)
    assert len(keys) == 1


def test_mint_refuses_beyond_its_bytes_and_spent_keys_give_theirs_back():
    keys = EphemeralKeys(grant_bytes=250)
    value = keys.mint(material(1), GRANT, NOW, 60).value
    keys.mint(material(2), replace(GRANT, owner="bob"), NOW, 60)
    with pytest.raises(KeysExhaustedError):
        keys.mint(material(3), GRANT, NOW, 60)
    spend(keys, value)
    keys.mint(material(3), GRANT, NOW, 60)


def test_one_owner_never_takes_more_than_is_left_for_all_others():
    keys = EphemeralKeys(capacity=100)

    def mint_until_refused(owner: str) -> list[str]:
        values = []
        try:
            while True:
                number = len(keys) + 1_000
                values.append(keys.mint(material(number), replace(GRANT, owner=owner), NOW, 60).value)
        except KeysExhaustedError as full:
            assert full.of_owner  # noqa: PT017 - raised by the last of many
        return values

    first = mint_until_refused("greedy")
    assert (len(first), len(mint_until_refused("as greedy")), len(mint_until_refused("a third"))) == (50, 25, 13)
    keys.mint(material(1), replace(GRANT, owner="modest"), NOW, 60)
    # A key that is used waits no more, though it is kept; one that expired is gone.
    for value in first[:45]:
        spend(keys, value)
    keys.mint(material(2), replace(GRANT, owner="greedy"), NOW, 60)
    keys.mint(material(3), replace(GRANT, owner="a third"), NOW + 60, 60)


@given(st.lists(st.tuples(st.sampled_from(["begin", "release", "succeed", "forget"]), st.integers(0, 3)), max_size=40))
def test_at_most_one_session_ever_comes_of_one_key(steps):
    keys = EphemeralKeys()
    value = keys.mint(material(1), GRANT, NOW, 60).value
    in_use, sessions, now = False, 0, NOW
    for step, wait in steps:
        now += wait
        if step == "begin":
            outcome = keys.begin(value, "offer", now)
            assert not (isinstance(outcome, Begun) and (in_use or sessions))
            assert isinstance(outcome, InUse) == in_use
            in_use = in_use or isinstance(outcome, Begun)
        elif step == "forget":
            keys.forget("rs_1", now)
        elif in_use:
            if step == "release":
                keys.release(value)
            else:
                keys.succeed(value, "rs_1", "answer", now)
                sessions += 1
            in_use = False
    assert sessions <= 1


def spend(keys: EphemeralKeys, value: str) -> None:
    assert isinstance(keys.begin(value, "offer", NOW), Begun)
    keys.succeed(value, "rs_1", "answer", NOW)


def test_a_key_is_tried_with_so_many_offers_at_once_and_then_at_a_rate(keys, value):
    def tries(count: int, now: float) -> list[type]:
        seen = []
        for number in range(count):
            seen.append(type(keys.begin(value, f"offer {number}", now)))
            if seen[-1] is Begun:
                keys.release(value)
        return seen

    other = keys.mint(material(8), GRANT, NOW, 60).value
    assert tries(TRIES_AT_ONCE + 2, NOW) == [Begun] * TRIES_AT_ONCE + [TriedTooOften] * 2
    assert isinstance(keys.begin(other, "offer", NOW), Begun)
    # A clock that is set back gives nothing and takes nothing.
    assert tries(1, NOW - 3600) == [TriedTooOften]
    assert tries(2, NOW - 3600 + SECONDS_PER_TRY) == [Begun, TriedTooOften]


def test_a_key_that_was_tried_too_often_is_good_and_not_in_use(keys, value):
    for _ in range(TRIES_AT_ONCE):
        keys.begin(value, "offer", NOW)
        keys.release(value)
    assert keys.begin(value, "offer", NOW) == TriedTooOften()
    assert keys.holder(value, NOW) == Held("alice", None)
    assert keys.begin(value, "offer", NOW + 60) == Unknown()
