"""The one drain of a process, whoever asks for it first."""

from __future__ import annotations

import asyncio

from relay.registry import Registry
from relay.telemetry import Telemetry


class Drain:
    """Begins once; whoever asks again, be it a signal, finds it under way with the deadline that clients were told."""

    def __init__(self, registry: Registry, seconds: float, telemetry: Telemetry) -> None:
        self._registry = registry
        self._seconds = seconds
        self._telemetry = telemetry
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None]:
        """Admit nobody, tell clients, end what is left in time; the task is done when no session is left."""
        if self._task is None:
            self._task = asyncio.create_task(self._registry.drain(self._seconds), name="drain")
        return self._task

    def ask(self) -> int:
        """Begin on an operator's word; the number of sessions that are left."""
        if self._task is None:
            self._telemetry.drain_asked(self._seconds)
        self.begin()
        return len(self._registry.live)

    async def close(self) -> None:
        """Stop waiting; the sessions are the registry's to end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
