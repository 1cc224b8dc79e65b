"""The public media port: every downstream leg behind it, whatever carries its datagrams."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable

from relay.core.rtp import MAX_DATAGRAM, DatagramKind, DropCause, classify, is_rtp
from relay.core.stun import Address, parse_binding_request
from relay.rtc.ice_lite import IceLiteAgent, Inlets
from relay.rtc.packet import DATA, VIEW
from relay.rtc.path import Path, Transport
from relay.rtc.udp import UdpSocket

# How long a silent session keeps a path against another session's claim to it.
_HELD_SECONDS = 15.0
_READS_PER_WAKE = 16
# Everybody's datagrams wait here while the loop is busy, strangers' among them; the system may grant less (rmem_max).
_BUFFER_BYTES = 1 << 22
_PORT_TRIES = 8


class Endpoint:
    """One UDP port, on one socket for each of `hosts`; TCP connections join with `on_datagram` and `lost`.

    Datagrams find their leg by ICE ufrag first, by proven path after. `dropped` counts what nobody took, by cause.
    Raises OSError when the port cannot be bound on every host.
    """

    def __init__(self, hosts: tuple[str, ...], port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped: Counter[DropCause] = Counter()
        self._clock = clock
        self._by_ufrag: dict[str, IceLiteAgent] = {}
        self._inlets = self._bound(hosts, port)

    @property
    def port(self) -> int:
        """The local UDP port, the same on every host."""
        return self._inlets[0].socket.port

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """What is bound, as `(host, port)`."""
        return tuple((each.host, self.port) for each in self._inlets)

    def add_agent(self, inlets: Inlets, remote_ufrag: str) -> IceLiteAgent:
        """Create the ICE end of a new leg, reachable from now on."""
        return IceLiteAgent(self, inlets, remote_ufrag)

    def listen_for(self, ufrag: str, agent: IceLiteAgent) -> None:
        """Hand checks that name `ufrag` to an agent."""
        self._by_ufrag[ufrag] = agent

    def forget(self, ufrag: str) -> None:
        """Later checks that name `ufrag` are a stranger's."""
        self._by_ufrag.pop(ufrag, None)

    def on_datagram(self, datagram: bytes, path: Path) -> None:
        """Judge one datagram by length, first byte and path, and hand it to its leg."""
        if not datagram:
            self.dropped[DropCause.EMPTY] += 1
            return
        if len(datagram) > MAX_DATAGRAM:
            self.dropped[DropCause.OVERSIZED] += 1
            return
        kind = classify(datagram)
        if kind is DatagramKind.STUN:
            self._on_stun(datagram, path)
            return
        agent = path.owner
        if agent is None:
            self.dropped[DropCause.STRANGER] += 1
        elif kind is DatagramKind.RTP:
            if agent.inlets.rtp(datagram) and agent.selected is not path:
                agent.on_media(path)
        elif kind is DatagramKind.DTLS:
            agent.inlets.dtls(datagram)
        elif kind is DatagramKind.RTCP:
            agent.inlets.rtcp(datagram)
        else:
            self.dropped[DropCause.UNRECOGNISED] += 1

    def claim(self, path: Path, agent: IceLiteAgent, now: float) -> bool:
        """Give a path to an agent that authenticated a check on it.

        A living session keeps its path: a check with a forged source must not steal another session's datagrams.
        """
        owner = path.owner
        if owner is not None and owner is not agent:
            if now - owner.last_check < _HELD_SECONDS:
                return False
            owner.lose(path)
        path.owner = agent
        path.on_owned(path)
        return True

    def lost(self, path: Path) -> None:
        """A connection is gone, and with it its path."""
        if path.owner is not None:
            path.owner.lose(path)
            path.owner = None

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        self.dropped[cause] += 1

    def close(self) -> None:
        """Free the port."""
        for inlet in self._inlets:
            inlet.socket.close()

    def _on_stun(self, datagram: bytes, path: Path) -> None:
        request = parse_binding_request(datagram)
        if request is None:
            self.dropped[DropCause.STUN_MALFORMED] += 1
            return
        agent = self._by_ufrag.get(request.local_ufrag)
        if agent is None:
            self.dropped[DropCause.STUN_UNKNOWN_SESSION] += 1
            return
        agent.on_check(datagram, request, path, self._clock())

    def _bound(self, hosts: tuple[str, ...], port: int) -> list[_UdpInlet]:
        # With any free port wanted, what the first host gives may be taken on the second.
        for attempt in range(_PORT_TRIES):
            inlets: list[_UdpInlet] = []
            try:
                for host in hosts:
                    inlets.append(_UdpInlet(self, host, inlets[0].socket.port if inlets else port))
            except OSError as error:
                for inlet in inlets:
                    inlet.socket.close()
                if port or not inlets or error.errno != errno.EADDRINUSE or attempt == _PORT_TRIES - 1:
                    raise
            else:
                return inlets
        raise AssertionError  # the last attempt returned or raised


class _UdpInlet:
    """One UDP socket of the public port and the paths proven through it."""

    def __init__(self, endpoint: Endpoint, host: str, port: int) -> None:
        self.host = host
        self._endpoint = endpoint
        self._paths: dict[Address, Path] = {}
        self.socket = UdpSocket(host, port, self._on_read, endpoint.dropped, _READS_PER_WAKE, _BUFFER_BYTES)

    def _on_read(self, size: int, address: Address) -> None:
        path = self._paths.get(address)
        if path is None:
            path = Path(Transport.UDP, address, self.socket.sender(address), self._keep, self._drop)
        elif path.owner is not None and is_rtp(DATA, size):
            # The way of nearly all datagrams.
            agent = path.owner
            if agent.inlets.packet(size) and agent.selected is not path:
                agent.on_media(path)
            return
        self._endpoint.on_datagram(bytes(VIEW[:size]), path)

    def _keep(self, path: Path) -> None:
        self._paths[path.address] = path

    def _drop(self, path: Path) -> None:
        if self._paths.get(path.address) is path:
            del self._paths[path.address]
