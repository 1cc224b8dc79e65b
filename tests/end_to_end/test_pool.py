"""Two members in two regions: who serves when one is at its limit, dies or comes back, where none may be."""

from __future__ import annotations

import asyncio
import json
import random
import re
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs
from support.client import Client
from support.coming_back import until
from support.policies import document, put
from support.pool import NORTH_NAME, POOL_SECRETS, asked, northern, pair
from support.program import environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT, bounds
from support.sessions import answered, end_notice

from relay.config import PolicySettings, UpstreamProtocol
from relay.core.pool import Condition
from relay.kept_calls import KeptCalls
from relay.simulator import Simulator, SimulatorSettings

PINNED = {"match": {"deployments": ["pinned"], "priority": 1}, "upstream": {"regions": ["swedencentral"]}}


def pinned(tmp_path) -> PolicySettings:
    """Everybody may be anywhere; who asks for `pinned`, in the first member's region only."""
    return PolicySettings(documents=str(put(tmp_path / "policies", all=document(), pin=document("pin", **PINNED))))


async def talk(client: Client) -> None:
    """Connect, speak, and hear the service's answer."""
    await client.connect()
    await client.event("session.created")
    client.microphone.level = 1.0
    await client.event("input_audio_buffer.speech_started")
    client.microphone.level = 0.0
    await client.until(lambda: max(client.levels, default=0) > 1000)
    for secret in POOL_SECRETS:
        assert secret not in client.answer, secret
        assert not [raw for raw in client.raw if secret in raw], secret


async def one_session(world) -> None:
    async with Client(world.url, CLIENT_KEY, sound=False) as client:
        await client.connect()
        await client.event("session.created")
        assert await client.hang_up() == 200


async def test_the_second_serves_while_the_first_is_at_its_limit_and_dead_and_the_first_once_it_is_back():
    async with pair() as world:
        world.north.fault(mint="429")
        async with Client(world.url, CLIENT_KEY) as client:
            await talk(client)
            assert (world.state("north").sessions, world.state("south").sessions) == (0, 1)
            assert await client.hang_up() == 200
        assert (asked(world.north), asked(world.south)) == ((1, 0), (1, 1))
        assert (world.condition("north"), world.state("north").last_error) == (Condition.COOLING, "rate_limited")
        await one_session(world)
        assert asked(world.north) == (1, 0), "it said when to come back"
        await world.north.close()
        for _ in range(3):
            world.later += 400
            await one_session(world)
        assert (world.condition("north"), world.state("north").last_error) == (Condition.DOWN, "unreachable")
        async with Client(world.url, CLIENT_KEY) as client:
            await talk(client)
            assert await client.hang_up() == 200
        assert asked(world.south) == (6, 6)
        assert world.value("relay_upstream_failovers_total", member="north", reason="rate_limited") == 1
        assert world.value("relay_upstream_failovers_total", member="north", reason="unreachable") == 3
        assert world.value("relay_upstream_member_state", member="north") == 2
        async with northern(urlsplit(world.north.url).port) as again:
            await one_session(world)
            assert asked(again) == (0, 0)
            world.later += 400
            await one_session(world)
            await one_session(world)
            assert asked(again) == (2, 2)
            assert world.condition("north") is Condition.READY
            assert {each["body"]["session"]["model"] for each in again.state()["mints"]} == {NORTH_NAME}
        for service, key in (
            (world.north, "simulator-resource-key"),
            (again, "simulator-resource-key"),
            (world.south, "key-of-south"),
        ):
            assert {each["headers"]["api-key"] for each in service.state()["mints"]} == {key}
        named = {"operation": "mint", "outcome": "ok"}
        assert world.value("relay_upstream_member_requests_total", member="north", **named) == 2
        assert world.value("relay_upstream_member_requests_total", member="south", **named) == 7
        assert world.value("relay_upstream_requests_total", **named) == 9


@pytest.mark.parametrize("protocol", list(UpstreamProtocol)[:2], ids=str)
@pytest.mark.parametrize("fault", ["500", "drop", "garbage", "404"])
async def test_a_call_that_one_does_not_take_is_minted_anew_and_taken_by_the_other(fault, protocol):
    async with pair(protocol=protocol) as world:
        world.north.fault(call=fault)
        with capture_logs() as logs:
            await one_session(world)
        assert (asked(world.north), asked(world.south)) == ((1, 1), (1, 1))
        assert world.condition("north") is not Condition.READY
        [line] = [line for line in logs if line["event"] == "failed_over"]
        assert (line["member"], line["to"]) == ("north", "south")
        assert {line["member"] for line in logs if line["event"] == "member_away"} == {"north"}


async def test_what_is_the_request_s_own_fault_is_carried_to_nobody_else():
    async with pair() as world, Client(world.url, CLIENT_KEY) as client:
        world.north.fault(mint="content_filter")
        status, _, error = await answered(client, await client.mint())
        assert (status, error["code"]) == (400, "content_filter")
        assert asked(world.south) == (0, 0)
        assert world.condition("north") is Condition.READY


async def test_where_both_fail_the_last_one_s_word_is_the_answer():
    async with pair() as world:
        for service in (world.north, world.south):
            service.fault(mint="429")
        async with Client(world.url, CLIENT_KEY) as client:
            status, headers, error = await answered(client, await client.mint())
        assert (status, error["code"], headers["retry-after"]) == (429, "service_rate_limited", "8")
        assert (asked(world.north), asked(world.south)) == ((1, 0), (1, 0))
        async with Client(world.url, CLIENT_KEY) as client:
            await answered(client, await client.mint())
        # Both are cooling: one of them is asked, and no more.
        assert asked(world.north)[0] + asked(world.south)[0] == 3


# --- residency


async def test_a_policy_that_pins_a_region_is_refused_when_it_is_away_and_nobody_else_is_asked(tmp_path):
    async with pair(policy=pinned(tmp_path)) as world:
        world.north.fault(mint="429")
        for seconds in (8, 7):
            async with Client(world.url, CLIENT_KEY) as client:
                status, headers, error = await answered(client, await client.mint({"model": "pinned"}))
                text = json.dumps([headers, error])
            assert (status, error["code"]) == (503, "region_unavailable")
            assert seconds - 1 <= int(headers["retry-after"]) <= 8
            assert not [secret for secret in POOL_SECRETS if secret in text]
        await world.north.close()
        async with Client(world.url, CLIENT_KEY) as client:
            status, _, error = await answered(client, await client.mint({"model": "pinned"}))
        assert (status, error["code"]) == (503, "region_unavailable")
        assert asked(world.south) == (0, 0)
        decided = {"policy": "pin", "rule": "upstream.regions", "verdict": "end", "mode": "enforce"}
        assert world.value("relay_policy_decisions_total", **decided) == 3
        assert world.value("relay_sessions_ended_total", side="policy", reason="policy_region") == 3
        await one_session(world)
        assert asked(world.south) == (1, 1)


@pytest.mark.parametrize(
    "rule",
    [{"regions": ["uksouth"]}, {"deployments": ["elsewhere"]}, {"regions": ["eastus2"], "deployments": [NORTH_NAME]}],
)
async def test_where_no_member_fits_nobody_is_asked_and_nobody_told_to_come_back(rule, tmp_path):
    documents = put(tmp_path / "policies", all=document(upstream=rule))
    async with pair(policy=PolicySettings(documents=str(documents))) as world, Client(world.url, CLIENT_KEY) as client:
        status, headers, error = await answered(client, await client.mint())
        assert (status, error["code"], headers["x-should-retry"]) == (503, "region_unavailable", "false")
        assert "retry-after" not in headers
        assert (asked(world.north), asked(world.south)) == ((0, 0), (0, 0))


async def test_a_deployment_is_meant_by_the_name_that_it_has_at_the_member(tmp_path):
    documents = put(tmp_path / "policies", all=document(upstream={"deployments": [DEPLOYMENT]}))
    async with pair(policy=PolicySettings(documents=str(documents))) as world:
        await one_session(world)
        assert (asked(world.north), asked(world.south)) == ((0, 0), (1, 1))


async def test_a_live_policy_that_forbids_where_a_session_is_ends_it(tmp_path):
    documents = put(tmp_path / "policies", all=document(apply="live"))
    async with (
        pair(policy=PolicySettings(documents=str(documents))) as world,
        Client(world.url, CLIENT_KEY) as north,
        Client(world.url, CLIENT_KEY) as south,
    ):
        await north.connect()
        world.pool._draw = lambda: 0.99
        await south.connect()
        put(documents, all=document(apply="live", upstream={"regions": ["eastus2"]}))
        world.relay.policies.ask_reload()
        notice = await end_notice(north, "policy_region")
        assert not [secret for secret in POOL_SECRETS if secret in notice["message"]]
        await world.north.until(lambda state: state["calls"][-1]["hung_up"])
        assert not south.closed.is_set()
        assert await south.hang_up() == 200


# --- sessions that begin early


async def test_an_early_session_is_had_at_the_second_member_too_and_pinned_ones_at_their_own_only(tmp_path):
    async with pair(policy=pinned(tmp_path), early_most=10) as world:
        world.north.fault(mint="429")
        async with Client(world.url, CLIENT_KEY) as client:
            key = await client.mint()
            await until(lambda: world.value("relay_sessions_active", phase="waiting") == 1)
            status, answer = await client.post_offer(await client.offer(), key)
            assert status == 201
            await client.accept(answer)
            await client.event("session.created")
            assert await client.hang_up() == 200
        assert asked(world.south) == (1, 1)
        async with Client(world.url, CLIENT_KEY) as client:
            key = await client.mint({"model": "pinned"})
            await until(lambda: world.value("relay_early_sessions_total", outcome="failed") == 1)
            status, _, error = await answered(client, key)
        assert (status, error["code"]) == (503, "region_unavailable")
        assert asked(world.south) == (1, 1)


# --- calls


async def test_after_a_kill_each_member_is_asked_to_hang_up_its_own_calls(tmp_path):
    state, key_file = tmp_path / "state", tmp_path / "key"
    key_file.write_text("key-of-south")
    given = SimulatorSettings(deployments=(DEPLOYMENT,), connect_seconds=120)
    async with (
        Simulator(given) as north,
        Simulator(SimulatorSettings(deployments=(DEPLOYMENT,), connect_seconds=120, api_key="key-of-south")) as south,
    ):
        members = (
            f"north endpoint={north.url} region=swedencentral weight=1 api_key=simulator-resource-key,"
            f"south endpoint={south.url} region=eastus2 weight=0 api_key_file={key_file}"
        )
        settings = environment("", RELAY_STATE_DIRECTORY=str(state), RELAY_UPSTREAM_POOL=members)
        settings["RELAY_UPSTREAM_API_KEY"] = ""
        async with serving(**settings) as program:
            url = (await program.line("started"))["public_url"]
            async with Client(url, CLIENT_KEY) as one, Client(url, CLIENT_KEY) as two:
                await one.connect()
                north.fault(mint="500")
                await two.connect()
                program.process.kill()
                await program.stopped()
        async with serving(**settings) as program:
            assert (await program.next_line("calls_left_over"))["calls"] == 2
            for service in (north, south):
                found = await service.until(lambda state: state["calls"][-1]["hung_up"])
                assert len(found["calls"]) == 1
            assert {(await program.next_line("hang_up_late"))["call_id"] for _ in range(2)} == {
                service.state()["calls"][0]["call_id"] for service in (north, south)
            }
            program.process.terminate()
            assert await program.stopped() == 0
        log = json.dumps(program.lines)
    assert KeptCalls(state).calls == {}
    assert "key-of-south" not in log
    assert "simulator-resource-key" not in log


FAULTS = [{"mint": "429"}, {"call": "500"}, {"call": "drop"}, {"mint": "503"}, {"call": "429"}, *[{}] * 4]
SET_UPS, AT_ONCE = 200, 8


@pytest.mark.long
async def test_two_hundred_set_ups_with_a_member_that_comes_and_goes_leave_no_call():
    chance = random.Random(3)
    # The pool's clock runs ahead, and set-ups have their time by it; who vanished is not waited for.
    options = {"service_seconds": 60.0, "limits": bounds(ice_seconds=3.0)}
    async with pair(**options) as world, Client(world.url, CLIENT_KEY) as client:
        offer, turn, gone = await client.offer(), asyncio.Semaphore(AT_ONCE), 0

        async def set_up(number: int) -> int | None:
            """The status; None for a client that went away while its session was set up."""
            nonlocal gone
            async with turn:
                world.later += chance.uniform(0, 1.5)
                if number % 5 == 0:
                    world.north.fault(reset=True, call_delay_ms=20, **chance.choice(FAULTS))
                own = re.sub(r"^o=- \d+", f"o=- {number + 1000}", offer, count=1, flags=re.MULTILINE)
                posting = asyncio.create_task(posted(client, own, await minted(client)))
                if number % 4:
                    return await posting
                await asyncio.wait({posting}, timeout=chance.uniform(0, 0.1))
                if not posting.done():
                    gone += 1
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
                return None

        found = await asyncio.gather(*(set_up(number) for number in range(SET_UPS)))
        assert {*found} == {201, None}, "a failing member was felt by somebody"
        assert gone > 10
        await until(lambda: not world.relay.registry.live.counters(), 60)
        for service in (world.north, world.south):
            calls = [call for call in service.state()["calls"] if call["call_id"]]
            assert len(calls) > 10
            assert [call["call_id"] for call in calls if not call["hung_up"]] == []
        assert [each.sessions for each in world.pool.state()] == [0, 0]
        assert world.value("relay_upstream_failovers_total", member="north", reason="rate_limited") > 0


async def minted(client: Client) -> str:
    async with client.http.post(
        f"{client.base}/openai/v1/realtime/client_secrets",
        headers={"api-key": client.key},
        json={"session": {"type": "realtime", "model": "gpt-realtime"}},
    ) as response:
        return str((await response.json())["value"])


async def posted(client: Client, offer: str, key: str) -> int:
    """Open a session and hang it up."""
    bearer = {"Authorization": f"Bearer {key}"}
    async with client.http.post(
        f"{client.base}/openai/v1/realtime/calls", headers={**bearer, "Content-Type": "application/sdp"}, data=offer
    ) as response:
        status, location = response.status, response.headers.get("Location", "")
    if location:
        async with client.http.post(f"{client.base}{location}/hangup", headers=bearer) as response:
            assert response.status == 200
    return status
