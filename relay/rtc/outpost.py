"""The public media ports in a worker process: sessions live here, the main process (relay/rtc/front.py) has the ports.

What comes first from an address the main process hands over. As soon as a check is proven, the path gets a socket of
its own, on the public port and connected to the peer: from then on the kernel gives this process that peer's datagrams.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from relay.core.quota import TokenBucket
from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.rtc.endpoint import HELD_SECONDS, Endpoint, direct
from relay.rtc.ice_lite import IceLiteAgent, Inlets
from relay.rtc.packet import VIEW, Datagram
from relay.rtc.path import Path, Transport
from relay.rtc.shared_port import joined_form, plain_form
from relay.rtc.tcp import TcpConnections
from relay.rtc.udp import UdpSocket

_LOG = logging.getLogger(__name__)
# What goes back to the main process in a second; more comes only from who floods an address whose session is silent.
STRAYS_A_SECOND = 500.0


class MainProcess(Protocol):
    """What an outpost tells the main process, in this order; each is called synchronously and must not wait.

    `host_index` counts the hosts that the public port is bound on.
    """

    def listen_for(self, ufrag: str) -> None:
        """Checks that name `ufrag` are for this worker."""
        ...

    def forget(self, ufrag: str) -> None:
        """They are nobody's any more."""
        ...

    def claimed(self, host_index: int, address: Address) -> None:
        """A session of this worker proved an address."""
        ...

    def released(self, host_index: int, address: Address) -> None:
        """It has no more use for it."""
        ...

    def send(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Send from the public port."""
        ...

    def stray(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Take back a datagram that is not for this worker's sessions."""
        ...


class Outpost:
    """Stands where an Endpoint stands for sessions; `hosts` and `port` are what the main process has bound for UDP."""

    def __init__(
        self, main: MainProcess, hosts: tuple[str, ...], port: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        for host in hosts:
            # Learns once, now that nobody waits, how this system shares a port.
            joined_form(host, (host, port))
        self._judge = Endpoint((), 0, clock)
        self._lines = _Lines(main, self._judge, hosts, port, clock)
        self._judge.share(self._lines)
        self._agents = _Agents(main, self._judge)
        self._connections = TcpConnections(self._judge)

    @property
    def dropped(self) -> Counter[DropCause]:
        """What nobody took, by cause."""
        return self._judge.dropped

    @property
    def connections(self) -> int:
        """How many TCP connections are open now."""
        return len(self._connections)

    @property
    def unconnected(self) -> int:
        """How many paths got no socket of their own: all their datagrams go through the main process."""
        return self._lines.unconnected

    def add_agent(self, inlets: Inlets, remote_ufrag: str) -> IceLiteAgent:
        """Create the ICE end of a new leg, reachable once the main process has heard of it."""
        return IceLiteAgent(self._agents, inlets, remote_ufrag)

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        self._judge.drop(cause)

    def on_datagram_from_front(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Judge a datagram that came to the main process's socket."""
        self._judge.on_datagram(datagram, self._lines.path_of(host_index, address))

    def on_connection_from_front(self, sock: socket.socket, address: Address, first: bytes) -> None:
        """Take a TCP connection whose first check names a session of this worker, and what was read of it."""
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._connections.take(sock, address, first)

    def on_give_up(self, host_index: int, address: Address) -> None:
        """Let go of an address that another worker's session has proven."""
        self._lines.give_up(host_index, address)

    def close(self) -> None:
        """Close every socket."""
        self._connections.close()
        self._lines.close()


class _Agents:
    """What the agents of this worker ask (AgentEndpoint): the judging here, and the main process hears of ufrags."""

    def __init__(self, main: MainProcess, judge: Endpoint) -> None:
        self._main = main
        self._judge = judge
        self.claim = judge.claim
        self.drop = judge.drop

    def listen_for(self, ufrag: str, agent: IceLiteAgent) -> None:
        self._judge.listen_for(ufrag, agent)
        self._main.listen_for(ufrag)

    def forget(self, ufrag: str) -> None:
        self._judge.forget(ufrag)
        self._main.forget(ufrag)


class _Lines:
    """The UDP paths that sessions here have proven, and what the judging asks of the other processes (Elsewhere)."""

    def __init__(
        self, main: MainProcess, judge: Endpoint, hosts: tuple[str, ...], port: int, clock: Callable[[], float]
    ) -> None:
        self.main = main
        self.judge = judge
        self.unconnected = 0
        self._hosts = hosts
        self._port = port
        self._clock = clock
        self._by_place: dict[tuple[int, Address], _Line] = {}
        self._stray_rate = TokenBucket(STRAYS_A_SECOND, STRAYS_A_SECOND, clock())

    def path_of(self, host_index: int, address: Address) -> Path:
        """The path that an address has, a new one if it has none."""
        line = self._by_place.get((host_index, address))
        return _Line(self, host_index, address).path if line is None else line.path

    def keep(self, line: _Line) -> bool:
        """A line's path was proven; False if it was before."""
        place = (line.path.host_index, line.path.address)
        if place in self._by_place:
            return False
        self._by_place[place] = line
        self.main.claimed(*place)
        return True

    def drop(self, line: _Line) -> None:
        """A line's path is nobody's any more."""
        place = (line.path.host_index, line.path.address)
        if self._by_place.pop(place, None) is not None:
            self.main.released(*place)

    def connected(
        self, path: Path, on_read: Callable[[int, Address], None]
    ) -> tuple[UdpSocket, Address] | tuple[None, None]:
        """A socket on the public port that talks to a path's peer only, and how it sees it; None if there is none."""
        host = self._hosts[path.host_index]
        line: UdpSocket | None = None
        try:
            line = UdpSocket(host, self._port, on_read, self.judge.dropped, joins=True)
            peer = joined_form(host, path.address)
            path.send, path.fileno = line.connect(peer), line.fileno
        except OSError as error:
            if line is not None:
                line.close()
            if not self.unconnected:
                _LOG.warning("no socket for a session, its media goes through the main process: %s", error.strerror)
            self.unconnected += 1
            return None, None
        return line, peer

    def give_up(self, host_index: int, address: Address) -> None:
        """Let go of an address, whoever has it."""
        line = self._by_place.get((host_index, address))
        if line is not None:
            self.judge.lost(line.path)
            line.path.on_released(line.path)

    def close(self) -> None:
        """Let go of every address."""
        for place in tuple(self._by_place):
            self.give_up(*place)

    def stray(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Give a datagram back to the main process, which knows no port 0."""
        if not address[1]:
            self.judge.drop(DropCause.STRANGER)
        elif self._stray_rate.take(self._clock()):
            self.main.stray(host_index, address, datagram)
        else:
            self.judge.drop(DropCause.RATE)

    def take_check(self, ufrag: str, datagram: bytes, path: Path) -> bool:
        """Give back a check that names no session here, unless a living session holds the address (Endpoint.claim)."""
        del ufrag
        if path.transport is Transport.TCP:
            return False
        if path.owner is not None and self._clock() - path.owner.last_check < HELD_SECONDS:
            self.judge.drop(DropCause.ADDRESS_TAKEN)
        else:
            self.stray(path.host_index, path.address, datagram)
        return True

    def take(self, datagram: bytes, path: Path) -> bool:
        """Leave to be counted what came on a path that is nobody's here."""
        del datagram, path
        return False

    def yields(self, path: Path) -> bool:
        """Say yes: the main process shows an address to one worker at a time."""
        del path
        return True


class _Line:
    """The way to one address: through the main process until its path is proven, on a socket of its own then."""

    __slots__ = ("_lines", "_peer", "_socket", "path")

    def __init__(self, lines: _Lines, host_index: int, address: Address) -> None:
        self._lines = lines
        self._socket: UdpSocket | None = None
        self._peer: Address | None = None
        self.path = Path(Transport.UDP, address, self._send, self._owned, self._released, host_index)

    def _send(self, datagram: Datagram) -> bool:
        self._lines.main.send(self.path.host_index, self.path.address, bytes(datagram))
        return True

    def _owned(self, path: Path) -> None:
        if self._lines.keep(self):
            self._socket, self._peer = self._lines.connected(path, self._on_read)
        if self._socket is not None and self._peer is not None:
            direct(self._socket, path, self._peer)

    def _released(self, path: Path) -> None:
        del path
        if self._socket is not None:
            self._socket.close()
        self._lines.drop(self)

    def _on_read(self, size: int, address: Address) -> None:
        if address == self._peer:
            self._lines.judge.on_datagram(bytes(VIEW[:size]), self.path)
        else:
            # Queued in the moment before the socket was connected.
            self._lines.stray(self.path.host_index, plain_form(address), bytes(VIEW[:size]))
