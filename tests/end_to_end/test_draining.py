"""Signals to a relay with a session: the first drains, the second ends it now."""

from __future__ import annotations

import json
import signal

from support.client import Client
from support.program import environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT

from relay.simulator import Simulator, SimulatorSettings


async def test_the_first_signal_drains_and_the_second_ends_what_is_left():
    async with (
        Simulator(SimulatorSettings(deployments=(DEPLOYMENT,))) as service,
        serving(**environment(service.url, RELAY_LIMITS_DRAIN_SECONDS="3600")) as program,
    ):
        started = await program.line("started")
        async with Client(started["public_url"], CLIENT_KEY) as client:
            await client.connect()
            await client.event("session.created")
            program.process.send_signal(signal.SIGTERM)
            told = await client.event("relay.session.ending")
            assert told["seconds_left"] == 3600
            async with client.http.get(f"{started['operations_url']}/readyz") as response:
                assert response.status == 503
                assert set((await response.json())["reasons"]) == {"draining"}
            async with Client(started["public_url"], CLIENT_KEY) as late:
                status, answer = await late.post_offer(await late.offer(), CLIENT_KEY)
            assert (status, json.loads(answer)["error"]["code"]) == (503, "draining")
            program.process.send_signal(signal.SIGTERM)
            ended = await client.event("error")
            assert ended["error"]["code"] == "relay_draining"
        assert (await program.line("session_ended"))["reason"] == "relay_draining"
        assert await program.stopped() == 0
        await service.until(lambda state: all(call["hung_up"] for call in state["calls"]))
