"""The program itself under policy documents: refuses to start with bad ones, reads them again at SIGHUP."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import program as programs
from support.policies import document, put

from relay.audit import verify
from relay.cli import main
from relay.config import load_settings
from relay.errors import ConfigError


def environment(tmp_path: Path) -> dict[str, str]:
    paths = {
        "RELAY_POLICIES": str(tmp_path / "policies"),
        "RELAY_DECISION_LOG_DIRECTORY": str(tmp_path / "log"),
    }
    given = programs.environment(**paths)
    del given["RELAY_INSTRUCTIONS"]
    return given


async def test_sighup_reads_the_policies_again_and_the_end_tells_the_head(tmp_path):
    put(tmp_path / "policies", base=document(text="one"))
    async with programs.serving(cwd=tmp_path, **environment(tmp_path)) as program:
        first = await program.next_line("policies_loaded")
        await program.next_line("started")
        program.process.send_signal(signal.SIGHUP)
        assert (await program.next_line("policies_loaded"))["policies"] == first["policies"]
        put(tmp_path / "policies", base="spec: [")
        program.process.send_signal(signal.SIGHUP)
        refused = await program.next_line("policies_refused")
        assert any("base.yaml" in problem for problem in refused["problems"])
        put(tmp_path / "policies", base=document(text="two"))
        assert (await program.next_line("policies_loaded"))["policies"] != first["policies"]
        program.process.send_signal(signal.SIGTERM)
        head = await program.next_line("decision_log_head")
        assert await program.stopped() == 0
    report = verify(tmp_path / "log", frozenset({head["head"]}))
    assert report.sound
    assert (report.chains[0].ended, report.chains[0].covered) == (True, 2)
    assert str(program.process.pid) in report.chains[0].process


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
