"""Keys of the store as one node knows them: no question for each use, revocation seen, the store away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.stored_keys import KeysInMemory

from relay.config import Secret
from relay.core.stored import KeyKind
from relay.identity.keys import (
    PREFIX,
    REFRESH_SECONDS,
    TRUST_SECONDS,
    ConfiguredKeys,
    KeyRing,
    KeysUnreadError,
    digest_of,
    new_key,
)

NOW = 1_800_000_000.0


@pytest.fixture
def stored():
    return KeysInMemory()


@pytest.fixture
def warned():
    return []


@pytest.fixture
def ring(stored, warned, clock):
    return KeyRing(stored, warned.append, clock)


def test_a_key_is_32_random_bytes_that_no_header_or_url_spoils():
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(len(key) == len(PREFIX) + 43 and key.isascii() and "=" not in key for key in keys)


async def test_a_key_that_was_used_costs_no_question(ring, stored):
    key = stored.add("backend", "sales")
    row = await ring.find(key, KeyKind.TENANT, NOW)
    assert (row.name, row.tenant) == ("backend", "sales")
    for _ in range(100):
        assert await ring.find(key, KeyKind.TENANT, NOW) == row
    assert stored.asked == ["find"]


async def test_only_the_digest_is_asked_for(ring, stored):
    key = stored.add("backend", "sales")
    await ring.find(key, KeyKind.TENANT, NOW)
    assert stored.digests == [digest_of(key)]
    assert key not in repr(vars(ring))


@pytest.mark.parametrize("wrong", ["", "rk_", "rk_" + "a" * 42, "rk_" + "a" * 44, "rk_" + "é" * 43, "x" * 46])
async def test_what_has_not_the_form_of_a_key_is_not_asked_for(ring, stored, wrong):
    assert await ring.find(wrong, KeyKind.TENANT, NOW) is None
    assert stored.asked == []


async def test_a_key_of_the_other_kind_opens_nothing(ring, stored):
    admin = stored.add("console", None, kind=KeyKind.ADMIN, role="owner")
    assert await ring.find(admin, KeyKind.TENANT, NOW) is None
    assert await ring.find(admin, KeyKind.ADMIN, NOW)


async def test_an_expired_key_opens_nothing_from_that_moment(ring, stored):
    key = stored.add("backend", "sales", expires_at=NOW + 5)
    row = await ring.find(key, KeyKind.TENANT, NOW + 4.9)
    assert ring.opens(row.id, NOW + 4.9)
    assert await ring.find(key, KeyKind.TENANT, NOW + 5) is None
    assert not ring.opens(row.id, NOW + 5)


async def test_what_another_node_revoked_is_seen_with_the_next_look(ring, stored):
    key = stored.add("backend", "sales")
    row = await ring.find(key, KeyKind.TENANT, NOW)
    stored.rows[digest_of(key)] = replace(row, revoked_at=NOW)
    await ring.refresh()
    assert await ring.find(key, KeyKind.TENANT, NOW) is None
    assert not ring.opens(row.id, NOW)
    assert REFRESH_SECONDS < 5


async def test_watching_looks_again_and_again(ring, stored, monkeypatch):
    monkeypatch.setattr("relay.identity.keys.REFRESH_SECONDS", 0)
    watching = asyncio.create_task(ring.watch())
    async with asyncio.timeout(5):
        for _ in range(6):
            await stored.lists.acquire()
    watching.cancel()
    assert stored.asked[:6] == ["list"] * 6


async def test_keys_behind_the_end_of_the_list_go_on(ring, stored):
    key = stored.add("backend", "sales")
    await ring.find(key, KeyKind.TENANT, NOW)
    stored.most_listed = 0
    await ring.refresh()
    assert await ring.find(key, KeyKind.TENANT, NOW)
    assert stored.asked == ["find", "list", "list", "get", "touch"]


async def test_use_is_written_down_beside_the_doors(ring, stored):
    key = stored.add("backend", "sales")
    await ring.find(key, KeyKind.TENANT, NOW)
    await ring.find(key, KeyKind.TENANT, NOW + 2)
    assert "touch" not in stored.asked
    await ring.refresh()
    assert stored.touched == [(stored.rows[digest_of(key)].id, NOW + 2)]


async def test_while_the_store_is_away_known_keys_are_good_for_a_minute(ring, stored, clock, warned):
    key, other = stored.add("backend", "sales"), stored.add("another", "sales")
    row = await ring.find(key, KeyKind.TENANT, NOW)
    stored.away = True
    for _ in range(3):
        await ring.refresh()
    assert warned == ["key_store_failing"]
    clock.now += TRUST_SECONDS
    assert await ring.find(key, KeyKind.TENANT, NOW)
    with pytest.raises(KeysUnreadError):
        await ring.find(other, KeyKind.TENANT, NOW)
    clock.now += 1
    with pytest.raises(KeysUnreadError):
        await ring.find(key, KeyKind.TENANT, NOW)
    assert not ring.opens(row.id, NOW)
    stored.away = False
    await ring.refresh()
    assert await ring.find(key, KeyKind.TENANT, NOW)
    assert warned == ["key_store_failing", "key_store_works_again"]


async def test_a_key_revoked_on_this_node_opens_nothing_though_the_store_goes_away_then(ring, stored):
    key, other = stored.add("backend", "sales"), stored.add("another", "sales")
    row = await ring.find(key, KeyKind.TENANT, NOW)
    await ring.find(other, KeyKind.TENANT, NOW)
    stored.rows[digest_of(key)] = replace(row, revoked_at=NOW)
    stored.away = True
    await ring.changed(row.id)
    assert not ring.opens(row.id, NOW)
    with pytest.raises(KeysUnreadError):
        await ring.find(key, KeyKind.TENANT, NOW)
    assert await ring.find(other, KeyKind.TENANT, NOW)


async def test_a_look_from_before_a_revocation_does_not_bring_the_key_back(stored, clock):
    class Slow(KeysInMemory):
        """Its first list is on the way for long."""

        def __init__(self):
            super().__init__()
            self.arrives = asyncio.Event()

        async def list(self, kind, tenant):
            found = await super().list(kind, tenant)
            if self.asked.count("list") == 1:
                await self.arrives.wait()
            return found

    slow = Slow()
    ring = KeyRing(slow, clock=clock)
    key = slow.add("backend", "sales")
    row = await ring.find(key, KeyKind.TENANT, NOW)
    looking = asyncio.create_task(ring.refresh())
    await slow.lists.acquire()
    slow.rows[digest_of(key)] = replace(row, revoked_at=NOW)
    changing = asyncio.create_task(ring.changed(row.id))
    for _ in range(10):
        await asyncio.sleep(0)
    slow.arrives.set()
    await asyncio.gather(looking, changing)
    assert await ring.find(key, KeyKind.TENANT, NOW) is None


async def test_an_answer_that_comes_out_of_turn_brings_no_revoked_key_back(clock):
    class Late(KeysInMemory):
        """Finds a key, and is overtaken by all that comes after."""

        def __init__(self):
            super().__init__()
            self.found, self.arrives = asyncio.Event(), asyncio.Event()

        async def find(self, digest):
            row = await super().find(digest)
            self.found.set()
            await self.arrives.wait()
            return row

    late = Late()
    ring = KeyRing(late, clock=clock)
    key = late.add("backend", "sales")
    finding = asyncio.create_task(ring.find(key, KeyKind.TENANT, NOW))
    await late.found.wait()
    row = late.rows[digest_of(key)]
    late.rows[digest_of(key)] = replace(row, revoked_at=NOW)
    await ring.changed(row.id)
    late.arrives.set()
    assert await finding is None


async def test_strangers_cannot_keep_the_store_busy(ring, stored, clock):
    for _ in range(50):
        assert await ring.find(new_key(), KeyKind.TENANT, NOW) is None
    for _ in range(50):
        with pytest.raises(KeysUnreadError):
            await ring.find(new_key(), KeyKind.TENANT, NOW)
    assert stored.asked == ["find"] * 50
    clock.now += 0.02
    assert await ring.find(stored.add("backend", "sales"), KeyKind.TENANT, NOW)


async def test_without_a_store_there_are_no_keys():
    ring = KeyRing()
    await ring.refresh()
    assert await ring.find(new_key(), KeyKind.TENANT, NOW) is None
    assert ring.age == 0.0


def test_every_configured_key_is_compared_whichever_it_is(monkeypatch):
    compared = []
    monkeypatch.setattr("relay.identity.keys.hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    keys = ConfiguredKeys([Secret(f"client-key-number-{n}") for n in range(5)])
    owners = {keys.owner_of(f"client-key-number-{n}") for n in range(5)}
    assert len(owners) == 5
    assert keys.owner_of("client-key-of-nobody") is None
    assert len(compared) == 30
