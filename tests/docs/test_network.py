"""What the pages on the network and the doctor say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relay.config import catalogue, load_settings
from relay.doctor.checks import CheckName, Status

ROOT = Path(__file__).resolve().parents[2]
NETWORK = (ROOT / "docs" / "network.md").read_text("utf-8")
DOCTOR = (ROOT / "docs" / "reference" / "doctor.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", NETWORK, re.MULTILINE | re.DOTALL)


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading, its head and rule left out."""
    after = text.split(f"\n{heading}\n", 1)[1]
    lines = [line for line in after.splitlines() if line.startswith("|")]
    first = after.splitlines().index(lines[0])
    rows = []
    for line in after.splitlines()[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_every_check_of_the_doctor_is_explained_and_every_explained_check_exists():
    rows = table(DOCTOR, "## Checks")
    assert [row[0].strip("`") for row in rows] == list(CheckName)
    assert all(len(row) == 3 and all(row) for row in rows)


def test_every_status_is_explained():
    assert set(re.findall(r"^\| . \| `(\w+)` \|", DOCTOR, re.MULTILINE)) == set(Status)


def test_the_ports_are_the_defaults():
    defaults = {spec.name: spec.default for spec in catalogue()}
    named = [match for row in table(NETWORK, "## Ports") for match in re.findall(r"(\d+) `(\w+\.\w+)`", row[3])]
    assert {name for _, name in named} == {"http.port", "ice.udp_port", "ice.tcp_port", "admin.port"}
    for number, name in named:
        assert defaults[name] == int(number), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_loads(example, tmp_path):
    (tmp_path / "secret").write_text("http://user:password@proxy.example.com:3128\n")
    path = tmp_path / "relay.yaml"
    path.write_text(re.sub(r"/run/secrets/[\w-]+", str(tmp_path / "secret"), example))
    settings = load_settings(str(path), {})
    assert {name.split(".")[0] for name in settings.origins} == set(yaml.safe_load(example))


def test_every_setting_that_is_mentioned_exists():
    sections = {spec.section for spec in catalogue()}
    known = {spec.name for spec in catalogue()}
    for text in (NETWORK, DOCTOR):
        mentioned = {name for name in re.findall(r"`(\w+\.\w+)(?:: [^`]*)?`", text) if name.split(".")[0] in sections}
        assert mentioned
        assert mentioned <= known


def test_links_within_the_pages_lead_somewhere():
    for place, text in (("docs", NETWORK), ("docs/reference", DOCTOR)):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (ROOT / place / target).exists(), target
    headings = {
        re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-")
        for each in re.findall(r"^#+ (.*)$", NETWORK, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", NETWORK)) <= headings
