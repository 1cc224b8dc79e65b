"""What tells one state of watched files from another: name, size, time and inode of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from relay.kill_file import KILL_FILE

_MOST_FILES = 4_096
_MOST_DIRECTORIES = 256

Signature = tuple[tuple[str, int, int, int], ...]


def signature(path: Path | None) -> Signature:
    """What tells one state of the files from another; names that begin with a dot are not policies."""
    found = []
    for place in () if path is None else _files(path):
        try:
            facts = place.stat()
        except OSError:
            found.append((str(place), 0, 0, 0))
        else:
            found.append((str(place), facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(found))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    # A mounted ConfigMap has links to directories too; the bounds are for links that lead in a circle.
    files = 0
    for count, (directory, below, names) in enumerate(os.walk(path, followlinks=True)):
        below[:] = [name for name in below if not name.startswith(".")] if count < _MOST_DIRECTORIES else []
        for name in names:
            if not name.startswith(".") and name != KILL_FILE and files < _MOST_FILES:
                files += 1
                yield Path(directory) / name
