"""Calls that the service accepted and that are not hung up yet: in memory and, so that a restart finds them, in a file.

`calls.jsonl` in the state directory: a line `{"call", "service", "at", "member"}` for a call accepted, `{"over"}` for
one that is over; an append each, written anew when most of it is over. It is not synced to the disk: written lines
outlive the relay's death, and what a power cut takes along is ended by the service, which hears nothing from this
machine any more.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from relay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "calls.jsonl"
LOCK_NAME = "relay.lock"
MOST_CALLS = 100_000
MOST_BYTES = 67_108_864
# Lines about calls that are over which may stand in the file before it is written anew.
_SPARE_LINES = 512
# It goes into a URL.
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class KeptCall:
    """A call to be hung up: its id, the base URL of its service, when it was accepted (Unix seconds).

    `member` is whose credential it was made with; empty where an older relay wrote it down.
    """

    call: str
    service: str
    at: float
    member: str = ""


class KeptCalls:
    """Every call not hung up. With `directory` None they are kept in memory only.

    The directory is made if it is not there, and belongs to one relay at a time. Raises ConfigError if it cannot be
    used. Above MOST_CALLS the oldest is forgotten. `unreadable` counts lines that made no sense when the file was read;
    the last one is incomplete after some crashes, and no fault.
    """

    def __init__(self, directory: Path | None) -> None:
        self.calls: dict[str, KeptCall] = {}
        self.unreadable = 0
        self._directory = directory
        self._lock: int | None = None
        self._file: int | None = None
        self._lines = 0
        if directory is None:
            return
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(directory / LOCK_NAME)
            self._read(directory / FILE_NAME)
            self._rewrite(directory)
        except OSError as error:
            self.close()
            raise ConfigError(f"state.directory {directory} cannot be used: {error.strerror or error}") from None

    @property
    def lasting(self) -> bool:
        """Whether they outlive the relay."""
        return self._directory is not None

    def add(self, call: KeptCall) -> None:
        """Keep a call. Raises OSError if the file cannot be written; then the next change writes all of it."""
        self.calls[call.call] = call
        if len(self.calls) > MOST_CALLS:
            del self.calls[next(iter(self.calls))]
        self._append(asdict(call))

    def remove(self, call_id: str) -> None:
        """Forget a call that is over. Raises OSError as `add` does."""
        if self.calls.pop(call_id, None) is not None:
            self._append({"over": call_id})

    def close(self) -> None:
        """Close the file and let another relay have the directory; may be called twice."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None
        self._directory = None

    def _append(self, record: dict[str, Any]) -> None:
        if self._directory is None:
            return
        if self._file is None or self._lines > 2 * len(self.calls) + _SPARE_LINES:
            self._rewrite(self._directory)
            return
        try:
            _write(self._file, _line(record))
        except OSError:
            self._drop_file()  # it may end in half a line
            raise
        self._lines += 1

    def _rewrite(self, directory: Path) -> None:
        self._drop_file()
        fresh = directory / f"{FILE_NAME}.new"
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _write(file, b"".join(_line(asdict(call)) for call in self.calls.values()))
            fresh.replace(directory / FILE_NAME)
        except OSError:
            os.close(file)
            raise
        self._file, self._lines = file, len(self.calls)

    def _drop_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, path: Path) -> None:
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        with os.fdopen(file, "rb") as opened:
            data = opened.read(MOST_BYTES)
        # What stands behind the last line end was cut off by a crash.
        for line in data.split(b"\n")[:-1]:
            if not self._take(line):
                self.unreadable += 1

    def _take(self, line: bytes) -> bool:
        try:
            match read := json.loads(line):
                case {"over": str(over)}:
                    self.calls.pop(over, None)
                case {"call": str(call), "service": str(service), "at": float() | int() as at} if _CALL_ID.fullmatch(
                    call
                ) and math.isfinite(at):
                    self.calls[call] = KeptCall(call, service, float(at), _text(read.get("member")))
                case _:
                    return False
        except (ValueError, OverflowError, RecursionError):
            return False
        return len(self.calls) <= MOST_CALLS


def _locked(path: Path) -> int:
    """Lock by record (fcntl), which no child process inherits: a child that survives keeps nobody from starting."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(file)
        raise OSError("another relay uses it; each needs a directory of its own") from None
    except OSError:
        os.close(file)
        raise
    return file


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
