"""The page on identity says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relay.config import catalogue, load_settings
from relay.core.access import Role
from relay.identity import jwks, keys, oidc

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "identity.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_loads(example, tmp_path):
    path = tmp_path / "relay.yaml"
    path.write_text(example)
    settings = load_settings(str(path), {})
    assert {name.split(".")[0] for name in settings.origins} == set(yaml.safe_load(example))


def test_every_setting_that_is_mentioned_exists():
    known = {spec.name for spec in catalogue()}
    sections = {spec.section for spec in catalogue()}
    mentioned = {name for name in re.findall(r"`(\w+\.\w+)`", TEXT) if name.split(".")[0] in sections}
    assert mentioned
    assert mentioned <= known


def test_every_role_is_explained():
    rows = re.findall(r"^\| (\w+) \| ", TEXT.split("## Administrators")[1], re.MULTILINE)
    assert rows[1:] == list(Role)


def test_the_figures_are_those_of_the_program():
    assert (jwks.ASK_AGAIN_SECONDS, jwks.KEEP_SECONDS) == (10, 86_400)
    assert (keys.REFRESH_SECONDS, keys.TRUST_SECONDS) == (3, 60)
    assert f"{oidc.TOKEN_MOST_BYTES:,} bytes at most" in TEXT


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
