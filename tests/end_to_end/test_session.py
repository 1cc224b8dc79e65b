"""A whole session through the relay: doors, both legs, events, audio, end."""

from __future__ import annotations

import json

import pytest
from support.client import Client
from support.service import CLIENT_KEY, INSTRUCTIONS, SECRETS, bench

from relay.config import WorkerSettings


def service_session(simulator):
    return simulator.state()["sessions"][-1]


@pytest.mark.parametrize("workers", [1, 2])
async def test_speech_goes_to_the_service_and_its_answer_comes_back(workers):
    async with bench(workers=WorkerSettings(workers)) as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        created = await client.event("session.created")
        assert "instructions" not in created["session"]
        assert service_session(world.simulator)["session"]["instructions"] == INSTRUCTIONS
        client.microphone.level = 1.0
        await client.event("input_audio_buffer.speech_started")
        client.microphone.level = 0.0
        await client.event("input_audio_buffer.speech_stopped")
        await client.event("output_audio_buffer.started")
        await client.until(lambda: max(client.levels, default=0) > 1000)
        done = await client.event("response.done")
        assert done["response"]["status"] == "completed"
        for secret in SECRETS:
            assert secret not in json.dumps(client.minted), secret
            assert secret not in client.answer, secret
            assert not [raw for raw in client.raw if secret in raw], secret
        assert await client.hang_up() == 200
        await client.closed.wait()
        state = await world.simulator.until(lambda state: state["calls"][-1]["hung_up"])
        assert not [name for name in state["calls"][-1]["headers"] if name.lower() == "origin"]


async def test_the_page_may_ask_for_instructions_and_goes_on_without_them():
    async with bench() as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        client.send({"type": "session.update", "event_id": "e1", "session": {"type": "realtime", "instructions": "x"}})
        updated = await client.event("session.updated")
        assert "instructions" not in updated["session"]
        assert not [event for event in client.events if event["type"] == "error"]
        assert service_session(world.simulator)["session"]["instructions"] == INSTRUCTIONS
