"""The command line: help that teaches, documented exit codes, programs that stop when told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from relay.cli import ExitCode, main
from relay.config import catalogue

ROOT = Path(__file__).resolve().parents[2]
SERVABLE = {
    "RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:9",
    "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
    "RELAY_UPSTREAM_API_KEY": "resource-key-canary",
    "RELAY_CLIENT_KEYS": "client-key-canary",
    "RELAY_INSTRUCTIONS": "instructions canary",
    "RELAY_HTTP_HOST": "127.0.0.1",
    "RELAY_HTTP_PORT": "0",
    "RELAY_ADMIN_PORT": "0",
    "RELAY_ICE_HOSTS": "127.0.0.1",
    "RELAY_ICE_TCP_PORT": "0",
    "RELAY_ICE_UDP_PORT": "0",
    "RELAY_ICE_ADVERTISE": "127.0.0.1",
    "RELAY_LIMITS_DRAIN_SECONDS": "1",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RELAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def servable(monkeypatch):
    for name, value in SERVABLE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def program():
    """Start `relay …` as a process of its own; whatever still runs at the end is killed."""
    started = []

    async def start(*arguments, **environ):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay", *arguments, cwd=ROOT, env=kept | environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(process, words):
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if words in line.decode():
                return line.decode()
    pytest.fail(f"{words!r} was never printed: {(await process.stderr.read()).decode()}")


async def stopped(process, number):
    process.send_signal(number)
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


def test_help_teaches_every_command_and_exit_code(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == ExitCode.OK
    text = capsys.readouterr().out
    for command in ("serve", "demo", "simulate-azure", "check", "doctor", "version"):
        assert re.search(rf"^ +{command}\s", text, re.MULTILINE)
    assert re.findall(r"^  (\d)  ", text, re.MULTILINE) == [str(code.value) for code in ExitCode]


def test_every_environment_name_that_help_mentions_exists(capsys):
    known = {spec.env for spec in catalogue()} | {f"{spec.env}_FILE" for spec in catalogue() if spec.from_file}
    for arguments in (["--help"], ["serve", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        mentioned = set(re.findall(r"RELAY_[A-Z_]+", capsys.readouterr().out)) - {"RELAY_CONFIG"}
        assert mentioned
        assert mentioned <= known


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["serve", "--port", "1"], ["demo", "--host", "0.0.0.0"], ["demo", "--host", "192.0.2.1"],
     ["demo", "--port", "x"], ["simulate-azure", "--port", "65536"], ["simulate-azure", "--host", "here"]],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == ExitCode.USAGE
    assert "_port" not in capsys.readouterr().err


def test_check_prints_settings_with_origins_and_no_secret(servable, capsys):
    assert main(["check"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert re.search(r"^upstream\.deployment +gpt-realtime  \(env RELAY_UPSTREAM_DEPLOYMENT\)$", out, re.MULTILINE)
    assert re.search(r"^log\.level +info  \(default\)$", out, re.MULTILINE)
    assert re.search(r"^policy\.allow_empty +false  \(default\)$", out, re.MULTILINE)
    assert "warning: upstream.transcription_deployment is not set" in err
    assert "canary" not in out + err


def test_check_as_json_says_the_same(servable, capsys):
    assert main(["check", "--json"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["http.port"] == {"value": 0, "origin": "env RELAY_HTTP_PORT", "env": "RELAY_HTTP_PORT"}
    assert shown["problems"] == []
    assert len(shown["warnings"]) == 2
    assert "canary" not in json.dumps(shown)


def test_check_of_unusable_settings_exits_with_the_configuration_code(tmp_path, capsys):
    assert main(["check"]) == ExitCode.CONFIGURATION
    out, err = capsys.readouterr()
    assert "log.level" in out
    assert "upstream.endpoint is not set" in err
    path = tmp_path / "relay.yaml"
    path.write_text("http:\n  prt: 1\n")
    assert main(["check", "-c", str(path), "--json"]) == ExitCode.CONFIGURATION
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith(f"{path}:2: unknown setting 'http.prt'")


def test_serve_refuses_settings_it_cannot_serve(capsys):
    assert main(["serve"]) == ExitCode.CONFIGURATION
    err = capsys.readouterr().err
    assert "clients.keys is not set" in err
    assert "policy.instructions is not set" in err


def test_version_tells_what_it_stands_on(capsys):
    assert main(["version", "--json"]) == ExitCode.OK
    assert {"relay", "python", "aiortc", "aioice"} <= json.loads(capsys.readouterr().out).keys()
    assert main(["version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("relay ")


async def test_serve_opens_as_many_files_as_the_system_lets_it(program):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        process = await program("serve", **SERVABLE, RELAY_LOG_FORMAT="json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await line_with(process, '"started"')
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    assert await stopped(process, signal.SIGTERM) == (ExitCode.OK, "")


async def test_serve_runs_until_told_to_stop_and_logs_nothing_private(program):
    process = await program("serve", **SERVABLE, RELAY_LOG_FORMAT="json")
    started = json.loads(await line_with(process, '"started"'))
    alive = await asyncio.to_thread(urllib.request.urlopen, f"{started['public_url']}/livez", timeout=30)
    assert alive.status == 200
    code, errors = await stopped(process, signal.SIGTERM)
    assert (code, errors) == (ExitCode.OK, "")
    assert "canary" not in json.dumps(started)


async def test_an_address_in_use_has_its_own_exit_code(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await program("serve", **SERVABLE | {"RELAY_HTTP_PORT": str(taken.getsockname()[1])})
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
    assert process.returncode == ExitCode.CANNOT_LISTEN
    assert "in use" in errors.decode()
    assert "http.port" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_the_demo_prints_an_address_with_a_key_and_stops(program):
    process = await program("demo", "--port", "0")
    async with asyncio.timeout(60):
        first = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
    # Nothing stands before the address: no warning of what is meant to be so.
    assert first[:2] == ["Open this page, allow the microphone and speak:", ""]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#key=[\w-]{16,}", first[2])
    line = await line_with(process, "/console/")
    url, key = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/console/ +key: ([\w-]{16,})", line.strip()).groups()
    asked = urllib.request.Request(f"{url}/admin/v1/policies", headers={"Authorization": f"Bearer {key}"})
    told = json.load(await asyncio.to_thread(urllib.request.urlopen, asked, timeout=30))
    assert (told["managed"], told["revision"]) == (True, 1)
    assert [each["path"] for each in told["files"]] == ["house.yaml", "visitors.yaml"]
    code, errors = await stopped(process, signal.SIGINT)
    assert (code, errors) == (ExitCode.OK, "")


async def test_the_stand_in_prints_how_to_point_a_relay_at_it(program, monkeypatch, capsys):
    process = await program("simulate-azure", "--port", "0", "--deployment", "mine")
    url = re.search(r"http://\S+", await line_with(process, "Stand-in for Azure")).group()
    state = await asyncio.to_thread(urllib.request.urlopen, f"{url}/_state", timeout=30)
    assert json.load(state)["mints"] == []
    printed = [await line_with(process, "export") for _ in range(4)]
    for line in printed:
        name, value = line.split()[1].split("=")
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RELAY_CLIENT_KEYS", "client-key-000001")
    monkeypatch.setenv("RELAY_INSTRUCTIONS", "Be brief.")
    assert main(["check"]) == ExitCode.OK
    assert re.search(r"upstream\.deployment +mine ", capsys.readouterr().out)
    code, _ = await stopped(process, signal.SIGTERM)
    assert code == ExitCode.OK
