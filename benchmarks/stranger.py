"""A stranger who throws datagrams and TCP frames at the media ports: `hostile` runs it in a process of its own.

It reads orders from its standard input, one a line: `fire UDP_PORT TCP_PORT` (throw until the next order), `decoy`
(throw as much at a socket of its own, which nobody reads) and `rest`. At each rest it prints what it threw, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

_STDIN = 0
_SOURCES = 50
# One in so many of what is thrown goes over TCP.
_TCP_SHARE = 5
_FRAMES_A_CONNECTION = 10
_HELD_CONNECTIONS = 400
_CONNECT_SECONDS = 0.05
_TICK_SECONDS = 0.002
_ARSENAL = 4_000
# One of each kind of datagram, and some of none.
_FIRST_BYTES = (0, 1, 22, 64, 128, 129, 255)


def arsenal(source: random.Random, captured: list[bytes]) -> list[tuple[str, bytes]]:
    """Make what will be thrown, of every kind alike, so that throwing costs little.

    In no order: in a fixed one the same kind would always come when the other end has just closed a connection.
    """
    make: dict[str, Callable[[], bytes]] = {
        "random": lambda: bytes([source.choice(_FIRST_BYTES)]) + source.randbytes(source.randrange(1_400)),
        "empty": lambda: b"",
        "truncated": lambda: (one := source.choice(captured))[: source.randrange(len(one))],
        "huge": lambda: source.randbytes(source.choice((1_501, 9_000, 60_000))),
        "bent": lambda: _bent(source, source.choice(captured)),
        "replayed": lambda: source.choice(captured),
    }
    made = [(kind, make[kind]()) for _ in range(_ARSENAL // len(make)) for kind in make]
    source.shuffle(made)
    return made


def _bent(source: random.Random, datagram: bytes) -> bytes:
    at = source.randrange(len(datagram))
    return datagram[:at] + bytes([datagram[at] ^ 1 << source.randrange(8)]) + datagram[at + 1 :]


class Stranger:
    """Throws at a steady rate from many UDP sockets and a changing crowd of connections."""

    def __init__(self, captured: list[bytes], rate: int, host: str) -> None:
        self.thrown: Counter[str] = Counter()
        self.seconds = 0.0
        self._host = host
        self._rate = rate
        self._source = random.Random(23)
        self._arsenal = arsenal(self._source, captured)
        self._sockets = [self._udp(number) for number in range(_SOURCES)]
        self.decoy_port = int(self._sockets[0].getsockname()[1])
        self._plugs: deque[socket.socket] = deque()
        self._frames_left = 0

    def fire(self, udp: int, tcp: int) -> None:
        """Throw until an order waits on standard input; with no `tcp` port all of it over UDP."""
        began, number = time.monotonic(), 0
        while not select.select([_STDIN], [], [], 0)[0]:
            due = int((time.monotonic() - began) * self._rate)
            # Having fallen behind, leave out: a burst later would be another attack.
            number = max(number, due - self._rate // 10)
            for at in range(number, due):
                kind, datagram = self._arsenal[at % len(self._arsenal)]
                if at % _TCP_SHARE or not tcp:
                    self._throw_udp(at, kind, datagram, udp)
                else:
                    self._throw_tcp(kind, datagram, tcp)
            number = due
            time.sleep(_TICK_SECONDS)
        self.seconds += time.monotonic() - began
        self.rest()

    def rest(self) -> None:
        """Let go of every connection."""
        while self._plugs:
            self._plugs.popleft().close()
        self._frames_left = 0

    def _throw_udp(self, at: int, kind: str, datagram: bytes, port: int) -> None:
        try:
            self._sockets[at % _SOURCES].sendto(datagram, (self._host, port))
            self.thrown[f"udp {kind}"] += 1
        except OSError:
            self.thrown["udp not taken"] += 1

    def _throw_tcp(self, kind: str, datagram: bytes, port: int) -> None:
        frame = struct.pack("!H", min(len(datagram), 0xFFFF)) + datagram
        # The other end may have had enough of the connection at hand; a new one takes what is sent first.
        for _ in range(2):
            if self._frames_left == 0 and not self._plug(port):
                return
            self._frames_left -= 1
            try:
                self._plugs[-1].send(frame)
            except OSError:
                self.thrown["tcp not taken"] += 1
                self._frames_left = 0
            else:
                self.thrown[f"tcp {kind}"] += 1
                return

    def _plug(self, port: int) -> bool:
        """Connect anew; old connections are held open until there are too many."""
        if len(self._plugs) >= _HELD_CONNECTIONS:
            self._plugs.popleft().close()
        plug = socket.socket()
        # No trace of thousands of closed connections may stay in the kernel.
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plug.settimeout(_CONNECT_SECONDS)
        try:
            plug.bind((f"127.0.1.{self._source.randrange(1, 250)}", 0))
            plug.connect((self._host, port))
        except OSError:
            plug.close()
            self.thrown["tcp not connected"] += 1
            return False
        plug.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._plugs.append(plug)
        self._frames_left = _FRAMES_A_CONNECTION
        self.thrown["tcp connections"] += 1
        return True

    def _udp(self, number: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        made.bind((f"127.0.1.{number % 250 + 1}", 0))
        return made


def captured_in(path: Path) -> list[bytes]:
    """Read datagrams, each behind its length in two bytes."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    return found


def main() -> int:
    """Follow orders until the end of input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stranger", description=__doc__)
    parser.add_argument("--captured", type=Path, required=True, help="datagrams of real sessions, length before each")
    parser.add_argument("--rate", type=int, default=10_000, help="datagrams and frames a second (10000)")
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    # Unbuffered, so that select() sees every order.
    orders = os.fdopen(_STDIN, "rb", buffering=0)
    stranger = Stranger(captured_in(arguments.captured), arguments.rate, arguments.host)
    while order := orders.readline().split():
        if order[0] == b"fire":
            stranger.fire(int(order[1]), int(order[2]))
        elif order[0] == b"decoy":
            stranger.fire(stranger.decoy_port, 0)
        else:
            print(json.dumps({"seconds": stranger.seconds, "thrown": stranger.thrown}), flush=True)
            stranger.thrown.clear()
            stranger.seconds = 0.0
    return 0


if __name__ == "__main__":
    sys.exit(main())
