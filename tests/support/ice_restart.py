"""An ICE restart of a client on aiortc, which has none: a new offer, and checks under the new credentials."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

from support.client import Client


def restarted(offer: str) -> str:
    """The offer of the same peer connection after `restartIce()`."""
    offer = re.sub(r"^o=(\S+ \S+) (\d+)", lambda found: f"o={found[1]} {int(found[2]) + 1}", offer, flags=re.MULTILINE)
    offer = re.sub(r"^a=ice-ufrag:.*$", f"a=ice-ufrag:{secrets.token_hex(4)}\r", offer, flags=re.MULTILINE)
    return re.sub(r"^a=ice-pwd:.*$", f"a=ice-pwd:{secrets.token_hex(12)}\r", offer, flags=re.MULTILINE)


def value(sdp: str, name: str) -> str:
    """The first value of an attribute."""
    return re.search(rf"^a={name}:(\S+)", sdp, re.MULTILINE)[1]


def ice_of(client: Client) -> Any:
    """The client's ICE connection."""
    return client.peer.sctp.transport.transport._connection


async def move(client: Client) -> None:
    """Give the client another address, as a change of network does; the relay is not told."""
    [protocol] = ice_of(client)._protocols
    before = protocol.transport
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Receiver(protocol), local_addr=("127.0.0.1", 0))
    # aioice would take the closing for the end of the connection.
    before.set_protocol(asyncio.DatagramProtocol())
    before.close()


async def nominate(client: Client, offer: str, answer: str) -> None:
    """Check under the credentials of offer and answer until the relay confirms, with USE-CANDIDATE."""
    ice = ice_of(client)
    ice._local_username, ice._local_password = value(offer, "ice-ufrag"), value(offer, "ice-pwd")
    ice.remote_username, ice.remote_password = value(answer, "ice-ufrag"), value(answer, "ice-pwd")
    await check(client, use_candidate=True)


async def check(client: Client, *, use_candidate: bool = False) -> None:
    """One check now, answered."""
    ice = ice_of(client)
    pair = ice._nominated[1]
    request = ice.build_request(pair, nominate=use_candidate)
    await pair.protocol.request(request, pair.remote_addr, integrity_key=ice.remote_password.encode())


class _Receiver(asyncio.DatagramProtocol):
    """Hands the datagrams of a new socket to the protocol of the old one."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._protocol.datagram_received(data, addr)
