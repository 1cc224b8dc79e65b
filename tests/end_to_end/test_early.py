"""Sessions that begin when their key is minted: met at once, never another's, and given up in every other case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest
from support.client import Client
from support.coming_back import is_alive, is_heard, metric, phases, until
from support.policies import TEXT, document, put
from support.service import CLIENT_KEY, INSTRUCTIONS, bounds
from support.sessions import answered, client_of, end_notice, no_secret_in, watched

from relay.config import ClientSettings, HttpSettings, LimitSettings, PolicySettings, Secret, UpstreamProtocol
from relay.errors import EndReason

OTHER_KEY = "another-client-key"


@contextlib.asynccontextmanager
async def early(most=10, **options):
    async with watched(early_most=most, **options) as watch:
        yield watch


async def connected(watch, sessions=1):
    """The policy of so many sessions is confirmed, and they wait for their clients."""
    await until(lambda: phases(watch) == ["waiting"] * sessions)


def outcome(watch, name):
    return metric(watch, "relay_early_sessions_total", outcome=name)


async def come(client, key, **posted):
    """Post the offer, take the answer, wait for the session."""
    status, answer = await client.post_offer(await client.offer(), key, **posted)
    assert status == 201, answer
    no_secret_in(answer)
    await client.accept(answer)
    created = await client.event("session.created")
    no_secret_in(*client.raw)
    return created


@pytest.mark.parametrize("protocol", list(UpstreamProtocol)[:2], ids=str)
async def test_a_client_finds_its_session_connected(protocol):
    async with early(protocol=protocol) as watch, client_of(watch) as client:
        key = await client.mint({"audio": {"output": {"voice": "verse"}}})
        await connected(watch)
        state = watch.world.simulator.state()
        assert (len(state["mints"]), len(state["calls"])) == (1, 1)
        created = await come(client, key)
        assert client.events[0] is created
        assert created["session"]["audio"]["output"]["voice"] == "verse"
        assert created["session"]["model"] == "gpt-realtime"
        assert watch.session()["session"]["instructions"] == INSTRUCTIONS
        client.microphone.level = 1.0
        await client.event("input_audio_buffer.speech_started")
        client.microphone.level = 0.0
        done = await client.event("response.done")
        assert done["response"]["status"] == "completed"
        await client.until(lambda: max(client.levels, default=0) > 1000)
        assert phases(watch) == ["active"]
        assert len(watch.world.simulator.state()["calls"]) == 1
        assert (outcome(watch, "started"), outcome(watch, "used")) == (1, 1)
        assert await client.hang_up() == 200
        record = await watch.ended()
        assert (record.reason, record.reattached, record.door) == ("client_hung_up", 0, "ga_calls")
        assert {"downstream.channel", "upstream.policy", "downstream.first_audio"} <= record.stages.keys()
        await watch.world.simulator.until(lambda state: state["sessions"][-1]["state"] == "closed")


async def test_the_door_answers_while_the_service_is_still_asked():
    async with early() as watch, client_of(watch) as client:
        watch.world.simulator.fault(mint_delay_ms=1000, call_delay_ms=1000)
        key = await client.mint()
        status, answer = await client.post_offer(await client.offer(), key)
        assert status == 201
        assert watch.world.simulator.state()["calls"] == []
        await client.accept(answer)
        await client.opened.wait()
        client.send({"type": "input_audio_buffer.clear", "event_id": "too soon"})
        await client.event("session.created")
        # What was said before the session was there is answered after it.
        await client.event("input_audio_buffer.cleared")
        assert client.events[0]["type"] == "session.created"
        await is_alive(client)
        await is_heard(watch)
        assert await client.hang_up() == 200


async def test_a_client_that_came_may_leave_and_come_back():
    async with early(limits=bounds(reattach_seconds=30)) as watch, client_of(watch) as first:
        key = await first.mint()
        await connected(watch)
        created = await come(first, key)
        async with Client(watch.world.url, CLIENT_KEY) as second:
            await second.take_over(first.location, key)
            assert (await second.event("session.created"))["session"] == created["session"]
            await is_alive(second)
            assert await second.hang_up() == 200
        assert (await watch.ended()).reattached == 1


async def test_few_events_are_told_to_who_asks_for_few():
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        status, answer = await client.post_offer(await client.offer(), key, "/openai/v1/realtime/calls?webrtcfilter=on")
        assert status == 201
        await client.accept(answer)
        await until(lambda: phases(watch) == ["active"])
        await watch.world.simulator.say({"type": "conversation.item.deleted", "event_id": "e", "item_id": "i"})
        await watch.world.simulator.say({"type": "input_audio_buffer.speech_started", "event_id": "f"})
        await client.event("input_audio_buffer.speech_started")
        assert "conversation.item.deleted" not in {event["type"] for event in client.events}
        assert await client.hang_up() == 200


# --- refusals


@pytest.mark.parametrize("operation", ["mint", "call"])
@pytest.mark.parametrize(("fault", "code"), [("401", "service_unauthorized"), ("429", "service_rate_limited")])
async def test_a_refusal_that_is_known_keeps_its_status(operation, fault, code):
    async with early() as watch, client_of(watch) as client:
        watch.world.simulator.fault(**{operation: fault}, count=1)
        key = await client.mint()
        await until(lambda: outcome(watch, "failed"))
        status, headers, error = await answered(client, key)
        assert (status, error["code"]) == (int(fault), code)
        assert (headers.get("retry-after-ms") == "7500") is (fault == "429")
        assert (await watch.ended()).reason is EndReason.SERVICE_REFUSED
        # It is told once: who tries again is served.
        assert (await client.post_offer(client.peer.localDescription.sdp, key))[0] == 201
        assert await client.hang_up() == 200


async def test_a_refusal_of_long_ago_is_no_answer(monkeypatch):
    monkeypatch.setattr("relay.early.REFUSAL_SECONDS", 0.01)
    async with early() as watch, client_of(watch) as client:
        watch.world.simulator.fault(mint="429", count=1)
        key = await client.mint()
        await until(lambda: outcome(watch, "failed") and not watch.world.relay.registry._early._refused)
        await come(client, key)
        assert await client.hang_up() == 200


@pytest.mark.parametrize("operation", ["mint", "call"])
@pytest.mark.parametrize(("fault", "code"), [("401", "service_unauthorized"), ("429", "service_rate_limited")])
async def test_a_refusal_after_the_answer_is_told_on_the_channel(operation, fault, code):
    async with early() as watch, client_of(watch) as client:
        watch.world.simulator.fault(**{operation: fault, f"{operation}_delay_ms": 400})
        key = await client.mint()
        status, answer = await client.post_offer(await client.offer(), key)
        assert status == 201
        await client.accept(answer)
        await end_notice(client, "service_refused")
        told = [event["error"] for event in client.events]
        assert [error["code"] for error in told] == [code, "service_refused"]
        assert told[0].keys() == {"type", "code", "message", "param", "event_id"}
        assert told[0]["type"] == "invalid_request_error"
        assert (await watch.ended()).detail == code


async def test_a_refusal_waits_for_the_channel():
    """The service refuses before the client has even read its answer."""
    async with early() as watch, client_of(watch) as client:
        watch.world.simulator.fault(mint="401", mint_delay_ms=200)
        key = await client.mint()
        status, answer = await client.post_offer(await client.offer(), key)
        assert status == 201
        await until(lambda: metric(watch, "relay_upstream_requests_total", operation="mint", outcome="unauthorized"))
        assert not watch.records
        await client.accept(answer)
        await end_notice(client, "service_refused")
        assert client.events[0]["error"]["code"] == "service_unauthorized"


async def test_a_client_that_does_not_arrive_ends_the_session(monkeypatch):
    async with early(limits=bounds(ice_seconds=1)) as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        status, _ = await client.post_offer(await client.offer(), key)
        assert status == 201
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_unreachable", "ice not done after 1 s")
        await watch.hung_up()


async def test_a_client_that_offers_again_and_again_keeps_no_session_without_coming():
    """The policy's limits count from its arrival: it has one try, and the time of one."""
    async with early(limits=bounds(ice_seconds=1)) as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        offer = await client.offer()
        status, _ = await client.post_offer(offer, key)
        assert status == 201
        async with Client(watch.world.url, CLIENT_KEY) as second:
            status, refused = await second.reoffer(await second.offer(), client.location, key)
        assert (status, json.loads(refused)["error"]["code"]) == (409, "session_not_active")
        # The first offer once more is answered as before, and buys no time either.
        assert (await client.reoffer(offer, client.location, key))[0] == 200
        record = await watch.ended()
        assert (record.reason, record.detail) == ("client_unreachable", "ice not done after 1 s")
        await watch.hung_up()


async def test_an_offer_that_cannot_be_served_is_refused_and_the_next_one_served():
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        status, _, error = await answered(client, key, "v=0\r\nnothing")
        assert (status, error["code"], error["param"]) == (400, "invalid_offer", "sdp")
        assert (await watch.ended()).reason is EndReason.OFFER_REFUSED
        await watch.hung_up()
        await come(client, key)
        assert await client.hang_up() == 200


# --- given up


async def given_up(watch, name, reason=EndReason.EARLY_UNUSED):
    record = await watch.ended()
    assert record.reason is reason
    assert reason is not EndReason.EARLY_UNUSED or record.detail == name
    assert (outcome(watch, name), outcome(watch, "used")) == (1, 0)
    await until(lambda: watch.hang_ups == ["ok"])
    assert record.counters.upstream.packets_out == 0


async def test_nobody_comes(monkeypatch):
    monkeypatch.setattr("relay.early.MOST_SECONDS", 0.3)
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await given_up(watch, "expired")
        # The key itself lives on, and opens a session in the usual way.
        await come(client, key)
        assert await client.hang_up() == 200


async def test_the_session_goes_with_its_key():
    async with early() as watch, Client(watch.world.url, CLIENT_KEY) as client:
        await client.mint()
        [waiting] = watch.world.relay.registry._early._waiting.values()
        assert 58 < waiting.expiry.when() - asyncio.get_running_loop().time() <= 60
        await watch.world.relay.registry.drain(0)


OTHERS = {
    "model": {"path": "/openai/v1/realtime/calls?model=gpt-realtime-mini"},
    "dialect": {"path": "/v1/realtimertc?model=gpt-4o-realtime-preview"},
}


@pytest.mark.parametrize("posted", OTHERS.values(), ids=OTHERS)
async def test_a_client_that_asks_for_another_session_gets_that(posted):
    async with early() as watch, client_of(watch) as client:
        async with client.http.post(
            f"{client.base}/openai/v1/realtime/client_secrets", headers={"api-key": CLIENT_KEY}, json={}
        ) as response:
            client.minted = await response.json()
            assert response.status == 200
        await connected(watch)
        await come(client, client.minted["value"], **posted)
        await given_up(watch, "other_request")
        assert len(watch.world.simulator.state()["calls"]) == 2
        assert await client.hang_up() == 200


async def test_a_configuration_beside_the_offer_makes_another_session():
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        session = {"type": "realtime", "audio": {"output": {"voice": "verse"}}}
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("sdp", await client.offer())
        form.add_field("session", json.dumps(session))
        async with client.http.post(
            f"{client.base}/openai/v1/realtime/calls", headers={"Authorization": f"Bearer {key}"}, data=form
        ) as response:
            assert response.status == 201
            client.location = response.headers["Location"]
            await client.accept(await response.text())
        created = await client.event("session.created")
        assert created["session"]["audio"]["output"]["voice"] == "verse"
        await given_up(watch, "other_request")
        assert await client.hang_up() == 200


async def test_another_policy_between_mint_and_offer(tmp_path):
    policies = put(tmp_path / "policies", base=document())
    async with early(policy=PolicySettings(documents=str(policies))) as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        put(tmp_path / "policies", base=document(text="CANARY-7f3a-two. Be brief."))
        watch.world.relay.policies.ask_reload()
        await given_up(watch, "other_policy")
        await come(client, key)
        assert watch.session()["session"]["instructions"] != TEXT
        assert await client.hang_up() == 200


async def test_a_page_under_another_policy_gets_its_own(tmp_path):
    policies = put(
        tmp_path / "policies",
        base=document(),
        shop=document(
            name="shop",
            text="CANARY-7f3a-shop. Sell.",
            match={"origins": ["https://shop.example"], "priority": 10},
        ),
    )
    http = HttpSettings(host="127.0.0.1", port=0, allowed_origins=("https://shop.example",))
    settings = {"policy": PolicySettings(documents=str(policies)), "http": http}
    async with early(**settings) as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        client.http.headers["Origin"] = "https://shop.example"
        await come(client, key)
        await given_up(watch, "other_policy")
        assert watch.session()["session"]["instructions"].startswith("CANARY-7f3a-shop")
        assert await client.hang_up() == 200


async def test_the_kill_switch_stops_it(tmp_path):
    policies = put(tmp_path / "policies", base=document())
    async with early(policy=PolicySettings(documents=str(policies))) as watch, client_of(watch) as client:
        await client.mint()
        await connected(watch)
        (tmp_path / "policies" / "KILL").write_text("")
        await given_up(watch, "stopped", EndReason.POLICY_KILLED)


async def test_a_drain_does_not_wait_for_it():
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        began = time.monotonic()
        await watch.world.relay.registry.drain(30)
        assert time.monotonic() - began < 15
        await given_up(watch, "stopped", EndReason.RELAY_DRAINING)
        status, _, error = await answered(client, key)
        assert (status, error["code"]) == (503, "draining")


async def test_the_service_that_leaves_is_replaced():
    async with early() as watch, client_of(watch) as client:
        key = await client.mint()
        await connected(watch)
        watch.world.simulator.fault(channel_closes_after=0, live=True)
        record = await watch.ended()
        assert (record.reason, outcome(watch, "failed")) == (EndReason.SERVICE_LEFT, 1)
        watch.world.simulator.fault(reset=True)
        await come(client, key)
        assert await client.hang_up() == 200


# --- bounds


async def test_so_many_wait_and_no_owner_takes_all():
    keys = ClientSettings(keys=(Secret(CLIENT_KEY), Secret(OTHER_KEY)))
    async with early(4, clients=keys) as watch, contextlib.AsyncExitStack() as stack:
        client, other = [
            await stack.enter_async_context(Client(watch.world.url, key)) for key in (CLIENT_KEY, OTHER_KEY)
        ]
        first = [await client.mint() for _ in range(3)]
        assert (outcome(watch, "started"), outcome(watch, "full")) == (2, 1)
        for _ in range(3):
            await other.mint()
        assert (outcome(watch, "started"), outcome(watch, "full")) == (4, 2)
        await connected(watch, 4)
        # The key without one works in the usual way.
        await come(client, first[2])
        assert outcome(watch, "used") == 0
        assert await client.hang_up() == 200
        await watch.world.relay.registry.drain(0)


async def test_the_relay_has_no_more_sessions_than_it_may():
    limits = LimitSettings(max_sessions=2, reattach_seconds=0)
    async with early(10, limits=limits) as watch, Client(watch.world.url, CLIENT_KEY) as client:
        keys = [await client.mint() for _ in range(3)]
        assert (outcome(watch, "started"), outcome(watch, "full")) == (2, 1)
        # Nobody was refused by that: the key was minted.
        assert metric(watch, "relay_capacity_refusals_total", resource="sessions") == 0
        await connected(watch, 2)
        status, _, error = await answered(client, keys[2])
        assert (status, error["code"]) == (503, "at_capacity")
        status, answer = await client.post_offer(client.peer.localDescription.sdp, keys[0])
        assert status == 201
        await client.accept(answer)
        await client.event("session.created")
        assert len(watch.world.relay.registry.live.counters()) == 2
        await watch.world.relay.registry.drain(0)


async def test_what_a_key_began_is_for_that_key_alone():
    """Two keys of one owner, with secrets of their users in them: neither sees anything of the other's session."""
    async with early() as watch, client_of(watch) as alice, Client(watch.world.url, CLIENT_KEY) as bob:
        tool = {"type": "function", "name": "tool_of_alice", "parameters": {"type": "object", "properties": {}}}
        first = await alice.mint({"tools": [tool]})
        second = await bob.mint()
        await connected(watch, 2)
        await come(bob, second)
        await come(alice, first)
        assert "tool_of_alice" in json.dumps(alice.events[0])
        bob.send({"type": "input_audio_buffer.clear"})
        await bob.event("input_audio_buffer.cleared")
        assert "tool_of_alice" not in "".join(bob.raw)
        assert alice.events[0]["session"]["id"] != bob.events[0]["session"]["id"]
        # The session that waited cannot be hung up or taken over with another's key either.
        bob.minted, (mine, bob.location) = {"value": second}, (bob.location, alice.location)
        assert await bob.hang_up() == 404
        bob.location = mine
        assert await alice.hang_up() == await bob.hang_up() == 200


async def test_by_default_nothing_begins_early():
    async with watched() as watch, client_of(watch) as client:
        await client.mint()
        assert watch.world.relay.registry.live.counters() == {}
        assert watch.world.simulator.state()["mints"] == []
