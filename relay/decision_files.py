"""The files of one chain of the decision log: written whole lines at a time, begun anew when full or not writable."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

FILE_NAME = "decisions-{chain}-{number:06d}.jsonl"


class ChainFiles:
    """Files `decisions-CHAIN-000001.jsonl` and so on, in one directory; readable by their owner alone.

    Every method may raise OSError. After a failed write nothing of it stays in the file, unless the disk refuses even
    to shorten it; the next write begins a new file. A file left without a line is removed, and its number used again.
    """

    def __init__(self, directory: Path, file_bytes: int, chain: str) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._chain = chain
        self._number = 0
        self._file: int | None = None
        self._size = 0  # without what is doubtful
        self._unsynced: list[bytes] = []
        self._rewrite: list[bytes] = []

    @property
    def doubtful(self) -> bool:
        """Whether there are lines that must be written again."""
        return bool(self._rewrite)

    def write(self, lines: list[bytes]) -> None:
        """Append the lines, all of them or none, after those that a failed sync made doubtful."""
        file = self._open()
        data = b"".join([*self._rewrite, *lines])
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
            self._leave(file)
            raise
        self._size += len(data)
        self._unsynced.append(data)
        self._rewrite = []

    def sync(self) -> None:
        """Have the disk hold what was written.

        What a failed sync leaves of a file is unknown, and a second one would report success: the next write cuts the
        file to what it is known to hold, and writes the rest again to a new one. Until then the lines stay where they
        are: should the process die, they may well be readable.
        """
        if self._file is not None and self._unsynced:
            try:
                os.fsync(self._file)
            except OSError:
                self._size -= sum(map(len, self._unsynced))
                self._rewrite += self._unsynced
                self._unsynced = []
                raise
            self._unsynced = []

    def close(self) -> None:
        """Sync and close the file, for the last time."""
        try:
            self.sync()
        finally:
            if self._file is not None:
                file, self._file = self._file, None
                os.close(file)

    def _open(self) -> int:
        """The file to write to: the one at hand unless it is in doubt or full, or was deleted from under us."""
        if self._file is not None and (
            self._rewrite or self._size >= self._file_bytes or os.fstat(self._file).st_nlink == 0
        ):
            self._leave(self._file)
        if self._file is None:
            number = self._number + 1
            self._file = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._number, self._size = number, 0
        return self._file

    def _leave(self, file: int) -> None:
        """Sync the file, cut off what is doubtful and close it; if the sync fails, the next write comes here again."""
        self.sync()
        self._file = None
        try:
            if self._rewrite:
                os.ftruncate(file, self._size)
        finally:
            if not self._size:
                self._remove()
            os.close(file)

    def _remove(self) -> None:
        """Remove the last file, which holds nothing, and free its number; one that cannot be removed keeps it."""
        with contextlib.suppress(OSError):
            self._path(self._number).unlink(missing_ok=True)
            self._number -= 1

    def _path(self, number: int) -> Path:
        return self._directory / FILE_NAME.format(chain=self._chain, number=number)
