"""What a worker knows of its own process."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections import deque
from pathlib import Path

from relay.load import max_files, open_files
from relay.workers.messages import Load

_LAG_INTERVAL_SECONDS = 0.1
# The last second: the main process asks every second.
_LAG_SAMPLES = 10


class ProcessFigures:
    """Watches the event loop it is made in, for as long as that runs."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lag: deque[float] = deque([0.0], maxlen=_LAG_SAMPLES)
        self._wait()

    def load(self) -> Load:
        """The figures now."""
        lag = sum(self._lag) / len(self._lag)
        return Load(time.process_time(), _resident_bytes(), lag, open_files(), max_files())

    def _wait(self) -> None:
        due = self._loop.time() + _LAG_INTERVAL_SECONDS
        self._loop.call_at(due, self._on_time, due)

    def _on_time(self, due: float) -> None:
        self._lag.append(max(0.0, self._loop.time() - due))
        self._wait()


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        # Not Linux: the most there was so far, in kilobytes or, on macOS, bytes.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
