"""Our end of ICE towards the service: aioice's controlling agent over a socket of ours.

Every upstream leg has a local port of its own: the service answers all sessions from one address and port, so a shared
one could not tell them apart. Once a pair is nominated the socket is connected to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

from aioice import Candidate as AioiceCandidate
from aioice import Connection
from aioice.ice import CandidatePair, StunProtocol
from aioice.stun import Message

from relay.core.rtp import MAX_DATAGRAM, DatagramKind, DropCause, classify
from relay.core.sdp import Candidate, RemoteDescription
from relay.core.stun import Address
from relay.rtc.ice_lite import Inlets
from relay.rtc.udp import UdpSocket

_LOG = logging.getLogger(__name__)
# DTLS datagrams of one flight that may come before a pair is selected.
_EARLY_DATAGRAMS = 8
_WILDCARD = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - the kernel picks the source address by its routes


class UpstreamIce:
    """The ICE end of one upstream leg. `on_lost` is called once if the peer stops answering consent checks."""

    def __init__(
        self, ufrag: str, pwd: str, inlets: Inlets, dropped: Counter[DropCause], on_lost: Callable[[], None]
    ) -> None:
        self._dropped = dropped
        self._inlets = inlets
        self._on_lost = on_lost
        self._connection = _Connection(ice_controlling=True, local_username=ufrag, local_password=pwd)
        self._sockets: dict[StunProtocol, UdpSocket] = {}
        self._remote: Address | None = None
        self._selected: UdpSocket | None = None
        self._candidates: frozenset[tuple[str, int]] = frozenset()
        self._early: list[tuple[bytes, Address]] = []
        self._watch: asyncio.Task[None] | None = None

    async def connect(self, remote: RemoteDescription) -> None:
        """Find a working pair; raises ConnectionError if there is none. The deadline is the caller's."""
        usable = [each for each in remote.candidates if each.transport == "udp"]
        if not usable:
            raise ConnectionError("the service gave no UDP candidate")
        self._candidates = frozenset((each.host, each.port) for each in usable)
        connection = self._connection
        connection.remote_username = remote.ufrag
        connection.remote_password = remote.pwd
        connection.remote_is_lite = remote.ice_lite
        for version in sorted({6 if ":" in each.host else 4 for each in usable}):
            # A family this machine does not have is one way less, not the end.
            with contextlib.suppress(OSError):
                self._open(version)
        if not self._sockets:
            raise ConnectionError("no socket for any of the service's candidates")
        # Private names: gathering is ours, for aioice would bind every interface but loopback.
        connection._local_candidates_start = connection._local_candidates_end = True  # noqa: SLF001
        for candidate in usable:
            await connection.add_remote_candidate(_aioice_candidate(candidate))
        await connection.add_remote_candidate(None)
        await connection.connect()
        pair = connection._nominated[1]  # noqa: SLF001 - private name: aioice does not tell the pair it selected
        self._remote = pair.remote_addr
        self._selected = self._sockets[pair.protocol]
        self._selected.connect(pair.remote_addr)
        self._take_early()
        self._watch = asyncio.create_task(self._watch_consent(), name="upstream-consent")

    def send(self, datagram: bytes) -> bool:
        """Send to the selected pair; False before there is one."""
        return self._selected is not None and self._remote is not None and self._selected.send(datagram, self._remote)

    def on_datagram(self, protocol: StunProtocol, datagram: bytes, address: Address) -> None:
        """Judge one datagram by length, first byte and source, and hand it on."""
        if not datagram or len(datagram) > MAX_DATAGRAM:
            self._dropped[DropCause.OVERSIZED if datagram else DropCause.EMPTY] += 1
            return
        kind = classify(datagram)
        if kind is DatagramKind.STUN:
            self._on_stun(protocol, datagram, address)
        elif self._remote is None and kind is DatagramKind.DTLS and self._may_be_early(address):
            self._early.append((datagram, address))
        elif address[:2] != self._remote:
            self._dropped[DropCause.STRANGER] += 1
        elif kind is DatagramKind.RTP:
            self._inlets.rtp(datagram)
        elif kind is DatagramKind.DTLS:
            self._inlets.dtls(datagram)
        elif kind is DatagramKind.RTCP:
            self._inlets.rtcp(datagram)
        else:
            self._dropped[DropCause.UNRECOGNISED] += 1

    async def close(self) -> None:
        """Stop every check and free the sockets."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._connection.close()
        for each in self._sockets.values():
            each.close()

    def _open(self, version: int) -> None:
        protocol = StunProtocol(self._connection)
        udp = UdpSocket(
            _WILDCARD[version],
            0,
            lambda datagram, address: self.on_datagram(protocol, datagram, address),
            self._dropped,
        )
        protocol.connection_made(_Transport(udp, protocol))  # type: ignore[arg-type]  # the two methods aioice uses
        protocol.local_candidate = AioiceCandidate(
            foundation=str(version), component=1, transport="udp", priority=1 << 24, host=_WILDCARD[version],
            port=udp.port, type="host",
        )  # fmt: skip
        self._sockets[protocol] = udp
        # Private names: this is where aioice keeps what it gathered.
        self._connection._protocols.append(protocol)  # noqa: SLF001
        self._connection._local_candidates.append(protocol.local_candidate)  # noqa: SLF001

    def _on_stun(self, protocol: StunProtocol, datagram: bytes, address: Address) -> None:
        try:
            protocol.datagram_received(datagram, address)
        except Exception as error:  # noqa: BLE001 - aioice's parser raises several types; all mean: not STUN for us
            self._dropped[DropCause.STUN_MALFORMED] += 1
            _LOG.debug("STUN datagram refused: %s", type(error).__name__)

    def _may_be_early(self, address: Address) -> bool:
        return address[:2] in self._candidates and len(self._early) < _EARLY_DATAGRAMS

    def _take_early(self) -> None:
        # The service may begin DTLS before connect() has returned; a ClientHello lost costs a second.
        early, self._early = self._early, []
        for datagram, address in early:
            if address[:2] == self._remote:
                self._inlets.dtls(datagram)
            else:
                self._dropped[DropCause.STRANGER] += 1

    async def _watch_consent(self) -> None:
        await self._connection.get_event()
        self._on_lost()


class _Connection(Connection):
    """aioice's agent, whose consent checks carry USE-CANDIDATE: some servers ignore checks without it, and we die."""

    def data_received(self, data: bytes, component: int) -> None:
        """Refuse what looked like STUN and is none: aioice would keep it in a queue without bound that nobody reads."""
        del data, component
        raise ValueError("not STUN")

    def build_request(self, pair: CandidatePair, nominate: bool) -> Message:  # noqa: FBT001 - aioice's signature
        # Private name: set once a pair is nominated, that is, when only consent checks are left.
        return super().build_request(pair, nominate or bool(self._nominated))


class _Transport:
    """What aioice asks of an asyncio datagram transport, over our socket."""

    def __init__(self, udp: UdpSocket, protocol: StunProtocol) -> None:
        self._udp = udp
        self._protocol = protocol

    def sendto(self, datagram: bytes, address: Address) -> None:
        self._udp.send(datagram, address)

    def close(self) -> None:
        self._udp.close()
        self._protocol.connection_lost(None)


def _aioice_candidate(candidate: Candidate) -> AioiceCandidate:
    kind = candidate.kind if candidate.kind in {"host", "srflx", "relay"} else "host"
    return AioiceCandidate(
        foundation=candidate.foundation, component=1, transport="udp", priority=candidate.priority,
        host=candidate.host, port=candidate.port, type=kind,
    )  # fmt: skip
