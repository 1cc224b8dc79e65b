"""What a relay does for ever beside its sessions: begun once, told of and begun again when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

_AGAIN_SECONDS = 1.0


class Warns(Protocol):
    """Who is told of a failure."""

    def warn(self, event: str, **fields: object) -> None:
        """Write a warning."""
        ...


async def lasting(
    name: str, watch: Callable[[], Awaitable[object]], told: Warns, pause: float = _AGAIN_SECONDS
) -> NoReturn:
    """Run a watch; whatever it dies of is logged, and `pause` seconds later it runs again.

    Without this a watch that died would be missed by nobody until what it feeds is stale: admission, for one, refuses
    everybody once no sample of the load comes in.
    """
    while True:
        try:
            await watch()
        except Exception as error:  # noqa: BLE001 - whatever it is, the relay goes on and says so
            told.warn("watch_failed", watch=name, error=type(error).__name__)
        await asyncio.sleep(pause)
