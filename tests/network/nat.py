"""Address translation at the edge of a host's line, IPv4 only."""

from __future__ import annotations

from network.packet import TCP, UDP, Packet

_FIRST_PORT, _LAST_PORT = 20_000, 60_000


class OneToOne:
    """The host has a private address and every port of one public one: what a cloud calls a public or elastic IP.

    `forwards` gives the inner port of those that are others outside.
    """

    def __init__(self, inner: str, public: str, forwards: dict[int, int]) -> None:
        self._inner = inner
        self._public = public
        self._inside = forwards
        self._outside = {inside: outside for outside, inside in forwards.items()}

    def out(self, packet: Packet) -> bool:
        """Translate what the host sends; False: it cannot leave."""
        if packet.source != self._inner:
            return False
        packet.readdress(source=(self._public, self._outside.get(packet.source_port, 0)))
        return True

    def into(self, packet: Packet) -> bool:
        """Translate what is sent to the host; False: it is not for it."""
        if packet.target != self._public:
            return False
        packet.readdress(target=(self._inner, self._inside.get(packet.target_port, 0)))
        return True

    def rebind(self, _protocol: str) -> int:
        """Nothing to forget."""
        return 0


class Napt:
    """What a home or office router does: many ports of a private address behind one public address.

    A mapping is the same towards everybody (RFC 4787 section 4.1) unless `symmetric`. Packets to a port that nobody was
    given, or that was forgotten, are dropped.
    """

    def __init__(self, inner: str, public: str, *, symmetric: bool = False) -> None:
        self._inner = inner
        self._public = public
        self._symmetric = symmetric
        self._next = _FIRST_PORT
        self._outer: dict[tuple[int, int, str, int], int] = {}
        self._inner_port: dict[tuple[int, int], int] = {}

    def out(self, packet: Packet) -> bool:
        """Translate what the host sends; False: it cannot leave."""
        if packet.source != self._inner:
            return False
        port = self._outer_port(packet) if packet.source_port else 0
        packet.readdress(source=(self._public, port))
        return True

    def into(self, packet: Packet) -> bool:
        """Translate what is sent to the host; False: no mapping, dropped."""
        if packet.target != self._public:
            return False
        if packet.protocol not in (TCP, UDP):
            packet.readdress(target=(self._inner, 0))
            return True
        port = self._inner_port.get((packet.protocol, packet.target_port))
        if port is None:
            return False
        packet.readdress(target=(self._inner, port))
        return True

    def rebind(self, protocol: str) -> int:
        """Forget every mapping of `udp` or `tcp`, as after a restart of the router; how many there were."""
        number = {"udp": UDP, "tcp": TCP}[protocol]
        forgotten = [key for key in self._outer if key[0] == number]
        for key in forgotten:
            del self._inner_port[number, self._outer.pop(key)]
        return len(forgotten)

    def _outer_port(self, packet: Packet) -> int:
        towards = (packet.target, packet.target_port) if self._symmetric else ("", 0)
        key = (packet.protocol, packet.source_port, *towards)
        port = self._outer.get(key)
        if port is None:
            # Ports are never given twice, so that a forgotten mapping cannot come to life again by chance.
            port = self._outer[key] = self._next
            self._next = self._next + 1 if self._next < _LAST_PORT else _FIRST_PORT
            self._inner_port[packet.protocol, port] = packet.source_port
        return port
