"""The sending half of an SCTP association: fragments, congestion and flow control, retransmission (RFC 9260).

Sizes are bytes of user data; times are monotonic seconds, handed in. One destination, everything ordered and reliable.
"""

from __future__ import annotations

from collections import deque

from relay.core.sctp_packet import (
    BEGINS,
    ENDS,
    MAX_USER_DATA,
    SACK_NOW,
    TSNS,
    WHOLE,
    Data,
    PeerBrokeRuleError,
    Sack,
    data_chunk,
    follows,
)

# RFC 9260 section 16; the first retransmission timeout is its RTO.Initial.
_RTO_INITIAL = 1.0
_RTO_MIN = 1.0
_RTO_MAX = 60.0
_RTO_ALPHA = 1 / 8
_RTO_BETA = 1 / 4
_MAX_BURST = 4
_MAX_RETRANSMISSIONS = 10
_MISSES = 3
# RFC 9260 section 7.2.1.
_FIRST_WINDOW = min(4 * MAX_USER_DATA, max(2 * MAX_USER_DATA, 4404))
_SEQUENCES = 1 << 16
# Chunks kept until the peer has all before them: one that acknowledges the later alone must not have us keep them all.
_MOST_KEPT = 1_024


class _Chunk:
    """A chunk that is waiting or under way. `acked` by a gap block it may be given up again by its receiver."""

    __slots__ = ("acked", "in_flight", "misses", "repeated", "sends", "sent_at", "size", "tsn", "waits", "wire")

    def __init__(self, tsn: int, size: int, wire: bytes) -> None:
        self.tsn = tsn
        self.size = size
        self.wire = wire
        self.sends = self.misses = 0
        self.sent_at = 0.0
        # `waits` to be sent again; `repeated` by a fast retransmission, of which there is one.
        self.acked = self.in_flight = self.waits = self.repeated = False


class Outbox:
    """Takes messages and gives the packets that may go now.

    `next_tsn` is that of the next new chunk. `deadline` is when `on_timeout` is to be called; None while nothing is
    under way. `failed` tells that the peer did not answer for ten timeouts (RFC 9260 section 8.1).
    """

    __slots__ = (
        "_again",
        "_cwnd",
        "_fast_exit",
        "_fast_send",
        "_flight",
        "_gapped",
        "_last_sack",
        "_last_sent",
        "_partly_acked",
        "_peer_window",
        "_rto",
        "_rttvar",
        "_sent",
        "_sequences",
        "_srtt",
        "_ssthresh",
        "_timeouts",
        "_waiting",
        "deadline",
        "next_tsn",
        "waiting_bytes",
    )

    def __init__(self, initial_tsn: int, sequences: dict[int, int]) -> None:
        """`sequences` has the next sequence number of each stream; whoever resets a stream takes it out (RFC 6525)."""
        self.next_tsn = initial_tsn
        self.deadline: float | None = None
        self.waiting_bytes = 0
        self._waiting: deque[_Chunk] = deque()
        self._sent: deque[_Chunk] = deque()
        self._sequences = sequences
        self._last_sack = (initial_tsn - 1) % TSNS
        # Chunks that wait to be sent again.
        self._again = 0
        self._flight = self._timeouts = self._partly_acked = 0
        self._peer_window = self._ssthresh = 1 << 17
        self._cwnd = _FIRST_WINDOW
        self._fast_exit: int | None = None
        self._fast_send = self._gapped = False
        self._rto = _RTO_INITIAL
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._last_sent = 0.0

    @property
    def failed(self) -> bool:
        """Whether the peer is to be given up."""
        return self._timeouts > _MAX_RETRANSMISSIONS

    def begin(self, peer_window: int) -> None:
        """Learn what the peer can keep, from its INIT or INIT ACK."""
        self._peer_window = self._ssthresh = peer_window

    def push(self, stream: int, protocol: int, payload: bytes) -> None:
        """Take one message, of at least one byte."""
        sequence = self._sequences.get(stream, 0)
        self._sequences[stream] = (sequence + 1) % _SEQUENCES
        size = len(payload)
        self.waiting_bytes += size
        if size <= MAX_USER_DATA:
            self._add(Data(WHOLE, self.next_tsn, stream, protocol, payload), sequence)
            return
        for at in range(0, size, MAX_USER_DATA):
            flags = (0 if at else BEGINS) | (ENDS if at + MAX_USER_DATA >= size else 0)
            piece = payload[at : at + MAX_USER_DATA]
            self._add(Data(flags, self.next_tsn, stream, protocol, piece), sequence)

    def send_one(self, stream: int, protocol: int, payload: bytes, now: float) -> bytes:
        """Take one message that can go at once, alone: its chunk. Empty if it has to be pushed and to wait."""
        size = len(payload)
        if (
            self._waiting
            or self._again
            or size > MAX_USER_DATA
            or len(self._sent) >= _MOST_KEPT
            or (self._flight and (size > self._peer_window or self._flight >= self._cwnd))
        ):
            return b""
        if not self._flight:
            self._limit(now)
        sequence = self._sequences.get(stream, 0)
        self._sequences[stream] = (sequence + 1) % _SEQUENCES
        chunk = _Chunk(self.next_tsn, size, data_chunk(Data(WHOLE, self.next_tsn, stream, protocol, payload), sequence))
        self.next_tsn = (self.next_tsn + 1) % TSNS
        self._peer_window = max(0, self._peer_window - size)
        self._sent.append(chunk)
        self._launch(chunk, now)
        if self.deadline is None:
            self.deadline = now + self._rto
        return chunk.wire

    @property
    def has_work(self) -> bool:
        """Whether anything waits to be sent, for the first time or again."""
        return bool(self._waiting or self._again)

    def packets(self, now: float, room: int, first: bytes = b"") -> list[bytes]:
        """The chunks of each packet that may go now, at most `room` bytes each; `first` goes before them.

        An empty list if nothing may go; `first` did not go then.
        """
        if not self._waiting and not self._again:
            return []
        limit = self._limit(now)
        packets: list[bytes] = []
        body = first
        for chunk in self._next_chunks(now, limit):
            if len(body) + len(chunk.wire) > room and body:
                packets.append(body)
                body = b""
            body += chunk.wire
        if body is not first:
            packets.append(body)
        return packets

    def on_sack(self, sack: Sack, now: float) -> None:
        """Take an acknowledgement. Raises PeerBrokeRuleError when it is of what was never sent."""
        outstanding = (self.next_tsn - 1 - sack.cumulative) % TSNS
        if outstanding >= TSNS >> 1 or (sack.gaps and sack.gaps[-1][1] > outstanding):
            raise PeerBrokeRuleError("SACK of what was never sent")
        if follows(self._last_sack, sack.cumulative):
            return  # out of order: newer ones are known
        full = self._flight >= self._cwnd
        advanced = sack.cumulative != self._last_sack
        self._last_sack = sack.cumulative
        self._timeouts = 0
        acked = self._take_cumulative(sack.cumulative, now) if advanced else 0
        lost = False
        if sack.gaps or self._gapped:
            self._gapped = bool(sack.gaps)
            newly, highest = self._take_gaps(sack)
            acked += newly
            lost = self._count_misses(sack, highest, advanced=advanced)
        self._adjust_window(acked, full=full and advanced, lost=lost)
        self._peer_window = max(0, sack.window - self._flight)
        if not self._sent:
            self.deadline = None
        elif advanced or self.deadline is None:
            self.deadline = now + self._rto

    def on_timeout(self, now: float) -> None:
        """The earliest chunk was not acknowledged in time (RFC 9260 section 6.3.3)."""
        self._timeouts += 1
        self._ssthresh = max(self._cwnd // 2, 4 * MAX_USER_DATA)
        self._cwnd = MAX_USER_DATA
        self._partly_acked = 0
        self._fast_exit = None
        self._fast_send = False
        self._rto = min(self._rto * 2, _RTO_MAX)
        self.deadline = now + self._rto
        for chunk in self._sent:
            if not chunk.acked:
                chunk.misses = 0
                self._repeat(chunk)

    def _add(self, data: Data, sequence: int) -> None:
        self._waiting.append(_Chunk(data.tsn, len(data.payload), data_chunk(data, sequence)))
        self.next_tsn = (data.tsn + 1) % TSNS

    # --- what may go -------------------------------------------------------------------------------------------------

    def _limit(self, now: float) -> int:
        """Bytes that may be under way (RFC 9260 section 6.1, rules B and D)."""
        if not self._flight:
            # Section 7.2.1: a window that was not used for a while says little of the path.
            idle = now - self._last_sent
            if idle > self._rto and self._cwnd > 4 * MAX_USER_DATA:
                self._ssthresh = self._cwnd
            while idle > self._rto and self._cwnd > 4 * MAX_USER_DATA:
                self._cwnd = max(self._cwnd // 2, 4 * MAX_USER_DATA)
                idle -= self._rto
        return min(self._cwnd, self._flight + _MAX_BURST * MAX_USER_DATA)

    def _next_chunks(self, now: float, limit: int) -> list[_Chunk]:
        going: list[_Chunk] = []
        sent = self._sent
        if self._again and not self._send_again(going, limit, now):
            return going
        waiting = self._waiting
        while waiting and self._flight < limit and len(sent) < _MOST_KEPT:
            chunk = waiting[0]
            # Rule A: into a full peer goes one chunk at a time, to learn when it takes more.
            if chunk.size > self._peer_window and self._flight:
                break
            waiting.popleft()
            self.waiting_bytes -= chunk.size
            self._peer_window = max(0, self._peer_window - chunk.size)
            sent.append(chunk)
            self._launch(chunk, now)
            going.append(chunk)
            if self.deadline is None:
                self.deadline = now + self._rto
        if going and waiting:
            # RFC 7053 section 5.2: we wait for this one's SACK.
            last = going[-1].wire
            going[-1].wire = last[:1] + bytes([last[1] | SACK_NOW]) + last[2:]
        return going

    def _send_again(self, going: list[_Chunk], limit: int, now: float) -> bool:
        """Take what waits to be sent again; False if some of it has to go on waiting, and new data with it."""
        earliest = True
        for chunk in self._sent:
            if chunk.waits:
                if self._fast_send:
                    self._fast_send = False  # section 7.2.4: the first goes whatever the window says
                elif self._flight >= limit:
                    return False
                chunk.waits = False
                chunk.misses = 0
                self._again -= 1
                self._launch(chunk, now)
                going.append(chunk)
                if earliest:
                    self.deadline = now + self._rto
            if not chunk.acked:
                earliest = False
        return True

    def _launch(self, chunk: _Chunk, now: float) -> None:
        chunk.in_flight = True
        self._flight += chunk.size
        chunk.sends += 1
        chunk.sent_at = self._last_sent = now

    def _repeat(self, chunk: _Chunk) -> None:
        """Have it sent again; until then it is not under way (section 1.3)."""
        if not chunk.waits:
            chunk.waits = True
            self._again += 1
        self._land(chunk)

    def _land(self, chunk: _Chunk) -> None:
        if chunk.in_flight:
            chunk.in_flight = False
            self._flight -= chunk.size

    # --- what was acknowledged ---------------------------------------------------------------------------------------

    def _take_cumulative(self, cumulative: int, now: float) -> int:
        acked = 0
        measured = False
        sent = self._sent
        while sent and not follows(sent[0].tsn, cumulative):
            chunk = sent.popleft()
            if chunk.waits:
                self._again -= 1
            if not chunk.acked:
                acked += chunk.size
                self._land(chunk)
                if not measured and chunk.sends == 1:  # section 6.3.1 C5: not of what was sent twice
                    measured = True
                    self._measure(now - chunk.sent_at)
        return acked

    def _take_gaps(self, sack: Sack) -> tuple[int, int | None]:
        """Mark what gap blocks tell: newly acknowledged bytes, and the highest TSN newly acknowledged."""
        acked, highest = 0, None
        gaps = iter(sack.gaps)
        first, last = next(gaps, (TSNS, TSNS))
        for chunk in self._sent:
            offset = (chunk.tsn - sack.cumulative) % TSNS
            while offset > last:
                first, last = next(gaps, (TSNS, TSNS))
            if offset >= first:
                if not chunk.acked:
                    chunk.acked = True
                    if chunk.waits:
                        chunk.waits = False
                        self._again -= 1
                    acked += chunk.size
                    highest = chunk.tsn
                    self._land(chunk)
            elif chunk.acked:
                # Section 6.2.1 D iii: the receiver dropped it again.
                chunk.acked = False
                chunk.in_flight = True
                self._flight += chunk.size
        return acked, highest

    def _count_misses(self, sack: Sack, highest: int | None, *, advanced: bool) -> bool:
        """Strike what is missing below what came (section 7.2.4); whether anything is to be sent again for it."""
        if self._fast_exit is not None and advanced and sack.gaps:
            highest = (sack.cumulative + sack.gaps[-1][1]) % TSNS
        if highest is None:
            return False
        lost = False
        for chunk in self._sent:
            if not follows(highest, chunk.tsn):
                break
            if chunk.acked or chunk.waits or chunk.repeated:
                continue
            chunk.misses += 1
            if chunk.misses == _MISSES:
                chunk.repeated = lost = True
                self._repeat(chunk)
        return lost

    def _adjust_window(self, acked: int, *, full: bool, lost: bool) -> None:
        """RFC 9260 sections 7.2.1 to 7.2.4."""
        if self._fast_exit is not None and not follows(self._fast_exit, self._last_sack):
            self._fast_exit = None
        if lost and self._fast_exit is None:
            self._ssthresh = max(self._cwnd // 2, 4 * MAX_USER_DATA)
            self._cwnd = self._ssthresh
            self._partly_acked = 0
            self._fast_exit = self._sent[-1].tsn
            self._fast_send = True
        elif self._fast_exit is None and full:
            if self._cwnd <= self._ssthresh:
                self._cwnd += min(acked, MAX_USER_DATA)
            else:
                self._partly_acked += acked
                if self._partly_acked >= self._cwnd:
                    self._partly_acked -= self._cwnd
                    self._cwnd += MAX_USER_DATA

    def _measure(self, seconds: float) -> None:
        """Follow the round-trip time (section 6.3.1)."""
        if self._srtt is None:
            self._srtt, self._rttvar = seconds, seconds / 2
        else:
            self._rttvar += _RTO_BETA * (abs(self._srtt - seconds) - self._rttvar)
            self._srtt += _RTO_ALPHA * (seconds - self._srtt)
        self._rto = max(_RTO_MIN, min(self._srtt + 4 * self._rttvar, _RTO_MAX))
