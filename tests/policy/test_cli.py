"""`relay policy …`: what it prints, and how it exits."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli import main
from relay.core.policy_schema import POLICY_SCHEMA
from relay.core.tool_rules import schema_hash
from relay.policy_cli import PolicyExit

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "policies"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("RELAY_POLICIES", raising=False)


@pytest.fixture
def policies(tmp_path):
    """A copy of the examples that a test can change."""
    return shutil.copytree(EXAMPLES, tmp_path / "policies")


@pytest.fixture
def run(capsys):
    """Run a command; returns exit code, output and complaints."""

    def command(*arguments):
        code = main(["policy", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_lint_of_sound_documents(run, policies):
    assert run("lint", "--policies", policies) == (0, "3 documents, 0 errors, 0 warnings\n", "")


def test_lint_names_file_line_and_path(run, policies):
    edit(policies / "everyone-else.yaml", "limits:", "limitz:")
    code, out, _ = run("lint", "--policies", policies)
    assert code == PolicyExit.FOUND
    assert "everyone-else.yaml:12: error: spec.limitz: unknown key; did you mean limits?" in out


def test_lint_exits_with_1_for_warnings_when_strict(run, policies):
    (policies / "everyone-else.yaml").unlink()
    assert run("lint", "--policies", policies)[0] == PolicyExit.OK
    code, out, _ = run("lint", "--policies", policies, "--strict")
    assert (code, "no document is the default" in out) == (PolicyExit.FOUND, True)


def test_lint_as_json(run, policies):
    edit(policies / "everyone-else.yaml", "sessionSeconds: 300", "sessionSeconds: 3600")
    code, out, _ = run("lint", "--policies", policies, "--json")
    (problem,) = json.loads(out)["problems"]
    assert code == PolicyExit.FOUND
    assert (problem["severity"], problem["document"], problem["path"]) == (
        "error",
        "everyone-else",
        "spec.limits.sessionSeconds",
    )
    assert problem["line"] == 12


def test_lint_knows_deployments_when_told(run, policies):
    edit(policies / "company-base.yaml", "spec:\n", "spec:\n  upstream: {default: rt-swedn}\n")
    assert "did you mean rt-sweden?" in run("lint", "--policies", policies, "--deployment", "rt-sweden")[1]


def test_the_documents_own_tests(run, policies):
    code, out, _ = run("test", "--policies", policies)
    assert (code, out.splitlines()[-1]) == (PolicyExit.OK, "27 tests, 0 failed")
    code, out, _ = run("test", "--policies", policies, "everyone-else")
    assert (code, out.splitlines()[-1]) == (PolicyExit.OK, "9 tests, 0 failed")


def test_a_failing_test_says_why(run, policies):
    edit(policies / "everyone-else.yaml", "expect: {decision: forward}", "expect: {decision: refuse}")
    code, out, _ = run("test", "--policies", policies)
    assert code == PolicyExit.FOUND
    assert "failed  everyone-else: speaking is enough" in out
    assert re.search(r"everyone-else\.yaml:\d+: decision: expected refuse, got forward", out)
    results = json.loads(run("test", "--policies", policies, "--json")[1])["results"]
    assert [one["name"] for one in results if not one["passed"]] == ["speaking is enough"]


def test_no_tests_are_no_success(run, policies):
    (policies / "contact-centre.yaml").unlink()
    edit(policies / "everyone-else.yaml", "  tests:", "  x: 1\n#")
    assert run("test", "--policies", policies)[0] == PolicyExit.UNUSABLE
    path = policies / "bare.yaml"
    path.write_text(
        "apiVersion: relay/v1\nkind: SessionPolicy\nmetadata: {name: bare}\n"
        "spec: {match: {}, instructions: {text: Hi.}}\n"
    )
    assert run("test", "--policies", path)[0] == PolicyExit.FOUND
    assert run("test", "--policies", path, "gone")[0] == PolicyExit.UNUSABLE


def test_resolve_says_which_and_why_and_no_instructions(run):
    code, out, _ = run("resolve", "--policies", EXAMPLES, "--tenant", "contact-centre", "--claim", "department=sales")
    assert code == PolicyExit.OK
    assert re.match(r"contact-centre, revision [0-9a-f]{64}\n", out)
    assert "matches     contact-centre (priority 100): all its keys hold" in out
    assert "company-base, contact-centre" in out
    assert re.search(r"limits\.sessionSeconds +900", out)
    assert "HOUSE-RULES" not in out
    shown = run(
        "resolve", "--policies", EXAMPLES, "--tenant", "contact-centre", "--claim", "department=sales", "--instructions"
    )
    assert "callers of sales" in shown[1]


def test_resolve_as_json(run):
    code, out, _ = run("resolve", "--policies", EXAMPLES, "--json")
    found = json.loads(out)
    assert (code, found["policy"]["name"], found["documents"]) == (
        0,
        "everyone-else",
        ["company-base", "everyone-else"],
    )
    assert found["considered"][0]["why"] == "tenant is 'default', not 'contact-centre'"
    assert "HOUSE-RULES" not in out


def test_a_session_that_gets_no_policy(run, policies):
    (policies / "everyone-else.yaml").unlink()
    code, out, _ = run("resolve", "--policies", policies)
    assert code == PolicyExit.FOUND
    assert out.startswith("refused (no_policy): no document matches, and none is the default")
    assert json.loads(run("resolve", "--policies", policies, "--json")[1])["refused"] == "no_policy"


@pytest.fixture
def event(tmp_path):
    """Write an event to a file."""

    def write(value):
        path = tmp_path / "event.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


def test_explain_an_event_of_a_client(run, event):
    update = event({"type": "session.update", "session": {"type": "realtime", "instructions": "x"}})
    code, out, _ = run("explain", update, "--policies", EXAMPLES, "--tenant", "contact-centre")
    assert (code, out.splitlines()[0]) == (PolicyExit.OK, "strip  by session.instructions")
    assert "to service nothing" in out
    assert 'to client  {"type": "session.updated"' in out


def test_explain_what_the_service_sends_and_what_is_minted(run, event):
    limits = event({"type": "rate_limits.updated", "rate_limits": []})
    assert run("explain", limits, "--policies", EXAMPLES)[1].startswith("withhold  by rate_limits.hidden\n")
    minted = run("explain", event({"session": {"type": "realtime", "instructions": "x"}}), "--policies", EXAMPLES)[1]
    assert minted.startswith("strip  by session.instructions\n")
    assert "(the policy's 232 characters)" in minted
    assert "HOUSE-RULES" not in minted


def test_explain_as_json_from_standard_input(run, monkeypatch):
    text = json.dumps({"type": "response.create", "event_id": "r1", "response": {"instructions": "x"}})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = run("explain", "-", "--policies", EXAMPLES, "--document", "contact-centre", "--json")
    found = json.loads(out)
    assert code == PolicyExit.OK
    assert (found["decision"], found["rule"], found["code"]) == ("refuse", "responses.overrides", "policy_violation")
    assert found["to_client"][0]["error"]["event_id"] == "r1"
    assert found["to_service"] == []


def test_explain_takes_text_that_is_no_event(run, event):
    assert run("explain", event("[1]"), "--policies", EXAMPLES)[1].startswith("refuse  by events.framing\n")


def test_explain_says_when_a_decision_is_not_carried_out(run, event, policies):
    edit(policies / "company-base.yaml", "spec:\n", "spec:\n  mode: audit\n")
    edit(policies / "everyone-else.yaml", "spec:\n", "spec:\n  mode: audit\n")
    edit(policies / "contact-centre.yaml", "spec:\n", "spec:\n  mode: audit\n")
    item = event({"type": "conversation.item.create", "item": {"type": "message", "role": "system", "content": []}})
    out = run("explain", item, "--policies", policies)[1]
    assert out.startswith("refuse  by items.role\n")
    assert "written down and not carried out" in out


def test_diff_speaks_in_meaning_and_can_fail(run, policies):
    edit(policies / "company-base.yaml", "idleSeconds: 120", "idleSeconds: 240")
    code, out, _ = run("diff", EXAMPLES, policies)
    assert code == PolicyExit.OK
    assert "+ looser  contact-centre: limits.idleSeconds: 120 -> 240" in out
    assert run("diff", EXAMPLES, policies, "--fail-on", "looser")[0] == PolicyExit.FOUND
    assert run("diff", policies, EXAMPLES, "--fail-on", "looser")[0] == PolicyExit.OK
    assert run("diff", policies, EXAMPLES, "--fail-on", "any")[0] == PolicyExit.FOUND
    assert run("diff", EXAMPLES, EXAMPLES, "--fail-on", "any")[:2] == (PolicyExit.OK, "no difference in meaning\n")
    changes = json.loads(run("diff", EXAMPLES, policies, "--json")[1])["changes"]
    assert {change["direction"] for change in changes} == {"looser"}


def test_the_hash_of_a_function_is_the_engines(run, event):
    tool = {"type": "function", "name": "pay", "description": "d", "parameters": {"type": "object"}}
    assert run("hash", event(tool))[:2] == (PolicyExit.OK, schema_hash(tool) + "\n")
    assert run("hash", event({"type": "function"}))[0] == PolicyExit.FOUND
    assert run("hash", event("[]"))[0] == PolicyExit.UNUSABLE


def test_schema_is_printed(run):
    assert json.loads(run("schema")[1]) == POLICY_SCHEMA
    assert run("schema", "--markdown")[1].startswith("# Policy documents\n")


def test_policies_come_from_the_environment_too(run, monkeypatch):
    code, _, err = run("lint")
    assert (code, "give --policies PATH or set RELAY_POLICIES" in err) == (PolicyExit.UNUSABLE, True)
    monkeypatch.setenv("RELAY_POLICIES", str(EXAMPLES))
    assert run("lint")[0] == PolicyExit.OK


def test_what_cannot_be_used_exits_with_3_and_says_all(run, policies, event):
    edit(policies / "everyone-else.yaml", "limits:", "limitz:")
    for command in (["test"], ["resolve"], ["explain", event({"type": "response.create"})]):
        code, _, err = run(*command, "--policies", policies)
        assert (code, "did you mean limits?" in err) == (PolicyExit.UNUSABLE, True)
    assert run("diff", EXAMPLES, policies)[0] == PolicyExit.UNUSABLE
    assert run("lint", "--policies", policies / "gone")[0] == PolicyExit.UNUSABLE
    assert run("explain", "gone.json", "--policies", EXAMPLES)[0] == PolicyExit.UNUSABLE


@pytest.mark.parametrize("arguments", [[], ["lin"], ["explain"], ["resolve", "--claim", "x"], ["diff", "a"]])
def test_a_command_line_that_cannot_be_understood(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["policy", *arguments])
    assert caught.value.code == PolicyExit.USAGE


def test_colours_are_for_terminals(run, monkeypatch, policies):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def printed():
        screen = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", screen)
            main(["policy", "lint", "--policies", str(policies)])
        return screen.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert printed().startswith("\x1b[32m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed().startswith("3 documents")


@pytest.mark.parametrize("command", ["lint", "test", "resolve", "explain", "diff", "hash", "schema"])
def test_help_tells_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit):
        main(["policy", command, "--help"])
    out = capsys.readouterr().out
    assert [int(found) for found in re.findall(r"^  (\d)  ", out, re.MULTILINE)] == list(PolicyExit)


def test_what_is_not_shown_to_be_tighter_can_fail_a_change(run, policies, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(policies, old)
    (policies / "contact-centre.yaml").unlink()  # its sessions fall to a looser document
    assert run("diff", old, policies, "--fail-on", "looser")[0] == PolicyExit.OK
    assert run("diff", old, policies, "--fail-on", "unproved")[0] == PolicyExit.FOUND
    assert run("diff", old, old, "--fail-on", "unproved")[0] == PolicyExit.OK


@pytest.mark.parametrize("verb", ["lint", "test", "resolve"])
def test_what_cannot_be_read_is_json_where_json_was_asked_for(run, verb):
    code, out, _ = run(verb, "--json", "--policies", "/nonexistent")
    assert code == PolicyExit.UNUSABLE
    assert "no such file" in json.loads(out)["error"]


def test_a_session_that_is_no_object_is_not_taken_for_an_empty_one(run, policies, tmp_path):
    event = tmp_path / "mint.json"
    event.write_text('{"session": "foo"}')
    assert run("explain", event, "--from", "mint", "--policies", policies)[0] == PolicyExit.UNUSABLE


def test_a_reader_that_has_enough_and_a_terminal_without_letters_are_no_crash():
    command = [sys.executable, "-m", "relay", "policy", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    plain = subprocess.run([*command, "--markdown"], capture_output=True, check=True,
                           env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert plain.stderr == b""
