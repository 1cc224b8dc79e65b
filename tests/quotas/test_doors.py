"""Limits at the real doors, with the real registry: as many sessions as may be, wherever they are counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest
from support.kinds import KINDS
from support.light_relay import light_relay

from relay.core.doors import OpenRequest
from relay.core.lifecycle import Dialect
from relay.core.policy_resolve import Identity
from relay.store import Database
from relay.store.redis_connection import RedisConnection
from relay.store.tables import METADATA
from relay.upstream import ServiceRefusal


@pytest.fixture
async def node(request, kind, where, tmp_path):
    """Makes nodes that share one store of this kind; Redis has a database beside it."""
    async with contextlib.AsyncExitStack() as stack:
        url, redis_url = (f"sqlite:///{tmp_path / 'beside.db'}", where) if kind == "redis" else (where, None)
        if redis_url is not None:
            redis = RedisConnection(redis_url)
            await redis.run("return redis.call('FLUSHALL')", (), ())
            await redis.close()

        async def start(name="one", **options):
            database = Database(url)
            stack.push_async_callback(database.close)
            await database.run(METADATA.create_all)
            return await stack.enter_async_context(light_relay(database, node=name, redis_url=redis_url, **options))

        yield start


@pytest.mark.parametrize("kind", KINDS)
async def test_200_offers_at_one_time_with_200_keys_open_exactly_10_sessions(kind, node):
    relay = await node(relay_sessions=10)
    keys = [relay.key(f"user {number}") for number in range(200)]
    assert await relay.posts(keys) == {201: 10, 429: 190}
    assert (relay.service.begun, relay.service.most) == (10, 10)
    status, headers, body = await relay.post(relay.key())
    assert (status, headers["Retry-After"]) == (429, "5")
    assert json.loads(body)["error"] == {
        "message": "All sessions that this server may have at the same time are running.",
        "type": "invalid_request_error", "param": None, "code": "quota_exceeded",
    }  # fmt: skip
    assert relay.telemetry.quotas._refused.labels("relay", "sessions")._value.get() == 191


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_two_nodes_that_share_a_store_let_10_in_together(kind, node):
    nodes = [await node(name, relay_sessions=10, user_sessions=3) for name in ("one", "two")]
    posts = [each.posts([each.key(f"user {number % 20}") for number in range(100)]) for each in nodes]
    one, two = await asyncio.gather(*posts)
    assert one + two == {201: 10, 429: 190}
    assert sum(each.service.begun for each in nodes) == 10
    # What one of them ends, the other may begin.
    busy = next(each for each in nodes if each.service.calls)
    other = nodes[0] if busy is nodes[1] else nodes[1]
    await busy.registry.drain(0)
    await busy.places_free()
    freed = busy.service.begun
    assert await other.posts([other.key(f"somebody {number}") for number in range(20)]) == {201: freed, 429: 20 - freed}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_place_is_free_again_whatever_way_its_session_goes(kind, node):
    relay = await node(user_sessions=1, tenant_sessions=2)
    # It ends.
    key = relay.key()
    _, headers, _ = await relay.post(key)
    assert (await relay.post(relay.key()))[0] == 429
    assert (await relay.post(relay.key("bob")))[0] == 201
    assert "your organisation" in (await relay.post(relay.key("carol")))[2]
    await relay.hang_up(headers["Location"], key)
    # It is refused by the service; its key may be used again.
    relay.service.refusal = ServiceRefusal.RATE_LIMITED
    key = relay.key()
    assert json.loads((await relay.post(key))[2])["error"]["code"] == "service_rate_limited"
    await relay.places_free()
    relay.service.refusal = None
    # Its client goes away while it is set up.
    relay.service.may_answer.clear()
    relay.service.asked.clear()
    posting = asyncio.create_task(relay.post(key))
    await relay.service.asked.wait()
    assert (await relay.post(relay.key()))[0] == 429
    _, task = next(reversed(relay.registry.live._running.values()))
    posting.cancel()
    await asyncio.wait({task})
    relay.service.may_answer.set()
    await relay.places_free()
    assert (await relay.post(key))[0] == 201


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_policy_that_is_stopped_while_a_session_waits_for_its_place_keeps_it_out(kind, node):
    relay = await node(user_sessions=1)
    slots, leases = relay.quotas._slots, relay.quotas._slots._leases
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def take(self, claim, limits):
            asked.set()
            await may_go_on.wait()
            return await leases.take(claim, limits)

        release = leases.release

    slots._leases = Slow()
    posting = asyncio.create_task(relay.post(relay.key()))
    await asked.wait()
    relay.registry._draining = True
    may_go_on.set()
    assert (await posting)[0] == 503
    slots._leases, relay.registry._draining = leases, False
    await relay.places_free()
    assert (await relay.post(relay.key()))[0] == 201


def early_request(key_id: str) -> OpenRequest:
    identity = Identity("default", "alice")
    return OpenRequest(None, Dialect.GA, webrtc_filter=False, model="m", client_session=None, owner="alice",
                       identity=identity, key_id=key_id)  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_session_that_began_early_has_its_place_hands_it_over_and_gives_it_back(kind, node):
    relay = await node(user_sessions=1, early_most=4)
    registry = relay.registry
    asked = early_request("first")
    registry.prepare(asked, 60.0)
    registry.prepare(early_request("second"), 60.0)
    # The offer comes while the place is still being taken, and finds it.
    opened = await registry.open(replace(asked, offer="v=0"))
    assert list(registry.live.counters()) == [opened.session_id]
    with_another = replace(early_request("third"), offer="v=0")
    assert registry.hang_up(opened.session_id, "alice")
    await registry.live._running[opened.session_id][1]
    await relay.places_free()
    # Another one is asked for than was begun: the place of the one that is given up serves it.
    registry.prepare(early_request("third"), 60.0)
    await asyncio.wait(set(registry._preparing.values()))
    [early] = registry.live.counters()
    opened = await registry.open(replace(with_another, model="n"))
    assert opened.session_id != early
    assert registry.hang_up(opened.session_id, "alice")


@pytest.mark.parametrize("kind", KINDS[:1] + KINDS[2:])
async def test_mints_have_a_limit_of_their_own(kind, node):
    relay = await node(user_mints_a_minute=5)
    headers = {"Authorization": "Bearer client-key-of-alice-0001"}

    async def mint():
        async with relay.http.post(f"{relay.url}/v1/realtime/client_secrets", json={}, headers=headers) as response:
            return response.status, response.headers.get("Retry-After"), await response.text()

    told = await asyncio.gather(*(mint() for _ in range(20)))
    assert sorted(status for status, _, _ in told) == [200] * 5 + [429] * 15
    refused = next(each for each in told if each[0] == 429)
    assert 1 <= int(refused[1]) <= 12
    assert json.loads(refused[2])["error"]["message"] == "All keys that you may have in a minute were made."
