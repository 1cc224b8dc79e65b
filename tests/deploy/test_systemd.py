"""The unit: what systemd says of it, and that it says what the relay understands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.deployment import DEPLOY, Container, setting_names

from relay.cli import ExitCode, _parser
from relay.simulator.settings import SimulatorSettings

UNIT = DEPLOY / "systemd" / "relay.service"
TEXT = UNIT.read_text("utf-8")
# How exposed it may be by systemd's count, from 0 to 10.
EXPOSURE = 2.0


def lines(name):
    return re.findall(rf"^{name}=(.*)$", TEXT, re.MULTILINE)


def environment():
    words = " ".join(lines("Environment")).replace("%S", "/var/lib").replace("%d", "/etc/relay/secrets")
    return dict(word.split("=", 1) for word in words.split())


def require_analyze(option: str) -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        pytest.skip("no systemd-analyze on this machine (apt-get install systemd)")
    told = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout
    if option not in told:
        pytest.skip(f"this systemd-analyze is too old for {option}")
    return path


def test_systemd_understands_every_line(tmp_path):
    analyze = require_analyze("verify")
    program = tmp_path / "relay"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "relay.service"
    unit.write_text(TEXT.replace("/opt/relay/bin/relay", str(program)))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "relay.service" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_it_is_confined():
    analyze = require_analyze("--offline")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE * 10)}", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


def test_its_commands_are_the_relays():
    for words in lines("ExecStart") + lines("ExecStartPre"):
        program, *rest = words.split()
        assert program == "/opt/relay/bin/relay"
        assert _parser().parse_args(rest).config == "/etc/relay/relay.yaml"
    known = {str(int(code)) for code in ExitCode}
    assert set(lines("RestartPreventExitStatus")[0].split()) <= known - {str(int(ExitCode.FAILED))}


def test_the_relay_would_read_what_it_hands_over(tmp_path):
    told = environment()
    assert set(told) <= setting_names()
    credentials = {line.split(":")[0]: line.split(":")[1] for line in lines("LoadCredential")}
    handed = {value.rsplit("/", 1)[1] for name, value in told.items() if name.endswith("_FILE")}
    assert handed == set(credentials)
    container = Container(tmp_path, told)
    for name in credentials:
        container.put(f"/etc/relay/secrets/{name}", f"{name}-of-sixteen-characters")
    settings = container.settings()
    assert settings.upstream.api_key is not None
    assert settings.clients.keys
    assert settings.admin.key is not None
    assert settings.store_url.reveal().endswith("/var/lib/relay/relay.db")


def test_sessions_have_their_time_to_end():
    drain = float(environment()["RELAY_LIMITS_DRAIN_SECONDS"])
    assert float(lines("TimeoutStopSec")[0]) > drain >= SimulatorSettings().session_seconds
    # Workers that got the signal too would end their sessions at once.
    assert lines("KillMode") == ["mixed"]
    assert lines("KillSignal") == ["SIGTERM"]


def test_it_waits_for_a_database_that_is_away_and_not_for_settings_to_mend_themselves(tmp_path):
    pytest.importorskip("psycopg", reason="needs psycopg (pip install '.[postgres]')")
    assert lines("StartLimitIntervalSec") == ["0"]
    never_again = set(lines("RestartPreventExitStatus")[0].split())
    assert str(int(ExitCode.CONFIGURATION)) in never_again
    told = environment() | {
        "RELAY_STORE_URL": "postgresql://relay@127.0.0.1:1/relay",
        "RELAY_STATE_DIRECTORY": str(tmp_path),
    }
    for name in list(told):
        if name.endswith("_FILE"):
            (tmp_path / name).write_text("sixteen-characters-and-more")
            told[name] = str(tmp_path / name)
    told |= {"RELAY_INSTRUCTIONS": "Be brief.", "RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:9"}
    told |= {"RELAY_UPSTREAM_DEPLOYMENT": "d", "RELAY_HTTP_HOST": "127.0.0.1", "RELAY_ADMIN_PORT": "0"}
    words = [sys.executable, "-m", "relay", "serve"]
    done = subprocess.run(words, env=os.environ | told, capture_output=True, text=True, check=False, timeout=60)
    assert str(done.returncode) not in never_again | {"0"}
    assert "PostgreSQL at 127.0.0.1 cannot be used" in done.stderr


def test_what_it_writes_is_where_it_may():
    assert lines("StateDirectoryMode") == lines("LogsDirectoryMode") == ["0700"]
    assert environment()["RELAY_STATE_DIRECTORY"] == f"/var/lib/{lines('StateDirectory')[0]}"
