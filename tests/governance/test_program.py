"""The program itself under policy documents: refuses to start with bad ones, reads them again at SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.policies import document, put

from relay.audit import verify
from relay.cli import main
from relay.config import load_settings
from relay.errors import ConfigError

ENVIRONMENT = {
    "RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:9",
    "RELAY_UPSTREAM_DEPLOYMENT": "contoso-rt",
    "RELAY_UPSTREAM_API_KEY": "resource-key",
    "RELAY_CLIENT_KEYS": "client-key-for-tests",
    "RELAY_HTTP_HOST": "127.0.0.1",
    "RELAY_HTTP_PORT": "0",
    "RELAY_ADMIN_PORT": "0",
    "RELAY_ICE_HOSTS": "127.0.0.1",
    "RELAY_ICE_TCP_PORT": "0",
    "RELAY_ICE_UDP_PORT": "0",
    "RELAY_LOG_FORMAT": "json",
}
ROOT = Path(__file__).resolve().parents[2]


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **ENVIRONMENT,
        "RELAY_POLICIES": str(tmp_path / "policies"),
        "RELAY_DECISION_LOG_DIRECTORY": str(tmp_path / "log"),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }


@contextlib.asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "serve", env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """The next line of the log that tells of an event."""
    async with asyncio.timeout(30):
        while text := await process.stdout.readline():
            found = json.loads(text)
            if found["event"] == event:
                return found
    pytest.fail(f"{event} was never logged")


async def test_sighup_reads_the_policies_again_and_the_end_tells_the_head(tmp_path):
    put(tmp_path / "policies", base=document(text="one"))
    async with served(tmp_path) as process:
        first = await line(process, "policies_loaded")
        await line(process, "started")
        process.send_signal(signal.SIGHUP)
        assert (await line(process, "policies_loaded"))["policies"] == first["policies"]
        put(tmp_path / "policies", base="spec: [")
        process.send_signal(signal.SIGHUP)
        refused = await line(process, "policies_refused")
        assert any("base.yaml" in problem for problem in refused["problems"])
        put(tmp_path / "policies", base=document(text="two"))
        assert (await line(process, "policies_loaded"))["policies"] != first["policies"]
        process.send_signal(signal.SIGTERM)
        head = await line(process, "decision_log_head")
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    report = verify(tmp_path / "log", frozenset({head["head"]}))
    assert report.sound
    assert (report.chains[0].ended, report.chains[0].covered) == (True, 2)
    assert str(process.pid) in report.chains[0].process


async def test_bad_policies_at_the_start_are_all_named_and_nothing_is_served(tmp_path):
    put(tmp_path / "policies", one=document("one", instructionz={}), two="spec: [")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "serve", env=environment(tmp_path), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 3
    assert b"one.yaml" in errors
    assert b"two.yaml" in errors
    assert b"Traceback" not in errors


def test_check_reads_the_policies_too(tmp_path, monkeypatch, capsys):
    for name, value in environment(tmp_path).items():
        if name.startswith("RELAY_"):
            monkeypatch.setenv(name, value)
    put(tmp_path / "policies", base=document(text="CANARY-7f3a"))
    assert main(["check"]) == 0
    assert "CANARY" not in capsys.readouterr().out
    put(tmp_path / "policies", base=document(instructionz={}))
    assert main(["check"]) == 3
    assert "base.yaml" in capsys.readouterr().err


def test_documents_and_instructions_together_are_a_contradiction(tmp_path):
    put(tmp_path / "policies", base=document())
    with pytest.raises(ConfigError, match="takes the place"):
        load_settings(
            None, {**environment(tmp_path), "RELAY_INSTRUCTIONS": "Be brief.", "RELAY_POLICIES": str(tmp_path)}
        )


def test_documents_need_no_instructions_and_their_path_must_exist(tmp_path):
    put(tmp_path / "policies", base=document())
    settings = load_settings(None, environment(tmp_path))
    settings.require_servable()
    assert not any("NO CENTRAL INSTRUCTIONS" in warning for warning in settings.warnings)
    with pytest.raises(ConfigError, match=r"policy\.documents"):
        load_settings(None, {**environment(tmp_path), "RELAY_POLICIES": str(tmp_path / "nowhere")})


def test_without_a_decision_log_an_operator_is_told(tmp_path):
    put(tmp_path / "policies", base=document())
    given = environment(tmp_path)
    del given["RELAY_DECISION_LOG_DIRECTORY"]
    assert any("decision_log.directory" in warning for warning in load_settings(None, given).warnings)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"decision_log\.directory"):
        load_settings(None, {**given, "RELAY_DECISION_LOG_DIRECTORY": str(tmp_path / "file")})
