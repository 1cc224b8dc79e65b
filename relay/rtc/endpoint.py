"""The public UDP port: every downstream leg behind one socket."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from relay.core.rtp import MAX_DATAGRAM, DatagramKind, DropCause, classify
from relay.core.stun import Address, parse_binding_request
from relay.rtc.ice_lite import IceLiteAgent, Inlets
from relay.rtc.udp import UdpSocket

# How long a silent session keeps an address against another session's claim to it.
_HELD_SECONDS = 15.0
_READS_PER_WAKE = 16


class Endpoint:
    """One UDP port for all downstream legs: datagrams find their leg by ICE ufrag first, by proven address after.

    `dropped` counts what nobody took, by cause. Raises OSError when the port cannot be bound.
    """

    def __init__(self, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped: Counter[DropCause] = Counter()
        self._clock = clock
        self._by_ufrag: dict[str, IceLiteAgent] = {}
        self._by_address: dict[Address, IceLiteAgent] = {}
        self._socket = UdpSocket(host, port, self.on_datagram, self.dropped, _READS_PER_WAKE)
        self.send = self._socket.send

    @property
    def port(self) -> int:
        """The local port."""
        return self._socket.port

    def add_agent(self, ufrag: str, pwd: str, remote_ufrag: str, inlets: Inlets) -> IceLiteAgent:
        """Create the ICE end of a new leg, reachable from now on."""
        agent = self._by_ufrag[ufrag] = IceLiteAgent(self, ufrag, pwd, remote_ufrag, inlets)
        return agent

    def remove_agent(self, agent: IceLiteAgent) -> None:
        """Forget a leg; later datagrams for it are a stranger's."""
        self._by_ufrag.pop(agent.ufrag, None)
        agent.close()

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        """Judge one datagram by length, first byte and source, and hand it to its leg."""
        if not datagram:
            self.dropped[DropCause.EMPTY] += 1
            return
        if len(datagram) > MAX_DATAGRAM:
            self.dropped[DropCause.OVERSIZED] += 1
            return
        kind = classify(datagram)
        if kind is DatagramKind.STUN:
            self._on_stun(datagram, address)
            return
        agent = self._by_address.get(address)
        if agent is None:
            self.dropped[DropCause.STRANGER] += 1
        elif kind is DatagramKind.RTP:
            agent.inlets.rtp(datagram)
        elif kind is DatagramKind.DTLS:
            agent.inlets.dtls(datagram)
        elif kind is DatagramKind.RTCP:
            agent.inlets.rtcp(datagram)
        else:
            self.dropped[DropCause.UNRECOGNISED] += 1

    def claim(self, address: Address, agent: IceLiteAgent, now: float) -> bool:
        """Route an address to an agent that authenticated a check from it.

        A living session keeps its address: a check with a forged source must not steal another session's datagrams.
        """
        owner = self._by_address.get(address)
        if owner is not None and owner is not agent:
            if now - owner.last_check < _HELD_SECONDS:
                return False
            owner.forget(address)
        self._by_address[address] = agent
        return True

    def release(self, address: Address, agent: IceLiteAgent) -> None:
        """Give up an address, if this agent holds it."""
        if self._by_address.get(address) is agent:
            del self._by_address[address]

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        self.dropped[cause] += 1

    def close(self) -> None:
        """Free the port."""
        self._socket.close()

    def _on_stun(self, datagram: bytes, address: Address) -> None:
        request = parse_binding_request(datagram)
        if request is None:
            self.dropped[DropCause.STUN_MALFORMED] += 1
            return
        agent = self._by_ufrag.get(request.local_ufrag)
        if agent is None:
            self.dropped[DropCause.STUN_UNKNOWN_SESSION] += 1
            return
        agent.on_check(datagram, request, address, self._clock())
