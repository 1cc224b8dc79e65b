"""The files of one chain of the decision log: written whole lines at a time, begun anew when full or not writable."""

from __future__ import annotations

import os
from pathlib import Path

FILE_NAME = "decisions-{chain}-{number:06d}.jsonl"


class ChainFiles:
    """Files `decisions-CHAIN-000001.jsonl` and so on, in one directory; readable by their owner alone.

    Every method may raise OSError. After a failed write nothing of it stays in the file, unless the disk refuses even
    to shorten it; the next write begins a new file.
    """

    def __init__(self, directory: Path, file_bytes: int, chain: str) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._chain = chain
        self._number = 0
        self._file: int | None = None
        self._size = 0
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
            os.ftruncate(file, self._size)
            self.close()
            raise
        self._size += len(data)
        self._unsynced.append(data)
        self._rewrite = []

    def sync(self) -> None:
        """Have the disk hold what was written.

        What a failed sync leaves of a file is unknown, and a second one would report success: the file is cut to what
        it is known to hold and closed, and the rest is written again to the next one.
        """
        if self._file is not None and self._unsynced:
            try:
                os.fsync(self._file)
            except OSError:
                self._size -= sum(map(len, self._unsynced))
                self._rewrite += self._unsynced
                self._unsynced = []
                self._give_up(self._file)
                raise
            self._unsynced = []

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            self.sync()
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        """The file to write to: the one at hand unless it is full, or was deleted from under us."""
        if self._file is not None and (self._size >= self._file_bytes or os.fstat(self._file).st_nlink == 0):
            self.close()
        if self._file is None:
            number = self._number + 1
            path = self._directory / FILE_NAME.format(chain=self._chain, number=number)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._number, self._size = number, 0
        return self._file

    def _give_up(self, file: int) -> None:
        try:
            os.ftruncate(file, self._size)
        finally:
            self._file = None
            os.close(file)
