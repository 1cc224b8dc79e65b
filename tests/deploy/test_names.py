"""No file of the deployment, and no page about it, names a setting, a file or a command that is not there."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from support.deployment import DEPLOY, ROOT, setting_names

from relay.cli import _parser
from relay.config import catalogue
from relay.simulator.faults import FaultRequest, Faults, HttpFault

PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
FILES = [
    ROOT / "docker-compose.yml",
    ROOT / "docs" / "deploy.md",
    DEPLOY / "Dockerfile",
    *sorted(
        path for name in ("compose", "kubernetes", "systemd") for path in (DEPLOY / name).rglob("*") if path.is_file()
    ),
]
# Of the compose file itself: which image it builds or takes.
OURS = {"RELAY_IMAGE"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(path):
    text = path.read_text("utf-8")
    assert set(re.findall(r"\bRELAY_[A-Z_]+[A-Z]\b", text)) - OURS <= setting_names()
    known = {spec.name for spec in catalogue()} | {f"{spec.name}_file" for spec in catalogue() if spec.from_file}
    sections = "|".join({spec.section for spec in catalogue()})
    named = set(re.findall(rf"(?<![\w./-])((?:{sections})\.[a-z_]+)\b(?![\w./-]*/)", text))
    files = {"limits.md", "relay.yaml", "policy.md", "admission.md", "log.md", "turn.example"}
    assert named - files <= known


def test_the_page_s_links_and_paths_lead_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", PAGE):
        if target:
            assert (ROOT / "docs" / target).exists(), target
        else:
            assert anchor in headings, anchor
    for path in set(re.findall(r"(?<![\w/])(?:deploy|tests|docs)/[\w./-]*\w", PAGE)):
        assert (ROOT / path).exists(), path


def test_the_page_s_commands_are_the_relays():
    commands = re.findall(r"`relay ((?:health|check|doctor|policy|store|key)[^`]*)`", PAGE)
    assert {"health", "health readyz", "check"} <= set(commands)
    for words in commands:
        if words != "policy test":
            _parser().parse_args(words.replace("URL", "http://127.0.0.1:8081").split())


def test_the_page_s_fault_is_one_the_stand_in_knows():
    (body,) = re.findall(r"/_fault', b'(\{.*\})'\)", PAGE)
    faults = FaultRequest.parse(json.loads(body.replace('\\"', '"')), Faults()).faults
    assert (faults.mint, faults.mint_left) == (HttpFault.RATE_LIMITED, 3)


def test_what_is_to_be_built_by_hand_is_there():
    recipe = (DEPLOY / "Dockerfile").read_text("utf-8")
    for name in re.findall(r"--build-arg (\w+)=", PAGE):
        assert re.search(rf"^ARG {name}\b", recipe, re.MULTILINE), name
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make (\w+)`", PAGE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_prometheus_rule_of_the_page_is_one(tmp_path):
    """What its two lines of shell print, but for the last step."""
    (script,) = re.findall(r"```sh\n(\{.*?\}) \| kubectl", PAGE, re.DOTALL)
    made = subprocess.run(["sh", "-c", f"cd {ROOT}; {script}"], capture_output=True, text=True, check=True).stdout
    rule = yaml.safe_load(made)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))
