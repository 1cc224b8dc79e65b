"""Where calls arrive: the service's ends, in this process or in another one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

from benchmarks.peer import Peer
from benchmarks.service import Service
from benchmarks.stream import Stream, own_row
from benchmarks.voice import spoken_cycle

Streams = tuple[Stream, Stream]


class Ends(Protocol):
    """The service's ends of calls, by numbers."""

    async def join(self, client: Peer) -> tuple[int, Streams]:
        """The number of the newest call, whose client is this one, and its streams to the service and back.

        Only while calls are opened one at a time is it surely the right one.
        """
        ...

    async def settle(self, numbers: Sequence[int], seconds: float) -> None:
        """Wait until the ends of closed calls are gone, and drop those that nobody hung up."""
        ...

    def talking(
        self, numbers: Sequence[int], grain: float, start: float
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Have the ends that this process does not pace itself send and listen meanwhile, beginning at `start`."""
        ...


class NearEnds:
    """Those of a service in this process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._cycle = spoken_cycle()
        self._numbers = count()
        # Calls that nobody settles keep their own ends.
        self._peers: WeakValueDictionary[int, Peer] = WeakValueDictionary()

    async def join(self, client: Peer) -> tuple[int, Streams]:
        """See `Ends`."""
        number, peer = next(self._numbers), self._service.newest()
        self._peers[number] = peer
        there, back = (client, peer), (peer, client)
        return number, (Stream(*there, self._cycle, own_row()), Stream(*back, self._cycle, own_row()))

    async def settle(self, numbers: Sequence[int], seconds: float) -> None:
        """See `Ends`."""
        peers = [peer for number in numbers if (peer := self._peers.pop(number, None)) is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(peer.closed.wait() for peer in peers))
        for peer in peers:
            await self._service.drop(peer)

    def talking(
        self, numbers: Sequence[int], grain: float, start: float
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """None: whoever paces the clients paces these too."""
        del numbers, grain, start
        return contextlib.nullcontext()
