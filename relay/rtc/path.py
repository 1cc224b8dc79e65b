"""One way to a peer: a UDP address as one of our sockets sees it, or a TCP connection."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from relay.core.stun import Address
from relay.rtc.packet import Datagram

if TYPE_CHECKING:
    from relay.rtc.ice_lite import IceLiteAgent


class Transport(StrEnum):
    """What carries a leg's datagrams."""

    UDP = "udp"
    TCP = "tcp"


class Path:
    """A way to a peer at `address`, nobody's until an agent proves it.

    `send` takes one datagram and returns False if it cannot go now. `on_owned` and `on_released` tell who made the path
    when an agent takes it and gives it up. `last_check` is when a check last proved it, in monotonic seconds.
    `host_index` tells which of the public port's hosts a UDP address is seen from, `fileno` is of the UDP socket whose
    datagrams the kernel can be asked about.
    """

    __slots__ = (
        "address",
        "fileno",
        "host_index",
        "last_check",
        "on_owned",
        "on_released",
        "owner",
        "send",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        address: Address,
        send: Callable[[Datagram], bool],
        on_owned: Callable[[Path], None],
        on_released: Callable[[Path], None],
        host_index: int = 0,
        fileno: int | None = None,
    ) -> None:
        self.transport = transport
        self.address = address
        self.send = send
        self.on_owned = on_owned
        self.on_released = on_released
        self.host_index = host_index
        self.fileno = fileno
        self.owner: IceLiteAgent | None = None
        self.last_check = 0.0
