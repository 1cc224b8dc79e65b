"""`relay doctor` as it is called: what it prints, what the shell is told, and no secret in any of it."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading

import pytest
from support.service import bench

from relay.cli import main
from relay.doctor.checks import Check, CheckName, Status, in_thread
from relay.doctor.command import _manner, as_json, exit_code, lines
from relay.doctor.round import Wish, examine

CANARY = "canary-0123456789-secret"
ENVIRONMENT = {
    "RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:9",
    "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
    "RELAY_UPSTREAM_API_KEY": CANARY,
    "RELAY_CLIENT_KEYS": CANARY,
    "RELAY_INSTRUCTIONS": f"{CANARY} instructions",
    "RELAY_HTTP_HOST": "127.0.0.1",
    "RELAY_HTTP_PORT": "0",
    "RELAY_ADMIN_PORT": "0",
    "RELAY_ICE_HOSTS": "127.0.0.1",
    "RELAY_ICE_UDP_PORT": "0",
    "RELAY_ICE_TCP_PORT": "0",
    "RELAY_TURN_URLS": "turn:127.0.0.1:9?transport=tcp",
    "RELAY_TURN_SECRET": CANARY,
    "RELAY_EGRESS_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "RELAY_EGRESS_TURN_URL": "turn:127.0.0.1:9?transport=tcp",
    "RELAY_EGRESS_TURN_USERNAME": "relay",
    "RELAY_EGRESS_TURN_PASSWORD": CANARY,
}


@pytest.fixture
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_it_explains_in_lines_fails_with_its_code_and_tells_no_secret(environment, capsys):
    assert main(["doctor", "--timeout", "1", "--mint"]) == 1
    out, err = capsys.readouterr()
    assert CANARY not in out + err
    assert re.search(r"^✗ service_tcp +http://127\.0\.0\.1:9: ", out, re.MULTILINE)
    assert re.search(r"^✓ configuration ", out, re.MULTILINE)
    assert re.search(r"^- egress_udp ", out, re.MULTILINE)
    assert "→ let outbound TCP" in out or "→ it is a private address" in out
    assert "\x1b" not in out
    assert re.fullmatch(r"\d+ ok, \d+ warn, \d+ fail, \d+ skip", out.strip().splitlines()[-1])


def test_as_json_it_says_the_same(environment, capsys):
    assert main(["doctor", "--json", "--timeout", "1"]) == 1
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert shown["ok"] is False
    assert CANARY not in out
    assert {"name", "status", "seen", "advice", "subject"} == set(shown["checks"][0])
    assert {check["name"] for check in shown["checks"]} == set(CheckName)
    assert [check["name"] for check in shown["checks"]] == sorted(
        (check["name"] for check in shown["checks"]), key=list(CheckName).index
    )


def test_settings_that_do_not_load_have_the_codes_of_settings(monkeypatch, capsys):
    monkeypatch.setenv("RELAY_HTTP_PRT", "1")
    assert main(["doctor"]) == 3
    out = capsys.readouterr().out
    assert "unknown setting" in out
    assert "service_dns" not in out


@pytest.mark.parametrize("arguments", [["--timeout", "x"], ["--timeout", "0"], ["--timeout", "61"], ["extra"]])
def test_what_cannot_be_understood_is_a_usage_error(arguments):
    with pytest.raises(SystemExit) as left:
        main(["doctor", *arguments])
    assert left.value.code == 2


async def test_beside_a_running_relay_and_its_service_nothing_fails(monkeypatch):
    async with bench() as world:
        media = world.relay.registry._host._plane.endpoint.port
        upstream = world.simulator
        environ = ENVIRONMENT | {
            "RELAY_UPSTREAM_ENDPOINT": upstream.url,
            "RELAY_UPSTREAM_DEPLOYMENT": "contoso-rt",
            "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
            "RELAY_HTTP_PORT": world.url.rpartition(":")[2],
            "RELAY_ADMIN_PORT": world.relay.operations_url.rpartition(":")[2],
            "RELAY_ICE_UDP_PORT": str(media),
            # A shell's usual limit of open files is enough for these.
            "RELAY_LIMITS_MAX_SESSIONS": "50",
        }
        for name in list(environ):
            if name.startswith(("RELAY_TURN", "RELAY_EGRESS")):
                del environ[name]
        checks = await examine(Wish(seconds=3.0, mint=True), environ)
    assert exit_code(checks) == 0, lines(checks)
    seen = {check.name: check.seen for check in checks}
    assert "takes what is sent" in seen[CheckName.MEDIA_UDP]
    assert "the running relay" in seen[CheckName.FILE_LIMIT]
    assert "a key was minted" in seen[CheckName.CREDENTIALS]
    assert "none for want of a way for media" in seen[CheckName.MEDIA_PATH]


def test_codes_and_json_follow_the_checks():
    good = Check(CheckName.CLOCK, Status.WARN, "late")
    bad = Check(CheckName.CLOCK, Status.FAIL, "later", "set it")
    settings = Check(CheckName.CONFIGURATION, Status.FAIL, "wrong")
    assert [exit_code(each) for each in ([good], [good, bad], [settings, bad])] == [0, 1, 3]
    assert as_json([good])["ok"] is True
    assert as_json([bad])["checks"][0]["status"] == "fail"


def test_signs_and_colours_only_where_they_can_be_shown(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _manner(Terminal(io.BytesIO(), "utf-8")) == {"colour": True, "plain": False}
    assert _manner(io.TextIOWrapper(io.BytesIO(), "ascii")) == {"colour": False, "plain": True}
    monkeypatch.setenv("NO_COLOR", "1")
    assert _manner(Terminal(io.BytesIO(), "utf-8")) == {"colour": False, "plain": False}
    bad = Check(CheckName.CLOCK, Status.FAIL, "late", "set it")
    assert lines([bad], colour=True)[0].startswith("\x1b[31m✗\x1b[0m clock")
    assert "".join(lines([bad], plain=True)).isascii()


async def test_a_blocking_call_that_never_ends_is_left_behind():
    with pytest.raises(ValueError, match="no"):
        await in_thread(lambda: int("no"))
    stuck = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(stuck.wait)
    stuck.set()
