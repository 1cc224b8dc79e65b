"""What deploy/coturn and the docs say can be used as it stands."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from support.coturn import SHIPPED

from relay.api.door_names import Door, door_of
from relay.config import load_settings

ROOT = Path(__file__).parents[2]


def test_the_settings_in_the_readme_load(tmp_path):
    text = (SHIPPED.parent / "README.md").read_text("utf-8")
    found = textwrap.dedent(re.search(r"^ *```yaml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)[1])
    secret = tmp_path / "turn"
    secret.write_text("0123456789abcdef0123456789abcdef")
    settings = tmp_path / "relay.yaml"
    settings.write_text(found.replace("/run/secrets/turn", str(secret)))
    turn = load_settings(str(settings), {}).turn
    assert [str(each) for each in turn.urls] == re.findall(r"- (turns?:\S+)", found)
    served = SHIPPED.read_text("utf-8")
    for url in turn.urls:
        name = "tls-listening-port" if url.scheme == "turns" else "listening-port"
        assert re.search(rf"^{name}={url.port}$", served, re.MULTILINE), url


def test_every_door_is_in_the_table_of_doors():
    text = (ROOT / "docs" / "doors.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (`/.*?) \|", text, re.MULTILINE))
    assert set(listed) == set(Door) - {Door.OTHER}
    for door, cell in listed.items():
        for path in re.findall(r"`(/[^`?]*)", cell):
            assert door_of(path.replace("{id}", "rs_1")) == door
