"""What `deploy/` and the compose file say, as values; paths in containers as paths of a directory here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import Settings, catalogue, load_settings
from relay.config_sources import CONFIG_FILE_ENV

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
SHAPES = ("hostnetwork", "loadbalancer", "turn")
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
_PLACES = re.compile(r"(?<![\w/])/(?=etc/relay/|etc/relay\b|run/secrets/|var/lib/relay|var/log/relay)")


def compose(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The compose file as Docker Compose reads it with only this in the environment."""
    said = given or {}
    source = (ROOT / "docker-compose.yml").read_text("utf-8")
    text = _VARIABLE.sub(lambda found: said.get(found[1]) or found[2], source)
    assert "${" not in text, "only ${NAME:-default} is understood here"
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def require_kustomize() -> list[str]:
    """The command that builds a directory; skips where there is none."""
    if path := shutil.which("kustomize"):
        return [path, "build"]
    if path := shutil.which("kubectl"):
        return [path, "kustomize"]
    pytest.skip("neither kustomize nor kubectl is on this machine")


def kustomized(directory: Path) -> list[dict[str, Any]]:
    """The manifests that a directory stands for."""
    done = subprocess.run([*require_kustomize(), str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[dict[str, Any]], kind: str, name: str = "relay") -> dict[str, Any]:
    """The only manifest of this kind and name."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name} is there {len(found)} times"
    return found[0]


def setting_names() -> set[str]:
    """Every name in the environment that the relay takes."""
    names = {spec.env for spec in catalogue()} | {CONFIG_FILE_ENV}
    return names | {f"{spec.env}_FILE" for spec in catalogue() if spec.from_file}


@dataclass(frozen=True, slots=True)
class Container:
    """A container's environment, and its files below `root`."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def put(self, path: str, text: str) -> Path:
        """Write the file that the container has at `path`."""
        here = self.here(path)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(text, "utf-8")
        return here

    def here(self, path: str) -> Path:
        """Where that file is."""
        return self.root / path.removeprefix("/")

    def translated(self, text: str) -> str:
        """`text` with the container's directories named as they are here."""
        return _PLACES.sub(f"{self.root}/", text)

    def settings(self, file: str | None = None) -> Settings:
        """The settings as a relay there would read them."""
        environment = {name: self.translated(value) for name, value in self.environment.items()}
        if file is None:
            return load_settings(None, environment)
        path = self.here(file)
        path.write_text(self.translated(path.read_text("utf-8")), "utf-8")
        return load_settings(str(path), environment)


def walk(value: Any) -> Iterator[Any]:
    """Every value within a value."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)
