"""The public media port: every downstream leg behind it, whatever carries its datagrams."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from relay.core.rtp import DTLS, MAX_DATAGRAM, RTCP, RTP, STUN, DropCause, classify
from relay.core.stun import Address, parse_binding_request
from relay.rtc.ice_lite import IceLiteAgent, Inlets
from relay.rtc.packet import VIEW, Datagram
from relay.rtc.path import Path, Transport
from relay.rtc.udp import UdpSocket

# How long a silent session keeps a path against another session's claim to it.
HELD_SECONDS = 15.0
_READS_PER_WAKE = 16
# Everybody's datagrams wait here while the loop is busy, strangers' among them; the system may grant less (rmem_max).
_BUFFER_BYTES = 1 << 22
_PORT_TRIES = 8


class Elsewhere(Protocol):
    """Other processes that share the public port: asked where this one's agents and paths do not know."""

    def take_check(self, ufrag: str, datagram: bytes, path: Path) -> bool:
        """Take a check that names no ufrag of this process; False if it is nobody's there either."""
        ...

    def take(self, datagram: bytes, path: Path) -> bool:
        """Take what is no check and came on nobody's path; False if it is a stranger's there too."""
        ...

    def yields(self, path: Path) -> bool:
        """Whether an agent of this process may have a path that it proved; False if another process's session has."""
        ...


class Endpoint:
    """One UDP port, on one socket for each of `hosts`; TCP connections join with `on_datagram` and `lost`.

    Datagrams find their leg by ICE ufrag first, by proven path after. `dropped` counts what nobody took, by cause.
    Without hosts it is the judging alone, for datagrams that others bring.
    Raises OSError when the port cannot be bound on every host.
    """

    def __init__(self, hosts: tuple[str, ...], port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped: Counter[DropCause] = Counter()
        self._clock = clock
        self._by_ufrag: dict[str, IceLiteAgent] = {}
        self._elsewhere: Elsewhere | None = None
        self._inlets = self._bound(hosts, port)

    def share(self, elsewhere: Elsewhere) -> None:
        """Ask others about what is not known here, and let their sockets join the port. Raises OSError."""
        self._elsewhere = elsewhere
        for each in self._inlets:
            each.socket.lead()

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
        if kind is STUN:
            self._on_stun(datagram, path)
            return
        agent = path.owner
        if agent is None:
            if self._elsewhere is None or not self._elsewhere.take(datagram, path):
                self.dropped[DropCause.STRANGER] += 1
        elif kind is RTP:
            if agent.inlets.rtp(datagram) and agent.selected is not path:
                agent.on_media(path)
        elif kind is DTLS:
            agent.inlets.dtls(datagram)
        elif kind is RTCP:
            agent.inlets.rtcp(datagram)
        else:
            self.dropped[DropCause.UNRECOGNISED] += 1

    def claim(self, path: Path, agent: IceLiteAgent, now: float) -> bool:
        """Give a path to an agent that authenticated a check on it.

        A living session keeps its path: a check with a forged source must not steal another session's datagrams.
        """
        owner = path.owner if path.owner is not agent else None
        if owner is not None and now - owner.last_check < HELD_SECONDS:
            return False
        if self._elsewhere is not None and not self._elsewhere.yields(path):
            return False
        if owner is not None:
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

    def arrived(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Judge a datagram that another process's socket read, as if it had come to this port's own."""
        self.on_datagram(datagram, self._inlets[host_index].path_of(address))

    def send(self, host_index: int, address: Address, datagram: Datagram) -> bool:
        """Send from the port to any address; False if the kernel does not take it."""
        return self._inlets[host_index].socket.send(datagram, address)

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
            if self._elsewhere is None or not self._elsewhere.take_check(request.local_ufrag, datagram, path):
                self.dropped[DropCause.STUN_UNKNOWN_SESSION] += 1
            return
        agent.on_check(datagram, request, path, self._clock())

    def _bound(self, hosts: tuple[str, ...], port: int) -> list[_UdpInlet]:
        # With any free port wanted, what the first host gives may be taken on the second.
        for attempt in range(_PORT_TRIES):
            inlets: list[_UdpInlet] = []
            try:
                for host in hosts:
                    inlets.append(_UdpInlet(self, host, inlets[0].socket.port if inlets else port, len(inlets)))
            except OSError as error:
                for inlet in inlets:
                    inlet.socket.close()
                if port or not inlets or error.errno != errno.EADDRINUSE or attempt == _PORT_TRIES - 1:
                    raise
            else:
                return inlets
        raise AssertionError  # the last attempt returned or raised


def direct(line: UdpSocket, path: Path, address: Address) -> None:
    """Give a path's RTP, which `line` reads from `address`, to its owner's forwarder: the way of nearly all."""
    agent = path.owner
    if agent is not None and agent.inlets.forwarder is not None:
        line.direct(address, agent.inlets.forwarder, path.send, partial(agent.on_media, path))
    else:
        line.undirect(address)


class _UdpInlet:
    """One UDP socket of the public port and the paths proven through it."""

    def __init__(self, endpoint: Endpoint, host: str, port: int, index: int) -> None:
        self.host = host
        self._index = index
        self._endpoint = endpoint
        self._paths: dict[Address, Path] = {}
        self.socket = UdpSocket(host, port, self._on_read, endpoint.dropped, _READS_PER_WAKE, _BUFFER_BYTES)

    def path_of(self, address: Address) -> Path:
        """The path that an address has, a new one if it has none."""
        return self._paths.get(address) or self._new(address)

    def _new(self, address: Address) -> Path:
        return Path(
            Transport.UDP, address, self.socket.sender(address), self._keep, self._drop, self._index, self.socket.fileno
        )

    def _on_read(self, size: int, address: Address) -> None:
        if not address[1]:
            # Nothing can be sent to port 0, and a worker that names it is taken for a broken one.
            self._endpoint.drop(DropCause.STRANGER)
            return
        path = self._paths.get(address)
        if path is None:
            path = self._new(address)
        self._endpoint.on_datagram(bytes(VIEW[:size]), path)

    def _keep(self, path: Path) -> None:
        self._paths[path.address] = path
        direct(self.socket, path, path.address)

    def _drop(self, path: Path) -> None:
        if self._paths.get(path.address) is path:
            del self._paths[path.address]
            self.socket.undirect(path.address)
