"""Our end of ICE towards the service: the controlling agent of `core/ice_check`, over the ways that `egress` opens.

Every upstream leg has a local port of its own: the service answers all sessions from one address and port, so a shared
one could not tell them apart. Once a pair is nominated its way leads to that address alone, and the others are closed.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections import Counter
from collections.abc import Callable

from relay.config import EgressSettings
from relay.core.ice_check import ControllingAgent
from relay.core.ice_check_pairs import CheckTimes, IceParameters, Way, WayKind
from relay.core.rtp import DTLS, MAX_DATAGRAM, RTCP, RTP, STUN, DropCause, classify
from relay.core.sdp import RemoteDescription
from relay.core.stun import Address
from relay.rtc.egress import Egress
from relay.rtc.egress_line import Line
from relay.rtc.ice_lite import Inlets
from relay.rtc.packet import Datagram
from relay.rtc.udp import UdpSocket

# DTLS datagrams of one flight that may come before a pair is selected.
_EARLY_DATAGRAMS = 8
# Reasons that are told when nothing works: a service may list many candidates.
_TOLD_REASONS = 6
_RANDOM = secrets.SystemRandom()


class UpstreamIce:
    """The ICE end of one upstream leg. `on_lost` is called once if the peer stops answering consent checks.

    `egress` says which ways may be tried, `times` how the checks go.
    """

    def __init__(
        self,
        ufrag: str,
        pwd: str,
        inlets: Inlets,
        dropped: Counter[DropCause],
        on_lost: Callable[[], None],
        *,
        egress: EgressSettings | None = None,
        times: CheckTimes | None = None,
    ) -> None:
        self._local = IceParameters(ufrag, pwd)
        self._inlets = inlets
        self._dropped = dropped
        self._on_lost = on_lost
        self._times = times or CheckTimes()
        self._egress = Egress(egress or EgressSettings(), weakref.proxy(self), dropped)
        self._loop = asyncio.get_running_loop()
        self._decided: asyncio.Future[None] = self._loop.create_future()
        self._agent: ControllingAgent | None = None
        self._lines: dict[int, Line] = {}
        self._send: Callable[[Datagram], bool] | None = None
        self._remote: Address | None = None
        self._early: list[tuple[bytes, int, Address]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self.transport: WayKind | None = None
        # Of the UDP socket in use; None for other ways.
        self.fileno: int | None = None

    async def connect(self, remote: RemoteDescription) -> None:
        """Find a working pair; raises ConnectionError if there is none. The deadline is the caller's."""
        peer = IceParameters(remote.ufrag, remote.pwd, remote.ice_lite)
        self._agent = ControllingAgent(
            self._local, peer, remote.candidates, self._send_check, _RANDOM, self._loop.time(), self._times
        )
        self._egress.open(remote.candidates)
        self.on_settled()
        await self._decided

    def send(self, datagram: Datagram) -> bool:
        """Send to the selected pair; False before there is one."""
        return self._send is not None and self._send(datagram)

    def on_datagram(self, number: int, datagram: bytes, address: Address) -> None:
        """Judge one datagram by length, first byte and source, and hand it on."""
        if not datagram or len(datagram) > MAX_DATAGRAM:
            self._dropped[DropCause.OVERSIZED if datagram else DropCause.EMPTY] += 1
            return
        kind = classify(datagram)
        if kind is STUN:
            self._on_stun(number, datagram, address)
        elif self._remote is None and kind is DTLS and self._may_be_early(number, address):
            self._early.append((datagram, number, address[:2]))
        elif address[:2] != self._remote:
            self._dropped[DropCause.STRANGER] += 1
        elif kind is RTP:
            self._inlets.rtp(datagram)
        elif kind is DTLS:
            self._inlets.dtls(datagram)
        elif kind is RTCP:
            self._inlets.rtcp(datagram)
        else:
            self._dropped[DropCause.UNRECOGNISED] += 1

    async def close(self) -> None:
        """Stop every check and free every way."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._decided.cancel()
        self._send = None
        await self._egress.close()
        self._agent = None
        self._lines.clear()

    # --- WayOwner ----------------------------------------------------------------------------------------------------

    def on_opened(self, way: Way, line: Line) -> None:
        """Check every candidate that a new way reaches."""
        if self._agent is not None and not self._over:
            self._lines[way.number] = line
            self._agent.add_way(way, self._loop.time())
            self._follow()

    def on_broken(self, number: int) -> None:
        """Give a way up; with the selected one, the service is lost."""
        self._lines.pop(number, None)
        self._egress.forget(number)
        if self._agent is not None and not self._over:
            self._agent.remove_way(number, self._loop.time())
            self._follow()

    def on_settled(self) -> None:
        """Look whether any way is left."""
        if self._agent is not None and not self._over:
            self._agent.expect(self._egress.expected, self._loop.time())
            self._follow()

    # --- the agent ---------------------------------------------------------------------------------------------------

    def _send_check(self, number: int, datagram: bytes, address: Address) -> None:
        line = self._lines.get(number)
        if line is not None:
            line.send(datagram, address)

    def _on_stun(self, number: int, datagram: bytes, address: Address) -> None:
        if self._agent is None or self._over:
            return
        cause = self._agent.on_stun(number, datagram, address[:2], self._loop.time())
        if cause is not None:
            self._dropped[cause] += 1
        self._follow()

    def _on_timer(self) -> None:
        if self._agent is not None:
            self._agent.on_timer(self._loop.time())
            self._follow()

    def _follow(self) -> None:
        """Do what the agent has decided, and wake it when it wants."""
        agent = self._agent
        if agent is None or self._over:
            return
        if agent.selected is not None and self._send is None:
            self._select(agent.selected.way, agent.selected.address)
        elif agent.failed and not self._decided.done():
            self._decided.set_exception(ConnectionError(self._why()))
        if agent.lost:
            self._over = True
            self._on_lost()
            return
        if self._timer is not None:
            self._timer.cancel()
        at = agent.next_at
        self._timer = None if at is None else self._loop.call_at(at, self._on_timer)

    def _select(self, way: Way, address: Address) -> None:
        line = self._egress.keep(way.number)
        self._lines = {way.number: line}
        self._send = line.connect(address, self._inlets.forwarder)
        self._inlets.route(self._send)
        self._remote = address
        self.transport = way.kind
        self.fileno = line.fileno if isinstance(line, UdpSocket) else None
        # The service may begin DTLS before the answer to our check is here; a ClientHello lost costs a second.
        early, self._early = self._early, []
        for datagram, number, source in early:
            if (number, source) == (way.number, address):
                self._inlets.dtls(datagram)
            else:
                self._dropped[DropCause.STRANGER] += 1
        if not self._decided.done():
            self._decided.set_result(None)

    def _may_be_early(self, number: int, address: Address) -> bool:
        agent = self._agent
        return agent is not None and agent.knows(number, address[:2]) and len(self._early) < _EARLY_DATAGRAMS

    def _why(self) -> str:
        reasons = [*self._egress.problems]
        if self._agent is not None:
            reasons += [f"{each} does not answer" for each in self._agent.unanswered]
        return "no way to the service works: " + ("; ".join(reasons[:_TOLD_REASONS]) or "it listed no usable candidate")
