"""The second of all sessions of a process: one timer, and several sessions on each of its rings.

A timer for each session would wake an idle process once for each, and waking up costs as much as a session's second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_SLOTS = 40
_SLOT_SECONDS = 1.0 / _SLOTS
# Below this many a slot takes another one; above it the emptiest does, so that no ring holds the packets up.
_TOGETHER = 4


class Ticker:
    """Calls each of what it was given once a second, from a second after it on at the latest."""

    def __init__(self) -> None:
        self._slots: list[dict[int, Callable[[], None]]] = [{} for _ in range(_SLOTS)]
        self._slot_of: dict[int, int] = {}
        self._next_key = 0
        self._position = 0
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, tick: Callable[[], None]) -> int:
        """Call this one from now on; the key removes it."""
        self._next_key += 1
        number = self._choose()
        self._slots[number][self._next_key] = tick
        self._slot_of[self._next_key] = number
        if self._timer is None:
            self._at = asyncio.get_running_loop().time()
        self._set_timer()
        return self._next_key

    def remove(self, key: int) -> None:
        """Call it no more; of no effect for one that was removed."""
        number = self._slot_of.pop(key, None)
        if number is not None:
            del self._slots[number][key]
        if not self._slot_of and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _choose(self) -> int:
        sizes = [len(slot) for slot in self._slots]
        fullest = max((size for size in sizes if size < _TOGETHER), default=min(sizes))
        return sizes.index(fullest)

    def _set_timer(self) -> None:
        """Ring for the next slot that holds anything."""
        if self._timer is not None:
            self._timer.cancel()
        ahead = next(step for step in range(1, _SLOTS + 1) if self._slots[(self._position + step) % _SLOTS])
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._at + ahead * _SLOT_SECONDS, self._ring, ahead)

    def _ring(self, ahead: int) -> None:
        self._position = (self._position + ahead) % _SLOTS
        loop = asyncio.get_running_loop()
        # Seconds that the process slept through are not made up for.
        self._at = max(self._at + ahead * _SLOT_SECONDS, loop.time() - _SLOT_SECONDS)
        self._timer = None
        for key, tick in list(self._slots[self._position].items()):
            if key not in self._slot_of:
                continue  # removed by one before it
            try:
                tick()
            except Exception as error:  # noqa: BLE001 - a fault in one session's second must not cost others theirs
                loop.call_exception_handler({"message": "a session's tick failed", "exception": error})
        if self._slot_of:
            self._set_timer()
