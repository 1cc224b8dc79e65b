"""Signals to a relay with a session: the first drains, the second ends it now."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from support.client import Client
from support.service import CLIENT_KEY, DEPLOYMENT

from relay.simulator import Simulator, SimulatorSettings

ROOT = Path(__file__).resolve().parents[2]


def environment(service_url: str) -> dict[str, str]:
    return {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        "RELAY_UPSTREAM_DEPLOYMENT": DEPLOYMENT,
        "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": "Be brief.",
        "RELAY_HTTP_HOST": "127.0.0.1",
        "RELAY_HTTP_PORT": "0",
        "RELAY_ADMIN_PORT": "0",
        "RELAY_ICE_HOSTS": "127.0.0.1",
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        "RELAY_LIMITS_DRAIN_SECONDS": "3600",
        "RELAY_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }


async def logged(process: asyncio.subprocess.Process, event: str) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while line := await process.stdout.readline():
            found = json.loads(line)
            if found["event"] == event:
                return found
    raise AssertionError(event)


async def test_the_first_signal_drains_and_the_second_ends_what_is_left():
    settings = SimulatorSettings(deployments=(DEPLOYMENT,))
    async with Simulator(settings) as service:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay", "serve", env=environment(service.url), stdout=subprocess.PIPE
        )
        try:
            started = await logged(process, "started")
            async with Client(started["public_url"], CLIENT_KEY) as client:
                await client.connect()
                await client.event("session.created")
                process.send_signal(signal.SIGTERM)
                told = await client.event("relay.session.ending")
                assert told["seconds_left"] == 3600
                async with client.http.get(f"{started['operations_url']}/readyz") as response:
                    assert response.status == 503
                    assert set((await response.json())["reasons"]) == {"draining"}
                async with Client(started["public_url"], CLIENT_KEY) as late:
                    status, answer = await late.post_offer(await late.offer(), CLIENT_KEY)
                assert (status, json.loads(answer)["error"]["code"]) == (503, "draining")
                process.send_signal(signal.SIGTERM)
                ended = await client.event("error")
                assert ended["error"]["code"] == "relay_draining"
            assert (await logged(process, "session_ended"))["reason"] == "relay_draining"
            async with asyncio.timeout(30):
                assert await process.wait() == 0
            await service.until(lambda state: all(call["hung_up"] for call in state["calls"]))
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
