"""`relay` with a spy in its process: on SIGUSR2 it tells what only the process itself can see. `soak` runs it.

The answer is one datagram of JSON to the socket named in the environment: tasks, live objects by class, and by how much
the event loop was late at the worst since the last time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections import Counter
from types import FrameType

from relay.cli import main

PROBE_ENV = "BENCH_PROBE"
_WATCHED = ("relay", "aiortc", "aioice")
_LOOK_SECONDS = 0.05


class Spy:
    """Answers signals; watches the event loop from the first one on."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._lag = 0.0
        self._answers = 0
        self._watching: asyncio.Task[None] | None = None

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Answer. The signal comes in the event loop's thread, between two steps of whatever runs."""
        loop = asyncio.get_running_loop()
        if self._watching is None:
            self._watching = loop.create_task(self._watch())
        lag, tasks = self._lag, len(asyncio.all_tasks(loop))
        self._lag = 0.0
        self._answers += 1
        gc.collect()
        objects = Counter(
            f"{kind.__module__}.{kind.__qualname__}"
            for kind in map(type, gc.get_objects())
            # A class's module may be a descriptor, where its metaclass has one of its own.
            if str(kind.__module__).partition(".")[0] in _WATCHED
        )
        answer = {"tasks": tasks, "loop_lag_ms": lag * 1e3, "objects": objects}
        self._socket.sendto(json.dumps(answer).encode(), self._address)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, answers = loop.time() + _LOOK_SECONDS, self._answers
            await asyncio.sleep(_LOOK_SECONDS)
            # Looking at all objects takes a while itself, and is not the relay's.
            if answers == self._answers:
                self._lag = max(self._lag, loop.time() - due)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, Spy(os.environ[PROBE_ENV]).on_signal)
    sys.exit(main(sys.argv[1:]))
