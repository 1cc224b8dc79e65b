"""The small program between the TUN devices: one device in each host's namespace, this process at their other ends.

Run as `python -m network.link FD`, where FD is a SOCK_SEQPACKET socket: one JSON request a packet, one JSON answer.
It ends, and its devices with it, when the other end of that socket is closed.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any

from network.line import Line, Rule
from network.namespaces import entered
from network.nat import Napt, OneToOne
from network.packet import Packet, parse

DEVICE = "wan0"
MAX_REQUEST = 262_144
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_MAX_WAITING = 100_000
_READ_BYTES = 65_536
_READS_PER_WAKE = 32


class Link:
    """Lines by name, packets on their way, and the requests of whoever made it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._lines: dict[str, Line] = {}
        self._tuns: dict[str, int] = {}
        self._line_of_tun: dict[int, Line] = {}
        self._line_of_address: dict[str, Line] = {}
        self._waiting: list[tuple[float, int, bool, Line, Packet]] = []
        self._order = itertools.count()
        self._unroutable = 0

    def run(self) -> None:
        """Serve until the control socket is closed."""
        while True:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else -1
            for descriptor, _ in self._poll.poll(wait):
                if descriptor != self._control.fileno():
                    self._read(descriptor)
                elif not self._serve_request():
                    return
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, arrived, line, packet = heapq.heappop(self._waiting)
                self._deliver(line, packet) if arrived else self._route(packet)

    def _read(self, tun: int) -> None:
        line = self._line_of_tun[tun]
        for _ in range(_READS_PER_WAKE):
            try:
                data = os.read(tun, _READ_BYTES)
            except BlockingIOError:
                return
            packet = parse(data)
            if packet is None:
                continue
            passed, answer = line.leaving(packet, time.monotonic())
            self._enqueue(passed, line, arrived=False)
            if answer is not None:
                self._deliver(line, answer)

    def _route(self, packet: Packet) -> None:
        line = self._line_of_address.get(packet.target)
        if line is None:
            self._unroutable += 1
            return
        passed, answer = line.arriving(packet, time.monotonic())
        self._enqueue(passed, line, arrived=True)
        if answer is not None:
            self._route(answer)

    def _enqueue(self, passed: list[tuple[float, Packet]], line: Line, *, arrived: bool) -> None:
        for due, packet in passed:
            if len(self._waiting) < _MAX_WAITING:
                heapq.heappush(self._waiting, (due, next(self._order), arrived, line, packet))

    def _deliver(self, line: Line, packet: Packet) -> None:
        line.delivered(packet, time.monotonic())
        try:
            os.write(self._tuns[line.name], packet.data)
        except OSError:
            # The device is down or its queue is full: a network may lose.
            line.into.counts["refused by the device"] += 1

    def _serve_request(self) -> bool:
        request = self._control.recv(MAX_REQUEST)
        if not request:
            return False
        try:
            wanted = json.loads(request)
            answer = getattr(self, f"do_{wanted.pop('do')}")(**wanted)
        except Exception as error:  # noqa: BLE001 - whoever asked is told, and the network lives on
            answer = {"error": f"{type(error).__name__}: {error}"}
        self._control.send(json.dumps(answer or {}).encode())
        return True

    # Requests: `{"do": "<name>", …}`.

    def do_attach(self, name: str, namespace: str, addresses: list[str], nat: dict[str, Any] | None, seed: int) -> None:
        """Make the device in a namespace. `nat` is as `translator` takes it."""
        line = Line(name, tuple(addresses), None if nat is None else translator(**nat), seed)
        tun = open_tun(namespace, DEVICE)
        self._lines[name], self._tuns[name], self._line_of_tun[tun] = line, tun, line
        self._line_of_address |= dict.fromkeys(addresses, line)
        self._poll.register(tun, select.EPOLLIN)

    def do_readdress(self, name: str, addresses: list[str]) -> None:
        """Know a host by other addresses from now on."""
        line = self._lines[name]
        for address in line.addresses:
            self._line_of_address.pop(address, None)
        line.addresses = tuple(addresses)
        self._line_of_address |= dict.fromkeys(addresses, line)

    def do_set(self, name: str, ways: list[str], wanted: dict[str, Any]) -> None:
        """Change conditions of `out`, `into` or both."""
        for way in ways:
            getattr(self._lines[name], way).conditions.change(wanted)

    def do_rules(self, name: str, rules: list[dict[str, Any]]) -> None:
        """Replace the line's firewall."""
        self._lines[name].rules = tuple(Rule(**each) for each in rules)

    def do_blackout(self, name: str, seconds: float) -> None:
        """Drop everything from now on for some time; 0 ends it."""
        self._lines[name].dark_until = time.monotonic() + seconds

    def do_rebind(self, name: str, protocol: str) -> dict[str, Any]:
        """Let the line's NAT forget."""
        nat = self._lines[name].nat
        if nat is None:
            raise ValueError(f"{name} is behind no NAT")
        return {"forgotten": nat.rebind(protocol)}

    def do_reset(self) -> None:
        """Start counting anew, everywhere."""
        for line in self._lines.values():
            line.reset()

    def do_seen(self) -> dict[str, Any]:
        """Counts and RTP flows of every line, both ways, at the host's end."""
        now = time.monotonic()
        return {
            name: {way.name: way.report(now) for way in (line.out, line.into)} for name, line in self._lines.items()
        }


def translator(kind: str, inner: str, public: str, forwards: list[list[int]]) -> OneToOne | Napt:
    """The NAT of a line: `1:1`, `napt` or `symmetric`."""
    if kind == "1:1":
        return OneToOne(inner, public, dict(forwards))
    return Napt(inner, public, symmetric=kind == "symmetric")


def open_tun(namespace: str, device: str) -> int:
    """Make a TUN device inside a namespace; it lives as long as the returned descriptor."""
    with entered(namespace):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN_NO_PI))
    return tun


def main() -> None:
    """Serve the descriptor named on the command line."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        Link(control).run()


if __name__ == "__main__":
    main()
