"""The file that holds the kill switch: read so that whatever is wrong with it stops everybody, and never blocks."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from relay.core.kill_switch import KillSwitch, parse_kill_switch

KILL_FILE = "KILL"
KILL_FILE_BYTES = 65_536
_WRITING_SECONDS = 0.05
_EVERYBODY = KillSwitch(everybody=True)


class KillFile:
    """`KILL` in the policies' directory, or beside the one document; None: there is none to look for.

    Where that is, is decided once: a directory that is gone for a while is no reason to let anybody go on.
    """

    def __init__(self, policies: Path | None) -> None:
        self._directory = None if policies is None else policies if policies.is_dir() else policies.parent
        self._last = KillSwitch()

    def read(self) -> KillSwitch:
        """Whom it stops now; may take a moment.

        A file too large, of another kind, not readable, or a link to nothing stops everybody.
        """
        if self._directory is None:
            return self._last
        try:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return self._last
        try:
            switch = _read(directory)
            if switch.everybody and not self._last.everybody:
                # Written by a shell it is empty for a moment, and empty means everybody.
                time.sleep(_WRITING_SECONDS)
                switch = _read(directory)
        finally:
            os.close(directory)
        self._last = switch
        return switch


def _read(directory: int) -> KillSwitch:
    try:
        kind = os.lstat(KILL_FILE, dir_fd=directory).st_mode
    except FileNotFoundError:
        return KillSwitch()
    except OSError:
        return _EVERYBODY
    try:
        file = os.open(KILL_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=directory)
    except FileNotFoundError:
        return _EVERYBODY if stat.S_ISLNK(kind) else KillSwitch()  # a link to nothing, or deleted just now
    except OSError:
        return _EVERYBODY
    try:
        data = _data(file)
    except OSError:
        return _EVERYBODY
    finally:
        os.close(file)
    return _EVERYBODY if data is None else parse_kill_switch(data.decode("utf-8-sig", "replace"))


def _data(file: int) -> bytes | None:
    """What is in the file; None if it is no plain file, or too large."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return None
    data = b""
    while len(data) <= KILL_FILE_BYTES and (more := os.read(file, KILL_FILE_BYTES + 1 - len(data))):
        data += more
    return data if len(data) <= KILL_FILE_BYTES else None
