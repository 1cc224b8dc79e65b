"""The event loop of a process of the relay: uvloop where it is installed, else asyncio's with a wait of our own."""

from __future__ import annotations

import asyncio
import importlib
import selectors
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

# For files that are looked at and names that are resolved.
_THREADS = 6
# How long the store's thread may keep the loop from the interpreter; Python's own 5 ms are heard in every packet.
_SWITCH_SECONDS = 0.0005


class MediaLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, in whose wait media can be served: a packet then takes no turn of the loop.

    A turn costs more than a packet's whole way through compiled code.
    """

    def __init__(self) -> None:
        self._waiting = _Waiting(self._failed)
        super().__init__(self._waiting)

    def fileno(self) -> int:
        """What is readable when anything else that the loop waits for is there."""
        return self._waiting.fileno()

    def wait_with(self, wait: Callable[[float], bool] | None) -> None:
        """Have `wait` wait: so many seconds (below 0: for ever), until `fileno()` or when it has called anybody.

        It says whether `fileno()` is readable.
        """
        self._waiting.wait = wait

    def _failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "serving media failed", "exception": error})


class _Waiting(selectors.DefaultSelector):
    def __init__(self, failed: Callable[[Exception], None]) -> None:
        super().__init__()
        self.wait: Callable[[float], bool] | None = None
        self._failed = failed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.wait is None:
            return super().select(timeout)
        try:
            if not self.wait(-1.0 if timeout is None else max(0.0, timeout)):
                return []
        except Exception as error:  # noqa: BLE001 - it would end the loop
            self._failed(error)
        return super().select(0)


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, for a process that serves: other threads let go of the interpreter soon, from now on."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        loop = MediaLoop()
    else:
        loop = uvloop.new_event_loop()
    loop.set_default_executor(_threads())
    return loop


def _threads() -> ThreadPoolExecutor:
    """As many as there will ever be: started one by one they would come while sessions run, and look like growth."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="aside")
    begun = Barrier(_THREADS)
    for _ in range(_THREADS):
        pool.submit(begun.wait)
    return pool
