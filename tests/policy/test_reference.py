"""The reference page says what the schema says, and the examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path

from relay.cli import main
from relay.core.policy_inherit import LEAVES
from relay.core.policy_schema import POLICY_SCHEMA
from relay.policy_files import check_policies
from relay.policy_reference import reference_markdown

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_one_that_the_schema_makes():
    page = (ROOT / "docs" / "reference" / "policy.md").read_text("utf-8")
    assert page == reference_markdown(), "run: relay policy schema --markdown > docs/reference/policy.md"


def keys(schema, path=""):
    for name, part in schema.get("properties", {}).items():
        if f"{path}{name}" == "spec.session.fields":
            yield from part["properties"]
            continue
        yield f"{path}{name}"
        yield from keys(part, f"{path}{name}.")
        yield from keys(part.get("items", {}), f"{path}{name}[].")


def test_every_key_has_its_row():
    page = reference_markdown()
    found = list(keys(POLICY_SCHEMA))
    assert len(found) > len(LEAVES)
    for key in found:
        if key not in ("metadata", "spec") and "properties" not in POLICY_SCHEMA["properties"]["spec"][
            "properties"
        ].get(key[5:], {}):
            assert f"| `{key}` |" in page, key


def test_the_examples_are_sound_without_a_warning_and_pass_their_tests():
    checked = check_policies(str(ROOT / "examples" / "policies"))
    assert (checked.errors, checked.warnings) == ((), ())
    assert {document.name for document in checked.documents} == {"company-base", "contact-centre", "everyone-else"}
    assert all(document.tests for document in checked.documents)
    own = [test for test in checked.tests if not test.tried_on]
    assert len(own) == sum(len(document.tests) for document in checked.documents)
    assert {test.document for test in checked.tests if test.tried_on} == {"company-base"}


def test_the_first_policy_of_the_guide_is_sound_and_passes_its_tests(tmp_path):
    guide = (ROOT / "docs" / "govern.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "first.yaml").write_text(block)
    checked = check_policies(str(tmp_path))
    assert (checked.errors, checked.warnings) == ((), ())
    assert len(checked.tests) == 3


def test_every_command_of_the_guide_exists(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs" / "govern.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    for name in ("policies", "policies.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "first.yaml").write_text(block)
    monkeypatch.chdir(tmp_path)
    (event,) = re.findall(r"echo '(.*)' > event.json", guide)
    (tmp_path / "event.json").write_text(event)
    monkeypatch.setenv("RELAY_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_POLICY_MANAGED", "true")
    commands = re.findall(r"^relay (policy .*)$", guide, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        assert main(command.split()) == 0, capsys.readouterr()
