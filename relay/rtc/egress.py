"""The ways out to the service: UDP at once, TCP and TURN when UDP has not answered within a moment.

A healthy network answers the first UDP check in a fraction of the head start, and then no connection and no allocation
is made for nothing; where UDP is blocked, a session begins that much later, once.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import count

from relay.config import EgressSettings
from relay.core.ice_check_pairs import Way, WayKind
from relay.core.rtp import DropCause
from relay.core.sdp import Candidate
from relay.core.stun import Address
from relay.rtc.egress_line import Feed, Line, WayOwner, local_ports
from relay.rtc.egress_tcp import open_tcp
from relay.rtc.egress_turn import open_turn
from relay.rtc.packet import VIEW
from relay.rtc.udp import UdpSocket

_HEAD_START_SECONDS = 0.3
_OPEN_SECONDS = 10.0
# TCP connections begun for one leg; the service lists one to three.
_MAX_TCP = 8
_IPV4, _IPV6 = 4, 6
_WILDCARD = {_IPV4: "0.0.0.0", _IPV6: "::"}  # noqa: S104 - the kernel picks the source address by its routes


@dataclass(frozen=True, slots=True)
class _Opening:
    """A way that takes time to open, and where it leads."""

    kind: WayKind
    where: str
    run: Callable[[], Awaitable[None]]


class Egress:
    """Opens ways for one upstream leg and closes them. `problems` says, for people, why a way is not there."""

    def __init__(self, settings: EgressSettings, owner: WayOwner, dropped: Counter[DropCause]) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._owner = owner
        self._dropped = dropped
        self._numbers = count(1)
        self._lines: dict[int, Line] = {}
        self._pending: Counter[WayKind] = Counter()
        self._opening: asyncio.Task[None] | None = None
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def expected(self) -> frozenset[WayKind]:
        """The kinds of way that may still be opened."""
        return frozenset(self._pending)

    def open(self, candidates: tuple[Candidate, ...]) -> None:
        """Open every way that can lead to one of the candidates: sockets now, the others in the background."""
        settings = self._settings
        udp = [each for each in candidates if each.transport == "udp"]
        tcp = [each for each in candidates if each.transport == "tcp" and each.tcp_type == "passive"]
        openings: list[_Opening] = []
        if settings.tcp:
            tcp.sort(key=lambda each: -each.priority)
            openings += [
                _Opening(WayKind.TCP, f"{each.host} port {each.port}", partial(self._open_tcp, each))
                for each in tcp[:_MAX_TCP]
            ]
        if settings.turn_url is not None and udp:
            openings.append(_Opening(WayKind.RELAY, str(settings.turn_url), partial(self._open_turn, udp)))
        self._pending.update(each.kind for each in openings)
        if settings.udp:
            for version in sorted({_IPV6 if ":" in each.host else _IPV4 for each in udp}):
                self._open_udp(version)
        if openings:
            delay = _HEAD_START_SECONDS if self._lines else 0.0
            self._opening = asyncio.create_task(self._open_rest(openings, delay), name="upstream-ways")

    def keep(self, number: int) -> Line:
        """Close every way but one, and open no more."""
        self._stop_opening()
        for other in [each for each in self._lines if each != number]:
            self.forget(other)
        return self._lines[number]

    def forget(self, number: int) -> None:
        """Close one way."""
        line = self._lines.pop(number, None)
        if line is not None:
            line.close()

    async def close(self) -> None:
        """Close every way, and wait until nothing of it is left."""
        self._stop_opening()
        for number in list(self._lines):
            self.forget(number)
        tasks = [*self._farewells] if self._opening is None else [*self._farewells, self._opening]
        await asyncio.gather(*tasks, return_exceptions=True)
        # What it was interrupted in knows us.
        self._opening = None

    def _stop_opening(self) -> None:
        self._pending.clear()
        if self._opening is not None:
            self._opening.cancel()

    async def _open_rest(self, openings: list[_Opening], delay: float) -> None:
        await asyncio.sleep(delay)
        await asyncio.gather(*(self._try(each) for each in openings))

    async def _try(self, opening: _Opening) -> None:
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await opening.run()
        except TimeoutError:
            self.problems.append(f"{opening.kind} {opening.where}: not open after {_OPEN_SECONDS:g} s")
        except OSError as error:
            self.problems.append(f"{opening.kind} {opening.where}: {error.strerror or error}")
        self._pending[opening.kind] -= 1
        self._pending += Counter()  # drops what has come to 0
        self._owner.on_settled()

    def _open_udp(self, version: int) -> None:
        feed = self._feed()
        try:
            line = self._bind(_WILDCARD[version], feed)
        except OSError as error:
            # A family this machine does not have is one way less, not the end.
            self.problems.append(f"{WayKind.UDP}: {error}")
            return
        self._opened(Way(feed.number, WayKind.UDP, version), line)

    def _bind(self, host: str, feed: Feed) -> UdpSocket:
        """Bind a port of the range, beginning anywhere in it, or any port. Raises OSError."""
        number, owner = feed.number, self._owner

        def take(size: int, address: Address) -> None:
            owner.on_datagram(number, bytes(VIEW[:size]), address)

        for port in local_ports(self._settings.udp_ports):
            try:
                return UdpSocket(host, port, take, self._dropped)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, f"every port of {self._settings.udp_ports} (egress.udp_ports) is in use")

    async def _open_tcp(self, candidate: Candidate) -> None:
        feed, address = self._feed(), (candidate.host, candidate.port)
        line = await open_tcp(address, feed, self._settings.proxy)
        version = _IPV6 if ":" in candidate.host else _IPV4
        self._opened(Way(feed.number, WayKind.TCP, version, address), line)

    async def _open_turn(self, candidates: list[Candidate]) -> None:
        feed = self._feed()
        line = await open_turn(self._settings, [(each.host, each.port) for each in candidates], feed, self._see_off)
        self._opened(Way(feed.number, WayKind.RELAY, line.version), line)

    def _feed(self) -> Feed:
        return Feed(next(self._numbers), self._owner, self._dropped)

    def _opened(self, way: Way, line: Line) -> None:
        self._lines[way.number] = line
        self._owner.on_opened(way, line)

    def _see_off(self, farewell: Coroutine[None, None, None]) -> None:
        """Let a line say goodbye in its own time; `close` waits for it."""
        task = asyncio.create_task(farewell, name="upstream-farewell")
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
