"""The event loop that a process of the relay runs on: uvloop where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

# For files that are looked at and names that are resolved.
_THREADS = 6


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        loop = asyncio.new_event_loop()
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
