"""ARCHITECTURE.md tells the layers that the import contract holds, and the contract knows every module."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Parts of one layer that is in the contract by its first name, the entry point, and a program of its own.
APART = {"__init__", "__main__", "simulator"}


def layers() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if each["type"] == "layers"]
    return [layer.replace("relay.", "") for layer in contract["layers"]]


def test_the_page_has_the_layers_of_the_contract():
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    told = re.search(r"^Layers, downwards.*?```\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert told is not None
    assert told[1].splitlines() == layers()


def test_every_module_has_its_layer():
    placed = {name.strip() for layer in layers() for name in re.split(r"[|:]", layer)}
    modules = {
        path.stem for path in (ROOT / "relay").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {name for name in modules - APART if not name.startswith("config_")} == placed


def test_files_and_pages_that_are_named_exist():
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|c))`", page))
    assert named
    assert {name for name in named if not any((ROOT / "relay").rglob(name))} == set()


def test_links_within_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (page.parent, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    ]
    assert len(links) > len(pages)
    assert [link for folder, link in links if ":" not in link and not (folder / link).exists()] == []


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text("utf-8")
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    pages |= {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert {page for page in pages if f"]({page})" not in readme} == set()
    packages = {path.parent.name for path in (ROOT / "relay").glob("*/__init__.py")}
    assert {name for name in packages if f"`relay/{name}/`" not in readme} == set()
