"""The forwarder in Python: datagram in, one packet's way through one leg, datagram out.

`forwarding_c/` does the same with the same names, drop causes and numbers; where the two differ, one is wrong.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import Counter
from collections.abc import Callable
from struct import Struct
from time import monotonic

from relay.core.rtp import HEADER_LENGTH, MAX_DATAGRAM, RTCP_TYPES, DropCause, Reception, Rewriter
from relay.core.stun import Address
from relay.rtc.packet import DATA, READ_BYTES, REPLAYED, SIZE, VIEW, Datagram, SrtpContext

# libsrtp keeps a context for every SSRC it ever authenticated: the first, and one change.
_SOURCES_ALLOWED = 2
# Sockets served before the loop serves others, and how often the kernel is asked for more of them at once.
_BATCH = 64
_QUEUE = range(16)
_ROUNDS = 4

_read_header = Struct("!xBHII").unpack_from

Fault = Callable[[Counter[DropCause], Exception], None]


class Forwarder:
    """The RTP of one leg. Packets are in the packet buffer.

    `forward` takes the size of each authenticated inbound packet; another forwarder's `send` is one such.
    `send_datagram` takes what goes out. `dropped` is the leg's own count. Clock readings are monotonic seconds.
    """

    __slots__ = (
        "__weakref__",
        "_lost_before",
        "_packets_per_second",
        "_payload_type",
        "_protect",
        "_receive",
        "_reception",
        "_rewriter",
        "_sources",
        "_transmit",
        "_unprotect",
        "_window_packets",
        "bytes_in",
        "bytes_out",
        "dropped",
        "forward",
        "last_sent_at",
        "packets_in",
        "packets_out",
        "send_datagram",
        "source",
    )  # fmt: skip

    def __init__(
        self,
        ssrc: int,
        send_datagram: Callable[[Datagram], bool],
        packets_per_second: int,
        dropped: Counter[DropCause],
    ) -> None:
        self.dropped = dropped
        self.forward: Callable[[int], None] = self._nobody
        self.send_datagram = send_datagram
        self.packets_in = self.bytes_in = self.packets_out = self.bytes_out = 0
        self.source: int | None = None
        self.last_sent_at: float | None = None
        self._packets_per_second = packets_per_second
        self._window_packets = 0
        self._receive: SrtpContext | None = None
        self._transmit: SrtpContext | None = None
        self._payload_type = -1
        self._rewriter = Rewriter(ssrc, 0)
        self._sources = 0
        self._reception = Reception()
        self._lost_before = 0

    def start(self, receive: SrtpContext, transmit: SrtpContext, payload_type: int) -> None:
        """Begin: SRTP contexts and the leg's Opus payload type."""
        self._receive, self._transmit = receive, transmit
        self._unprotect, self._protect = receive.run_unprotect, transmit.run_protect
        self._payload_type = self._rewriter.payload_type = payload_type

    def on_packet(self, size: int, arrival: float | None = None) -> bool:
        """Take an SRTP packet: judged before it costs anything, authenticated, counted, forwarded.

        Returns whether it is the peer's. `arrival` is when it came, if not now.
        """
        if self._receive is None:
            return self._drop(DropCause.NOT_READY)
        second, sequence, timestamp, ssrc = _read_header(DATA)
        if second & 0x7F != self._payload_type:
            return self._drop(DropCause.PAYLOAD_TYPE)
        self._window_packets += 1
        if self._window_packets > self._packets_per_second:
            return self._drop(DropCause.RATE)
        if ssrc != self.source and self._sources >= _SOURCES_ALLOWED:
            return self._drop(DropCause.SSRC)
        SIZE[0] = size
        status = self._unprotect()
        size = -status if status else SIZE[0]
        if size < HEADER_LENGTH:
            return self._drop(DropCause.REPLAY if size in REPLAYED else DropCause.NOT_AUTHENTIC)
        if ssrc != self.source:
            self._adopt(ssrc)
        self.packets_in += 1
        self.bytes_in += size
        self._reception.on_packet(sequence, timestamp, monotonic() if arrival is None else arrival)
        self.forward(size)
        return True

    def send(self, size: int) -> None:
        """Send a packet of the other leg's as this leg's stream."""
        if self._transmit is None:
            self.dropped[DropCause.OTHER_LEG_NOT_READY] += 1
            return
        size = self._rewriter.rewrite(DATA, size)
        if not size:
            self.dropped[DropCause.MALFORMED] += 1
            return
        SIZE[0] = size
        if self._protect() or not self.send_datagram(VIEW[: SIZE[0]]):
            self.dropped[DropCause.SEND_FAILED] += 1
            return
        self.packets_out += 1
        self.bytes_out += size - HEADER_LENGTH
        self.last_sent_at = monotonic()

    def expect_other_source(self) -> None:
        """What is forwarded to this stream comes from another peer from now on."""
        self._rewriter.expect_other_source()

    def open_window(self) -> None:
        """Begin a new second of the peer's rate."""
        self._window_packets = 0

    def within_rate(self) -> bool:
        """Count one more packet of the peer's; whether it is within the rate."""
        self._window_packets += 1
        return self._window_packets <= self._packets_per_second

    @property
    def newest_timestamp(self) -> int:
        """The furthest RTP timestamp that was sent."""
        return self._rewriter.newest_timestamp

    @property
    def lost(self) -> int:
        """Packets missing from all sources."""
        return self._lost_before + self._reception.lost

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter of the current source."""
        return self._reception.jitter_seconds

    def take_report(self) -> tuple[int, int, int, int]:
        """What a report says of the current source: fraction lost since the last call, lost, highest number, jitter.

        Units as in RFC 3550 section 6.4.1.
        """
        seen = self._reception
        return seen.take_fraction_lost(), seen.lost, seen.extended_highest, seen.jitter_units

    def _drop(self, cause: DropCause) -> bool:
        self.dropped[cause] += 1
        return False

    def _nobody(self, size: int) -> None:
        del size
        self.dropped[DropCause.OTHER_LEG_NOT_READY] += 1

    def _adopt(self, ssrc: int) -> None:
        self._lost_before += self._reception.lost
        self._reception = Reception()
        self.source = ssrc
        self._sources += 1


class Reader:
    """Reads a UDP socket into the packet buffer and hands every datagram on.

    RTP of a known address goes to its leg's forwarder, everything else to `on_read(size, address)`. At most `reads` are
    read before others are served. `fault(dropped, error)` hears of what one datagram caused.
    """

    __slots__ = (
        "_fault",
        "_on_read",
        "_only_peer",
        "_peer",
        "_reads",
        "_receive",
        "_receive_connected",
        "_routes",
        "_socket",
        "dropped",
        "open",
    )

    def __init__(
        self,
        sock: socket.socket,
        on_read: Callable[[int, Address], None],
        dropped: Counter[DropCause],
        reads: int,
        fault: Fault,
    ) -> None:
        self.open = True
        self.dropped = dropped
        self._socket = sock
        self._receive = sock.recvfrom_into
        self._receive_connected = sock.recv_into
        # Where the socket is connected to; the second is set once nobody else's datagrams are left in its queue.
        self._peer: Address | None = None
        self._only_peer: Address | None = None
        self._on_read = on_read
        self._reads = range(reads)
        self._fault = fault
        self._routes: dict[Address, tuple[Forwarder, Callable[[Datagram], bool], Callable[[], None] | None]] = {}

    def direct(
        self,
        address: Address,
        forwarder: Forwarder,
        send: Callable[[Datagram], bool],
        moved: Callable[[], None] | None,
    ) -> None:
        """Give RTP that comes from `address` to a forwarder at once.

        `moved` is called after each authentic packet while the forwarder sends by another way than `send`.
        """
        self._routes[address] = (forwarder, send, moved)

    def undirect(self, address: Address) -> None:
        """Give what comes from `address` to `on_read` again."""
        self._routes.pop(address, None)

    def sender(self, address: Address | None) -> Callable[[Datagram], bool]:
        """Send to one address, or where the socket is connected to; False if the kernel does not take it."""
        return _connected_sender(self._socket) if address is None else _sender(self._socket, address)

    def settle(self, address: Address) -> None:
        """The socket is connected to `address` now.

        Once what was queued before is read, the kernel need not say any more whose a datagram is.
        """
        self._peer, self._only_peer = address, None

    def close(self) -> None:
        """Read no more, forget every route."""
        self.open = False
        self._peer = self._only_peer = None
        self._reads = range(0)
        self._routes.clear()

    def read(self) -> None:
        """Read what is there; nothing once closed."""
        receive, peer, routes = self._receive, self._only_peer, self._routes
        for _ in self._reads if peer is self._peer else _QUEUE:
            try:
                if peer is None:
                    size, address = receive(VIEW, READ_BYTES)
                else:
                    size, address = self._receive_connected(VIEW, READ_BYTES), peer
            except BlockingIOError:
                self._only_peer = self._peer
                return
            except OSError:
                # An ICMP error of an earlier send; the consent checks decide what it means.
                return
            try:
                route = routes.get(address)
                # is_rtp, without a call.
                if (
                    route is not None
                    and HEADER_LENGTH <= size <= MAX_DATAGRAM
                    and DATA[0] & 0xC0 == 0x80  # noqa: PLR2004 - RTP version 2
                    and DATA[1] not in RTCP_TYPES
                ):
                    # The way of nearly all datagrams.
                    forwarder, send, moved = route
                    if forwarder.on_packet(size) and forwarder.send_datagram is not send and moved is not None:
                        moved()
                else:
                    self._on_read(size, address)
            except Exception as error:  # noqa: BLE001
                # A fault in the handling of one datagram must not cost anybody else theirs.
                self._fault(self.dropped, error)
            if not self.open:
                return


class Poller:
    """Serves every ready reader: in one callback of an event loop that watches `fileno()`, or in its `wait`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}
        self._other: int | None = None

    def __len__(self) -> int:
        return len(self._readers)

    def fileno(self) -> int:
        """What is readable when a reader is."""
        return self._epoll.fileno()

    def add(self, fd: int, reader: Reader) -> None:
        """Serve a reader, whose socket is `fd`."""
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = reader

    def remove(self, fd: int) -> None:
        """Serve it no more; before the socket is closed."""
        if self._readers.pop(fd, None) is not None:
            # Of a socket that is closed the kernel knows no more.
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def serve(self) -> None:
        """Let each ready reader read, a bounded number of times."""
        self.wait(0.0)

    def follow(self, fd: int) -> None:
        """Have `wait` return when this descriptor is ready: whatever else the event loop waits for."""
        self._epoll.register(fd, select.EPOLLIN)
        self._other = fd

    def wait(self, seconds: float) -> bool:
        """Wait so long (below 0: for ever) in place of the event loop, and serve each reader that is ready meanwhile.

        Returns as soon as there may be something else to do: True if what is followed is ready. The compiled one stays
        for packets that need nobody else.
        """
        timeout = None if seconds < 0 else seconds
        is_other_ready = False
        for _ in range(_ROUNDS):
            if self._epoll.closed:
                # The last socket was closed by what it had read: whoever waits has to look for itself.
                return True
            served = False
            for fd, _ in self._epoll.poll(timeout, _BATCH):
                # Asked for anew each time: a callback may have removed it.
                reader = self._readers.get(fd)
                if reader is not None:
                    served = True
                    reader.read()
                elif fd == self._other:
                    is_other_ready = True
            if not served:
                break
            timeout = 0
        return is_other_ready

    def close(self) -> None:
        """Free the descriptor, forget every reader."""
        self._epoll.close()
        self._readers.clear()


def _sender(sock: socket.socket, address: Address) -> Callable[[Datagram], bool]:
    sendto = sock.sendto

    def send(datagram: Datagram) -> bool:
        try:
            sendto(datagram, address)
        except OSError:
            return False
        return True

    return send


def _connected_sender(sock: socket.socket) -> Callable[[Datagram], bool]:
    to_peer = sock.send

    def send(datagram: Datagram) -> bool:
        try:
            to_peer(datagram)
        except OSError:
            return False
        return True

    return send
