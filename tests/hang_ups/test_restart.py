"""The program killed with live sessions and started again: the service is told that they are over."""

from __future__ import annotations

import signal

from support.client import Client
from support.program import environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT

from relay.kept_calls import KeptCalls
from relay.simulator import Simulator, SimulatorSettings


async def test_a_relay_that_was_killed_hangs_its_calls_up_at_its_next_start(tmp_path):
    state = tmp_path / "state"
    async with Simulator(SimulatorSettings(deployments=(DEPLOYMENT,), connect_seconds=120)) as service:
        given = environment(service.url, RELAY_STATE_DIRECTORY=str(state))
        async with serving(**given) as program:
            url = (await program.line("started"))["public_url"]
            async with Client(url, CLIENT_KEY) as one, Client(url, CLIENT_KEY) as two:
                for client in (one, two):
                    await client.connect()
                program.process.send_signal(signal.SIGKILL)
                await program.stopped()
        assert [call["hung_up"] for call in service.state()["calls"]] == [False, False]
        async with serving(**given) as program:
            assert (await program.next_line("calls_left_over"))["calls"] == 2
            await service.until(lambda state: all(call["hung_up"] for call in state["calls"]))
            told = {(await program.next_line("hang_up_late"))["call_id"] for _ in range(2)}
            assert told == {call["call_id"] for call in service.state()["calls"]}
            program.process.send_signal(signal.SIGTERM)
            assert await program.stopped() == 0
    assert KeptCalls(state).calls == {}
