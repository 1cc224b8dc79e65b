"""`relay serve --workers 2` as a program: its log, its signals, and that no worker outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest
from support.client import Client
from support.program import Program, environment, serving
from support.service import CLIENT_KEY, DEPLOYMENT
from support.workers import children_of, eventually, exists, scrape

from relay.cli import ExitCode, main
from relay.config import load_settings
from relay.errors import ConfigError
from relay.simulator import Simulator, SimulatorSettings


def workers(program: Program) -> dict[int, int]:
    """Its workers by process id, with their numbers."""
    return {line["pid"]: line["worker"] for line in program.lines if line["event"] == "worker_ready"}


async def code_of(program: Program) -> int:
    """Its exit code; fails if it or a worker is still there."""
    code = await program.stopped()
    assert [pid for pid in workers(program) if exists(pid)] == []
    return code


@contextlib.asynccontextmanager
async def talking(**more: str) -> AsyncIterator[tuple[Program, Simulator, Client]]:
    """A program with a session that is active."""
    async with (
        Simulator(SimulatorSettings(deployments=(DEPLOYMENT,))) as simulator,
        serving("--workers", "2", **environment(simulator.url, **more)) as program,
        Client((await program.line("started"))["public_url"], CLIENT_KEY) as client,
    ):
        await client.connect()
        await client.event("session.created")
        yield program, simulator, client


async def test_workers_say_who_they_are_and_leave_with_sigterm():
    async with serving("-w", "2", **environment()) as program:
        await program.line("started")
        assert sorted(workers(program).values()) == [1, 2]
        assert sorted(workers(program)) == sorted(children_of(program.process.pid))
        program.process.send_signal(signal.SIGTERM)
        assert await code_of(program) == ExitCode.OK
        assert not [line for line in program.lines if line["level"] != "info" and line.get("worker")]


async def test_a_main_process_that_is_killed_takes_its_workers_and_their_sessions_with_it():
    async with talking() as (program, simulator, client):
        # The worker without a session is stuck, and must be gone as well.
        samples = await scrape((await program.line("started"))["operations_url"])
        [idle] = [
            pid
            for pid, number in workers(program).items()
            if not samples["relay_worker_sessions", (("worker", str(number)),)]
        ]
        os.kill(idle, signal.SIGSTOP)
        os.kill(program.process.pid, signal.SIGKILL)
        # The worker takes leave of both peers, as nobody else can any more.
        await client.until(lambda: any(event["type"] == "error" for event in client.events))
        assert client.events[-1]["error"]["code"] == "relay_failed"
        await simulator.until(lambda state: state["sessions"][-1]["end"] == "peer_left")
        await eventually(lambda: not any(exists(pid) for pid in workers(program)))


async def test_ctrl_c_reaches_the_whole_group_and_sessions_still_have_their_time():
    async with talking(RELAY_LIMITS_DRAIN_SECONDS="60") as (program, _, client):
        os.killpg(program.process.pid, signal.SIGINT)
        warned = await client.event("relay.session.ending")
        assert warned["reason"] == "relay_draining"
        heard = len(client.levels)
        await client.until(lambda: len(client.levels) > heard + 20)
        assert all(exists(pid) for pid in workers(program))
        # A second one ends it now.
        os.killpg(program.process.pid, signal.SIGINT)
        await client.until(lambda: any(event["type"] == "error" for event in client.events))
        assert await code_of(program) == ExitCode.OK
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
