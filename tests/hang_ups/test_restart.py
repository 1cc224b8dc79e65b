"""The program killed with live sessions and started again: the service is told that they are over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.client import Client

from relay.kept_calls import KeptCalls
from relay.simulator import Simulator, SimulatorSettings

ROOT = Path(__file__).resolve().parents[2]
KEY = "client-key-for-tests"


def environment(service: str, state: Path) -> dict[str, str]:
    return {
        "RELAY_UPSTREAM_ENDPOINT": service,
        "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
        "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
        "RELAY_CLIENT_KEYS": KEY,
        "RELAY_INSTRUCTIONS": "Be brief.",
        "RELAY_HTTP_HOST": "127.0.0.1",
        "RELAY_HTTP_PORT": "0",
        "RELAY_ADMIN_PORT": "0",
        "RELAY_ICE_HOSTS": "127.0.0.1",
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        "RELAY_LOG_FORMAT": "json",
        "RELAY_STATE_DIRECTORY": str(state),
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }


@contextlib.asynccontextmanager
async def served(service: str, state: Path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "serve", env=environment(service, state), stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while text := await process.stdout.readline():
            found = json.loads(text)
            if found["event"] == event:
                return found
    pytest.fail(f"{event} was never logged")


async def test_a_relay_that_was_killed_hangs_its_calls_up_at_its_next_start(tmp_path):
    async with Simulator(SimulatorSettings(connect_seconds=120)) as service:
        async with served(service.url, tmp_path / "state") as relay:
            url = (await line(relay, "started"))["public_url"]
            async with Client(url, KEY) as one, Client(url, KEY) as two:
                for client in (one, two):
                    await client.connect()
                relay.send_signal(signal.SIGKILL)
                await relay.wait()
        assert [call["hung_up"] for call in service.state()["calls"]] == [False, False]
        async with served(service.url, tmp_path / "state") as relay:
            assert (await line(relay, "calls_left_over"))["calls"] == 2
            await service.until(lambda state: all(call["hung_up"] for call in state["calls"]))
            told = {(await line(relay, "hang_up_late"))["call_id"] for _ in range(2)}
            assert told == {call["call_id"] for call in service.state()["calls"]}
            relay.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await relay.wait() == 0
    assert KeptCalls(tmp_path / "state").calls == {}
