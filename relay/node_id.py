"""The name of this relay among those that share a store; it outlives a restart, if the relay has a state directory."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from relay.errors import ConfigError

FILE_NAME = "node"
_ID = re.compile(r"[0-9a-f]{32}")


def node_id(directory: Path | None) -> str:
    """The id in the directory's file, which is written if there is none; a new one each time without a directory.

    The directory must be this relay's alone by then. Raises ConfigError if the file cannot be read or written.
    """
    fresh = secrets.token_hex(16)
    if directory is None:
        return fresh
    path = directory / FILE_NAME
    try:
        if path.exists():
            known = path.read_text("ascii", errors="replace").strip()
            if _ID.fullmatch(known):
                return known
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whole or not at all, also if the machine stops in between.
        written = path.with_suffix(".new")
        written.write_text(f"{fresh}\n", "ascii")
        written.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read or written: {error.strerror or error}") from None
    return fresh
