"""A main process and its workers on one event loop: real sockets, and between them messages that keep their order.

And a browser's socket, which speaks to them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from aioice import stun

from relay.core.stun import Address
from relay.rtc.endpoint import Endpoint
from relay.rtc.front import Front
from relay.rtc.ice_lite import IceLiteAgent
from relay.rtc.outpost import Outpost
from relay.rtc.tcp import TcpListener
from support.checks import Taken, check
from support.resources import settled


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """Both ends of what a worker and the main process tell each other, each message on a later turn of the loop.

    `given` is all that the main process handed over. While `stuck`, the worker reads nothing.
    """

    def __init__(self, front: Front, hosts: tuple[str, ...], port: int, clock: Callable[[], float]) -> None:
        self.given: list[bytes] = []
        self.strays: list[bytes] = []
        self.stuck = False
        self.dead = False
        self._front = front
        self._unread: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._loop = asyncio.get_running_loop()
        self.outpost = Outpost(self, hosts, port, clock)

    def agent(self) -> tuple[IceLiteAgent, Taken]:
        taken = Taken()
        return self.outpost.add_agent(taken.inlets, "peer"), taken

    def unstick(self) -> None:
        self.stuck = False
        for take, values in self._unread:
            take(*values)
        self._unread.clear()

    def die(self) -> None:
        """Its sockets are closed by the system; it says nothing."""
        self.dead = True
        self.outpost.close()

    # --- downwards ---------------------------------------------------------------------------------------------------

    def take_datagram(self, host_index: int, address: Address, datagram: bytes) -> None:
        self.given.append(datagram)
        self._down(self.outpost.on_datagram_from_front, host_index, address, datagram)

    def take_connection(self, sock: socket.socket, address: Address, first: bytes) -> None:
        # What SCM_RIGHTS does: another descriptor of the same connection, and ours is closed.
        passed = socket.socket(fileno=os.dup(sock.fileno()))
        sock.close()
        self._down(self.outpost.on_connection_from_front, passed, address, first)

    def give_up(self, host_index: int, address: Address) -> None:
        self._down(self.outpost.on_give_up, host_index, address)

    def _down(self, take: Callable[..., None], *values: Any) -> None:
        self._loop.call_soon(self._read, take, values)

    def _read(self, take: Callable[..., None], values: tuple[Any, ...]) -> None:
        if self.stuck:
            self._unread.append((take, values))
        elif not self.dead:
            take(*values)

    # --- upwards -----------------------------------------------------------------------------------------------------

    def listen_for(self, ufrag: str) -> None:
        self._up(self._front.listen_for, ufrag)

    def forget(self, ufrag: str) -> None:
        self._up(self._front.forget, ufrag)

    def claimed(self, host_index: int, address: Address) -> None:
        self._up(self._front.claimed, host_index, address)

    def released(self, host_index: int, address: Address) -> None:
        self._up(self._front.released, host_index, address)

    def send(self, host_index: int, address: Address, datagram: bytes) -> None:
        self._up(self._front.send, host_index, address, datagram)

    def stray(self, host_index: int, address: Address, datagram: bytes) -> None:
        self.strays.append(datagram)
        self._up(self._front.stray, host_index, address, datagram)

    def _up(self, tell: Callable[..., None], *values: Any) -> None:
        if not self.dead:
            self._loop.call_soon(tell, *values, self)


class Relay:
    """The ports, the front and two workers."""

    def __init__(self, *hosts: str) -> None:
        self.clock = Clock()
        self.hosts = hosts or ("127.0.0.1",)
        self.endpoint = Endpoint(self.hosts, 0, self.clock)
        self.listener = TcpListener(self.endpoint, self.hosts, 0)
        self.front = Front(self.endpoint, self.listener, self.clock)
        self.workers = [Worker(self.front, self.hosts, self.endpoint.port, self.clock) for _ in range(2)]

    def close(self) -> None:
        for worker in self.workers:
            worker.die()
        self.listener.close()
        self.endpoint.close()

    def holders(self) -> dict[tuple[int, Address], Any]:
        """Which worker has which address."""
        return {place: session.taker for place, session in self.front._held.items()}


class Peer:
    """A browser's UDP socket."""

    def __init__(self, relay: Relay, host: str = "127.0.0.1") -> None:
        to = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.socket = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((to, 0))
        self._relay = (to, relay.endpoint.port)

    @property
    def address(self) -> Address:
        return self.socket.getsockname()

    def send(self, *datagrams: bytes) -> None:
        for each in datagrams:
            self.socket.sendto(each, self._relay)

    async def read(self) -> bytes:
        datagram, source = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(self.socket, 2048), 5)
        assert source[:2] == self._relay
        return datagram

    async def proves(self, agent: IceLiteAgent, **more: Any) -> None:
        """Send a check and wait for the answer, from the public port."""
        self.send(check(agent, **more))
        answer = stun.parse_message(await self.read())
        assert answer.message_class is stun.Class.RESPONSE
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == self.address[:2]


async def until(wanted: Callable[[], Any]) -> None:
    assert not await settled(lambda: not wanted())


async def heard() -> None:
    """Let the main process hear what workers told it until now."""
    for _ in range(3):
        await asyncio.sleep(0)


async def turns(number: int = 20) -> None:
    """Let sockets be read and messages arrive."""
    for _ in range(number):
        await asyncio.sleep(0)
