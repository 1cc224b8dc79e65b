"""`relay serve --workers 2` as a program: its log, its signals, and that no worker outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.client import Client
from support.service import CLIENT_KEY, DEPLOYMENT
from support.workers import children_of, eventually, exists, scrape

from relay.cli import ExitCode, main
from relay.config import load_settings
from relay.errors import ConfigError
from relay.simulator import Simulator, SimulatorSettings

ROOT = Path(__file__).resolve().parents[2]


def environment(service_url: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
    return {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        # What else the machine does must not refuse sessions here.
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
        "RELAY_UPSTREAM_DEPLOYMENT": DEPLOYMENT,
        "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": "Be brief.",
        "RELAY_HTTP_HOST": "127.0.0.1",
        "RELAY_HTTP_PORT": "0",
        "RELAY_ADMIN_PORT": "0",
        "RELAY_ICE_HOSTS": "127.0.0.1",
        "RELAY_ICE_ADVERTISE": "127.0.0.1",
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
        "RELAY_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        **more,
    }


class Program:
    """A running relay, its log so far, its workers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def ready(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "worker_ready"]

    @property
    def workers(self) -> list[int]:
        return [line["pid"] for line in self.ready]

    async def line(self, event: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while not (found := [line for line in self.lines if line["event"] == event]):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def stopped(self, seconds: float = 30) -> int:
        """The exit code; fails if it or a worker is still there."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reading
        assert [pid for pid in self.workers if exists(pid)] == []
        return code

    async def _read(self) -> None:
        while text := await self.process.stdout.readline():
            self.lines.append(json.loads(text))
            self._news.set()


@contextlib.asynccontextmanager
async def served(*arguments: str, **environ: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "serve", *arguments, env=environ, cwd=ROOT, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    program = Program(process)
    try:
        await program.line("started")
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await program._reading


@contextlib.asynccontextmanager
async def talking(**more: str) -> AsyncIterator[tuple[Program, Simulator, Client]]:
    """A program with a session that is active."""
    async with (
        Simulator(SimulatorSettings(deployments=(DEPLOYMENT,))) as simulator,
        served("--workers", "2", **environment(simulator.url, **more)) as program,
        Client((await program.line("started"))["public_url"], CLIENT_KEY) as client,
    ):
        await client.connect()
        await client.event("session.created")
        yield program, simulator, client


async def test_workers_say_who_they_are_and_leave_with_sigterm():
    async with served("-w", "2", **environment()) as program:
        assert sorted(line["worker"] for line in program.ready) == [1, 2]
        assert sorted(program.workers) == sorted(children_of(program.process.pid))
        program.process.send_signal(signal.SIGTERM)
        assert await program.stopped() == ExitCode.OK
        assert not [line for line in program.lines if line["level"] != "info" and line.get("worker")]


async def test_a_main_process_that_is_killed_takes_its_workers_and_their_sessions_with_it():
    async with talking() as (program, simulator, client):
        # The worker without a session is stuck, and must be gone as well.
        samples = await scrape((await program.line("started"))["operations_url"])
        [idle] = [
            line["pid"]
            for line in program.ready
            if not samples["relay_worker_sessions", (("worker", str(line["worker"])),)]
        ]
        os.kill(idle, signal.SIGSTOP)
        os.kill(program.process.pid, signal.SIGKILL)
        # The worker takes leave of both peers, as nobody else can any more.
        await client.until(lambda: any(event["type"] == "error" for event in client.events))
        assert client.events[-1]["error"]["code"] == "relay_failed"
        await simulator.until(lambda state: state["sessions"][-1]["end"] == "peer_left")
        await eventually(lambda: not any(exists(pid) for pid in program.workers))


async def test_ctrl_c_reaches_the_whole_group_and_sessions_still_have_their_time():
    async with talking(RELAY_LIMITS_DRAIN_SECONDS="60") as (program, _, client):
        os.killpg(program.process.pid, signal.SIGINT)
        warned = await client.event("relay.session.ending")
        assert warned["reason"] == "relay_draining"
        heard = len(client.levels)
        await client.until(lambda: len(client.levels) > heard + 20)
        assert all(exists(pid) for pid in program.workers)
        # A second one ends it now.
        os.killpg(program.process.pid, signal.SIGINT)
        await client.until(lambda: any(event["type"] == "error" for event in client.events))
        assert await program.stopped() == ExitCode.OK
        ended = await program.line("session_ended")
        assert (ended["reason"], ended["upstream"]["packets_in"] > 0) == ("relay_draining", True)


PROBLEMS = {
    "no room for UDP": ({"RELAY_ICE_UDP_PORT": "65530"}, r"ice\.udp_port \+ 8.* no port 65538"),
    "no room for TCP": ({"RELAY_ICE_TCP_PORT": "65535"}, r"ice\.tcp_port \+ 8"),
    "one port outside": ({"RELAY_ICE_ADVERTISE": "203.0.113.7:443"}, r"ice\.advertise names one port"),
}


@pytest.mark.parametrize(("more", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_own_ports_that_cannot_be_are_a_problem_of_the_settings(more, words):
    given = {"RELAY_WORKERS": "8", **more}
    load_settings(None, given)
    with pytest.raises(ConfigError, match=words):
        load_settings(None, {**given, "RELAY_WORKERS_PORTS": "own"})
    load_settings(None, {**given, "RELAY_WORKERS_PORTS": "own", "RELAY_WORKERS": "1"})


@pytest.mark.parametrize("number", ["0", "65", "two", "-1"])
def test_a_number_of_workers_that_cannot_be(number, capsys):
    with pytest.raises(ConfigError, match=r"workers\.count"):
        load_settings(None, {"RELAY_WORKERS": number})
    with pytest.raises(SystemExit) as left:
        main(["serve", "--workers", number])
    assert left.value.code == ExitCode.USAGE
    assert "--workers" in capsys.readouterr().err
