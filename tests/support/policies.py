"""Policy documents on a disk, as administrators and Kubernetes put them there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

TEXT = "CANARY-7f3a. You are Contoso's assistant. Never give legal advice."


def document(name: str = "base", text: str = TEXT, *, match: Any = None, **spec: Any) -> str:
    """A document as a file holds it; JSON is YAML."""
    whole = {
        "apiVersion": "relay/v1",
        "kind": "SessionPolicy",
        "metadata": {"name": name},
        "spec": {"match": match or {"default": True}, "instructions": {"text": text}, **spec},
    }
    return json.dumps(whole, indent=1)


def put(directory: Path, **documents: str) -> Path:
    """Write documents, each file replaced in one step."""
    directory.mkdir(exist_ok=True)
    for name, text in documents.items():
        fresh = directory / f".{name}.new"
        fresh.write_text(text)
        fresh.replace(directory / f"{name}.yaml")
    return directory


class ConfigMap:
    """A mounted ConfigMap: files are links into `..data`, itself a link to a version, which is swapped (kubelet)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._version = 0
        directory.mkdir()

    def update(self, **documents: str) -> None:
        self._version += 1
        version = self.directory / f"..2026_11_20_{self._version}"
        version.mkdir()
        for name, text in documents.items():
            (version / f"{name}.yaml").write_text(text)
        fresh = self.directory / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.directory / "..data")
        for name in documents:
            link = self.directory / f"{name}.yaml"
            if not os.path.lexists(link):
                link.symlink_to(f"..data/{name}.yaml")
