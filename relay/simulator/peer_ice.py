"""ICE as the service does it, over aioice: own gathering, one port for all, lite, quirks, silence.

The one file that uses private names of aioice and aiortc; `tests/simulator/test_private_names.py` watches them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import ICE_COMPLETED, CandidatePair, StunProtocol
from aiortc import RTCDtlsTransport, RTCIceGatherer, RTCIceTransport, RTCRtpReceiver, RTCRtpSender, RTCSctpTransport
from aiortc.rtcrtpreceiver import RemoteStreamTrack

from relay.simulator.record import PacketCounts

LITE_LIVENESS_SECONDS = 30.0
MAX_ADDRESSES = 16
MAX_STREAMS = 8
_STUN = range(4)
_RTP = range(128, 192)
_RTCP = range(64, 96)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class IceHabits:
    """How this end behaves. `deaf` from the start: it never answers a check; `udp_blocked`: none that comes by UDP."""

    lite: bool = False
    consent_quirk: bool = False
    deaf: bool = False
    udp_blocked: bool = False


class DatagramSink(Protocol):
    """Where a stream's datagrams go."""

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Take one datagram."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the stream has ended."""


class _Socket(StunProtocol):
    """aioice's socket protocol, which a vanished peer neither reads nor writes."""

    receiver: IceConnection
    blocked = False

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        # An empty datagram from a stranger would end the DTLS transport with an IndexError.
        if self.receiver.silent or self.blocked or not data:
            return
        super().datagram_received(data, addr)

    async def send_data(self, data: bytes, addr: Address) -> None:
        if not (self.receiver.silent or self.blocked):
            await super().send_data(data, addr)

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        if not (self.receiver.silent or self.blocked):
            super().send_stun(message, addr)


class StreamTransport(Protocol):
    """What aioice uses of a transport."""

    def sendto(self, data: bytes, addr: Address) -> None:
        """Send one datagram."""

    def close(self) -> None:
        """End the stream."""


class SharedUdpPort(asyncio.DatagramProtocol):
    """One UDP socket for all sessions: checks find theirs by username, packets by the address that proved itself."""

    def __init__(self) -> None:
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._by_username: dict[str, _Socket] = {}
        self._by_address: dict[Address, _Socket] = {}
        self.transport: asyncio.DatagramTransport

    @classmethod
    async def open(cls, host: str, port: int) -> SharedUdpPort:
        """Bind `host`; port 0 takes any free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, shared = await loop.create_datagram_endpoint(cls, local_addr=(host, port))
        return shared

    @property
    def address(self) -> Address:
        """Host and port bound."""
        name: tuple[Any, ...] = self.transport.get_extra_info("sockname")
        return (str(name[0]), int(name[1]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket's transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is free."""
        del exc
        if not self._closed.done():
            self._closed.set_result(None)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Hand a datagram to its session; one of nobody's is dropped."""
        address = (str(addr[0]), int(addr[1]))
        socket = self._by_address.get(address)
        if data and data[0] in _STUN:
            socket = self._claim(data, address) or socket
        if socket is not None:
            socket.datagram_received(data, address)

    def add(self, socket: _Socket, username: str) -> None:
        """Serve a session under this ICE username."""
        self._by_username[username] = socket
        socket.connection_made(cast("asyncio.BaseTransport", _SharedTransport(self, socket)))

    def remove(self, socket: _Socket) -> None:
        """Forget a session."""
        self._by_username = {name: one for name, one in self._by_username.items() if one is not socket}
        self._by_address = {name: one for name, one in self._by_address.items() if one is not socket}

    async def close(self) -> None:
        """Free the port."""
        self.transport.close()
        await self._closed

    def _claim(self, data: bytes, address: Address) -> _Socket | None:
        """Find the session a STUN message is for; an authentic check makes its address the session's from now on."""
        try:
            message = stun.parse_message(data)
            if message.message_class is not stun.Class.REQUEST:
                # The answer to our check may come before the first check of the peer.
                return next((s for s in self._by_username.values() if message.transaction_id in s.transactions), None)
            socket = self._by_username.get(str(message.attributes.get("USERNAME", "")).partition(":")[0])
            if socket is None:
                return None
            authentic = message.check_message_integrity(socket.receiver.local_password.encode())
        # aioice's parser raises several kinds of error on hostile bytes: none of them is a check for us.
        except Exception:  # noqa: BLE001
            return None
        known = sum(one is socket for one in self._by_address.values())
        if authentic and (address in self._by_address or known < MAX_ADDRESSES):
            self._by_address[address] = socket
        return socket


class _SharedTransport:
    """What one session's socket protocol sees of the shared port."""

    def __init__(self, shared: SharedUdpPort, socket: _Socket) -> None:
        self._shared = shared
        self._socket = socket

    def sendto(self, data: bytes, addr: Address) -> None:
        self._shared.transport.sendto(data, addr)

    def get_extra_info(self, name: str) -> Any:
        return self._shared.transport.get_extra_info(name)

    def close(self) -> None:
        self._shared.remove(self._socket)
        self._socket.connection_lost(None)


class IceConnection(Connection):
    """aioice's agent with the service's habits."""

    def __init__(self, username: str, *, controlling: bool, habits: IceHabits) -> None:
        super().__init__(ice_controlling=controlling)
        # aioice refuses "-" in a username, the service's has some: so it is set past the check.
        self._local_username = username
        self._local_password = secrets.token_hex(12)
        self._habits = habits
        self._last_check = time.monotonic()
        self._streams = 0
        self.silent = habits.deaf
        self.counts = PacketCounts()

    async def gather_on(self, addresses: Sequence[str], shared: Sequence[SharedUdpPort]) -> None:
        """Own gathering: aioice takes neither loopback nor a list of addresses. Raises OSError."""
        loop = asyncio.get_running_loop()
        for port in shared:
            socket = _Socket(self)
            port.add(socket, self.local_username)
            self._add_socket(socket)
        for address in () if shared else addresses:
            _, socket = await loop.create_datagram_endpoint(lambda: _Socket(self), local_addr=(address, 0))
            self._add_socket(socket)
        self._local_candidates_start = self._local_candidates_end = True

    def add_stream(self, stream: StreamTransport) -> DatagramSink | None:
        """Take a TCP connection of the peer; None when it has too many."""
        if self._streams == MAX_STREAMS:
            return None
        self._streams += 1
        socket = _Socket(self)
        socket.connection_made(cast("asyncio.BaseTransport", stream))
        # Never announced: the answer lists the port that all sessions share.
        priority = candidate_priority(1, "host") >> 1
        socket.local_candidate = Candidate("tcp", 1, "tcp", priority, "0.0.0.0", 9, "host")  # noqa: S104
        self._protocols.append(socket)
        return socket

    async def connect(self) -> None:
        """Run the checks, or wait for the peer's (lite). Raises ConnectionError."""
        if not self._habits.lite:
            await super().connect()
            return
        # A lite agent sends no checks; it waits for the peer's nomination (RFC 8445 §6.1.1).
        early = list(self._early_checks)
        self._early_checks.clear()
        self._early_checks_done = True
        for check in early:
            self.check_incoming(*check)
        if await self._check_list_state.get() != ICE_COMPLETED:
            raise ConnectionError("ICE negotiation failed")
        self._query_consent_task = asyncio.create_task(self._watch_liveness())

    def request_received(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Answer a check, unless the quirk says otherwise."""
        self._last_check = time.monotonic()
        if self._habits.consent_quirk and self._nominated and "USE-CANDIDATE" not in message.attributes:
            return
        super().request_received(message, addr, protocol)

    def check_incoming(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Nominate what the peer nominates (lite), or check back."""
        if not self._habits.lite:
            super().check_incoming(message, addr, protocol)
        elif "USE-CANDIDATE" in message.attributes:
            self._nominate(addr, protocol)

    def data_received(self, data: bytes, component: int) -> None:
        """Count RTP on its way in."""
        if _is_rtp(data):
            self.counts.packets_received += 1
            self.counts.bytes_received += len(data)
        super().data_received(data, component)

    async def send(self, data: bytes) -> None:
        """Count RTP on its way out."""
        if _is_rtp(data):
            self.counts.packets_sent += 1
            self.counts.bytes_sent += len(data)
        await super().send(data)

    def _add_socket(self, socket: _Socket) -> None:
        host, port = socket.transport.get_extra_info("sockname")[:2]
        socket.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=1,
            transport="udp",
            # Earlier addresses are preferred, so that priorities differ (RFC 8445 §5.1.2.1).
            priority=candidate_priority(1, "host") - 256 * len(self._local_candidates),
            host=host,
            port=port,
            type="host",
        )
        socket.blocked = self._habits.udp_blocked
        self._protocols.append(socket)
        self._local_candidates.append(socket.local_candidate)

    def _nominate(self, addr: Address, protocol: StunProtocol) -> None:
        remote = Candidate("prflx", 1, "udp", candidate_priority(1, "prflx"), addr[0], addr[1], "prflx")
        pair = CandidatePair(protocol, remote)
        pair.state, pair.nominated = CandidatePair.State.SUCCEEDED, True
        self._nominated[1] = pair
        self._check_list_maybe_complete()

    async def _watch_liveness(self) -> None:
        while (quiet := time.monotonic() - self._last_check) < LITE_LIVENESS_SECONDS:  # noqa: ASYNC110
            # A check moves the deadline; waking for each would cost more than looking again at the end.
            await asyncio.sleep(LITE_LIVENESS_SECONDS - quiet)
        self._query_consent_task = None
        await self.close()


def _is_rtp(data: bytes) -> bool:
    # RFC 7983 §7, RFC 5761 §4.
    return len(data) > 1 and data[0] in _RTP and (data[1] & 0x7F) not in _RTCP


def ice_transport(connection: IceConnection) -> RTCIceTransport:
    """Put aiortc's ICE transport over our agent: its gatherer builds an aioice one and lets nobody choose."""
    gatherer = RTCIceGatherer(iceServers=[])
    gatherer._connection = connection  # noqa: SLF001
    return RTCIceTransport(gatherer)


def set_dtls_role(dtls: RTCDtlsTransport, *, client: bool) -> None:
    """`a=setup` decides the role, but without a peer connection aiortc would take it from the ICE role."""
    dtls._set_role("client" if client else "server")  # noqa: SLF001


def sender_ssrc(sender: RTCRtpSender) -> int:
    """Return the SSRC: the answer announces it before anything is sent."""
    return int(sender._ssrc)  # noqa: SLF001


def give_track(receiver: RTCRtpReceiver, sender: RTCRtpSender) -> RemoteStreamTrack:
    """Give a receiver its track and its reports' SSRC, which outside a peer connection it lacks."""
    track = RemoteStreamTrack(kind="audio")
    receiver._track = track  # noqa: SLF001
    receiver._set_rtcp_ssrc(sender._ssrc)  # noqa: SLF001
    return track


def lift_message_limit(sctp: RTCSctpTransport) -> None:
    """Let the oversized-event fault send more than the peer announced, which aiortc refuses to do."""
    sctp._remote_max_message_size = 0  # noqa: SLF001


async def settled(dtls: RTCDtlsTransport) -> None:
    """Wait for the pump task that `stop()` cancels but does not await."""
    task = dtls._task  # noqa: SLF001
    await dtls.stop()
    if task is not None:
        await asyncio.wait([task])
