"""RTP of one leg: SRTP in, header rewritten, SRTP out; its own RTCP; plain integers for counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from struct import unpack_from
from time import monotonic

import pylibsrtp

from relay.core.lifecycle import LegCounters
from relay.core.rtcp import (
    Goodbye,
    Report,
    ReportBlock,
    SenderInfo,
    build_compound,
    middle_of_ntp,
    ntp_time,
    parse_compound,
)
from relay.core.rtp import HEADER_LENGTH, OPUS_CLOCK_RATE, DropCause, Reception, Rewriter, is_rtp
from relay.core.sdp_build import CNAME
from relay.rtc.packet import DATA, REPLAYED, VIEW, Datagram, SrtpContext, load

# libsrtp keeps a context for every SSRC it ever authenticated: the first, and one change.
_SOURCES_ALLOWED = 2
_SRTCP_MIN_LENGTH = 8
_SECONDS_PER_NTP_UNIT = 1 / 65_536


class RtpStream:
    """Both RTP directions of one leg.

    `forward` takes the size of each authenticated inbound packet, which is in the packet buffer; `send` is what the
    other leg forwards to. Clock readings are
    monotonic seconds; `packets_per_second` bounds what one peer may send; `dropped` is the leg's own count of drops.
    """

    def __init__(
        self,
        ssrc: int,
        send_datagram: Callable[[Datagram], bool],
        packets_per_second: int,
        dropped: Counter[DropCause],
    ) -> None:
        self.ssrc = ssrc
        self.dropped = dropped
        self.forward: Callable[[int], None] = self._nobody
        self.packets_in = self.bytes_in = self.packets_out = self.bytes_out = 0
        self.send_datagram = send_datagram
        self._packets_per_second = packets_per_second
        self._window_packets = 0
        self._receive: SrtpContext | None = None
        self._transmit: SrtpContext | None = None
        self._payload_type = -1
        self._rewriter = Rewriter(ssrc, 0)
        self._source: int | None = None
        self._sources = 0
        self._rtcp_source: int | None = None
        self._rtcp_sources = 0
        self._reception = Reception()
        self._lost_before = 0
        self._last_sent_at: float | None = None
        self._last_sender_report: tuple[int, float] | None = None
        self._rtt: float | None = None
        self._remote_loss: float | None = None

    def start(self, contexts: tuple[SrtpContext, SrtpContext], payload_type: int) -> None:
        """Begin: SRTP contexts (inbound, outbound) and the leg's Opus payload type."""
        self._receive, self._transmit = contexts
        self._payload_type = self._rewriter.payload_type = payload_type

    def on_rtp(self, datagram: bytes) -> bool:
        """Take one SRTP datagram that did not come through the packet buffer; whether it is the peer's."""
        if is_rtp(datagram, len(datagram)):
            return self.on_packet(load(datagram))
        self.dropped[DropCause.MALFORMED] += 1
        return False

    def on_packet(self, size: int) -> bool:
        """Take the SRTP packet in the buffer: judged before it costs anything, authenticated, counted, forwarded.

        Returns whether it is the peer's.
        """
        receive = self._receive
        if receive is None:
            self.dropped[DropCause.NOT_READY] += 1
            return False
        second, sequence, timestamp, ssrc = unpack_from("!xBHII", DATA)
        if second & 0x7F != self._payload_type:
            self.dropped[DropCause.PAYLOAD_TYPE] += 1
            return False
        self._window_packets += 1
        if self._window_packets > self._packets_per_second:
            self.dropped[DropCause.RATE] += 1
            return False
        if ssrc != self._source and self._sources >= _SOURCES_ALLOWED:
            self.dropped[DropCause.SSRC] += 1
            return False
        size = receive.unprotect(size)
        if size < HEADER_LENGTH:
            self.dropped[DropCause.REPLAY if size in REPLAYED else DropCause.NOT_AUTHENTIC] += 1
            return False
        if ssrc != self._source:
            self._adopt(ssrc)
        self.packets_in += 1
        self.bytes_in += size
        self._reception.on_packet(sequence, timestamp, monotonic())
        self.forward(size)
        return True

    def send(self, size: int) -> None:
        """Send the packet in the buffer, one of the other leg's, as this leg's stream."""
        transmit = self._transmit
        if transmit is None:
            self.dropped[DropCause.OTHER_LEG_NOT_READY] += 1
            return
        size = self._rewriter.rewrite(DATA, size)
        if not size:
            self.dropped[DropCause.MALFORMED] += 1
            return
        protected = transmit.protect(size)
        if protected < 0 or not self.send_datagram(VIEW[:protected]):
            self.dropped[DropCause.SEND_FAILED] += 1
            return
        self.packets_out += 1
        self.bytes_out += size - HEADER_LENGTH
        self._last_sent_at = monotonic()

    def expect_other_source(self) -> None:
        """What is forwarded to this stream comes from another peer from now on; it stays one stream.

        That peer may use the SSRC of the one before, and numbers that were used: SRTP must see none of them twice (RFC
        3711 section 9.1).
        """
        self._rewriter.expect_other_source()

    def on_rtcp(self, datagram: bytes) -> None:
        """Take one SRTCP datagram: reports of this leg's peer end here."""
        if self._receive is None:
            self.dropped[DropCause.NOT_READY] += 1
            return
        if len(datagram) < _SRTCP_MIN_LENGTH:
            self.dropped[DropCause.RTCP_MALFORMED] += 1
            return
        self._window_packets += 1
        if self._window_packets > self._packets_per_second:
            self.dropped[DropCause.RATE] += 1
            return
        (ssrc,) = unpack_from("!I", datagram, 4)
        known = ssrc in {self._source, self._rtcp_source}
        if not known and self._rtcp_sources >= _SOURCES_ALLOWED:
            self.dropped[DropCause.SSRC] += 1
            return
        try:
            packets = parse_compound(self._receive.unprotect_rtcp(datagram))
        except (pylibsrtp.Error, ValueError) as error:
            self.dropped[DropCause.REPLAY if "replay" in str(error) else DropCause.NOT_AUTHENTIC] += 1
            return
        if not known:
            self._rtcp_source = ssrc
            self._rtcp_sources += 1
        if packets is None:
            self.dropped[DropCause.RTCP_MALFORMED] += 1
            return
        self._read_reports(packets)

    def tick(self, now: float, unix: float) -> None:
        """Once a second: open a new rate window and send this leg's own report."""
        self._window_packets = 0
        if self._transmit is None:
            return
        report = Report(self.ssrc, self._sender_info(now, unix), self._report_blocks(now))
        try:
            self.send_datagram(self._transmit.protect_rtcp(build_compound(report, CNAME)))
        except (pylibsrtp.Error, ValueError):
            self.dropped[DropCause.SEND_FAILED] += 1

    def snapshot(self) -> LegCounters:
        """What was counted until now."""
        return LegCounters(
            packets_in=self.packets_in,
            bytes_in=self.bytes_in,
            packets_out=self.packets_out,
            bytes_out=self.bytes_out,
            packets_lost=self._lost_before + self._reception.lost,
            jitter_seconds=self._reception.jitter_seconds if self.packets_in else None,
            rtt_seconds=self._rtt,
            remote_loss=self._remote_loss,
            dropped={cause.value: number for cause, number in self.dropped.items()},
        )

    def _nobody(self, size: int) -> None:
        del size
        self.dropped[DropCause.OTHER_LEG_NOT_READY] += 1

    def _adopt(self, ssrc: int) -> None:
        self._lost_before += self._reception.lost
        self._reception = Reception()
        self._source = ssrc
        self._sources += 1

    def _read_reports(self, packets: list[Report | Goodbye]) -> None:
        now = monotonic()
        for packet in packets:
            if not isinstance(packet, Report):
                continue
            if packet.sender is not None and packet.ssrc == self._source:
                self._last_sender_report = (middle_of_ntp(packet.sender.ntp), now)
            for block in packet.blocks:
                if block.ssrc != self.ssrc:
                    continue
                self._remote_loss = block.fraction_lost / 256
                if block.last_report:
                    # RFC 3550 section 6.4.1: round trip = arrival - last report - delay since it.
                    elapsed = (middle_of_ntp(ntp_time(time.time())) - block.last_report - block.delay) & 0xFFFFFFFF
                    if elapsed < 0x80000000:  # noqa: PLR2004 - a clock that stepped back gives a huge difference
                        self._rtt = elapsed * _SECONDS_PER_NTP_UNIT

    def _sender_info(self, now: float, unix: float) -> SenderInfo | None:
        if self._last_sent_at is None:
            return None
        current = (self._rewriter.newest_timestamp + int((now - self._last_sent_at) * OPUS_CLOCK_RATE)) & 0xFFFFFFFF
        return SenderInfo(ntp_time(unix), current, self.packets_out, self.bytes_out)

    def _report_blocks(self, now: float) -> tuple[ReportBlock, ...]:
        if self._source is None:
            return ()
        last, delay = 0, 0
        if self._last_sender_report is not None:
            last, came_at = self._last_sender_report
            delay = int((now - came_at) / _SECONDS_PER_NTP_UNIT)
        reception = self._reception
        return (
            ReportBlock(self._source, reception.take_fraction_lost(), reception.lost, reception.extended_highest,
                        reception.jitter_units, last, delay),
        )  # fmt: skip
