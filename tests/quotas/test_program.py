"""The whole relay with the stand-in for Azure behind it: places, limits of the day, a restart, a death."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter

from support.client import Client
from support.program import environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT, bench
from support.sessions import answered, end_notice

from relay.config import QuotaSettings, StateSettings
from relay.simulator import Simulator, SimulatorSettings


async def test_200_offers_at_one_time_open_10_sessions_at_the_service(tmp_path):
    state = StateSettings(directory=str(tmp_path))
    async with bench(state=state, quotas=QuotaSettings(relay_sessions=10)) as world:  # noqa: SIM117
        async with Client(world.url, CLIENT_KEY) as client:
            offer = await client.offer()
            keys = [await client.mint() for _ in range(200)]
            outcomes = await asyncio.gather(*(client.post_offer(offer, key) for key in keys))
            assert Counter(status for status, _ in outcomes) == {201: 10, 429: 190}
            refused = next(body for status, body in outcomes if status == 429)
            assert json.loads(refused)["error"]["code"] == "quota_exceeded"
            state_of_service = world.simulator.state()
            assert (len(state_of_service["mints"]), len(state_of_service["calls"])) == (10, 10)


async def test_tokens_of_the_day_end_a_session_and_are_used_up_after_a_restart_too(tmp_path):
    settings = {
        "state": StateSettings(directory=str(tmp_path)),
        "quotas": QuotaSettings(user_tokens_a_day=1, grace_seconds=1.0),
    }
    async with bench(**settings) as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        await client.event("session.created")
        client.send({"type": "response.create"})
        warned = await client.event("relay.session.ending")
        assert (warned["reason"], warned["seconds_left"]) == ("quota_tokens", 1)
        await end_notice(client, "quota_tokens")
    async with bench(**settings) as world, Client(world.url, CLIENT_KEY) as client:
        status, headers, error = await answered(client, await client.mint())
        assert (status, error["code"]) == (429, "quota_exceeded")
        assert error["message"] == "All tokens that you may have today are used up."
        assert 0 < int(headers["retry-after"]) <= 86_400
        assert world.simulator.state()["calls"] == []


async def test_a_relay_that_was_killed_finds_its_places_free_when_it_is_back(tmp_path):
    async with Simulator(SimulatorSettings(deployments=(DEPLOYMENT,))) as service:
        given = environment(service.url, RELAY_STATE_DIRECTORY=str(tmp_path / "state"), RELAY_QUOTAS_USER_SESSIONS="1")
        async with serving(**given) as program:
            url = (await program.line("started"))["public_url"]
            async with Client(url, CLIENT_KEY) as client, Client(url, CLIENT_KEY) as second:
                await client.connect()
                assert (await answered(second, await second.mint()))[0] == 429
                program.process.send_signal(signal.SIGKILL)
                await program.stopped()
        async with serving(**given) as program:
            url = (await program.line("started"))["public_url"]
            async with Client(url, CLIENT_KEY) as client:
                await client.connect()
