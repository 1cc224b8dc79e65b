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
from relay.core.rtp import OPUS_CLOCK_RATE, DropCause, is_rtp
from relay.core.sdp_build import CNAME
from relay.rtc import forwarding
from relay.rtc.packet import Datagram, SrtpContext, load

# libsrtp keeps a context for every SSRC it ever authenticated: the first, and one change.
_SOURCES_ALLOWED = 2
_SRTCP_MIN_LENGTH = 8
_SILENT_REPORT_SECONDS = 4.5  # the tick after it
_SECONDS_PER_NTP_UNIT = 1 / 65_536


class RtpStream:
    """Both RTP directions of one leg, and its RTCP.

    `forward` takes the size of each authenticated inbound packet, which is in the packet buffer; `send` is what the
    other leg forwards to, and then a packet's whole way is the forwarder's. Clock readings are
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
        self.forwarder = forwarding.Forwarder(ssrc, send_datagram, packets_per_second, dropped)
        self.on_packet = self.forwarder.on_packet
        self.send = self.forwarder.send
        self.expect_other_source = self.forwarder.expect_other_source
        self._receive: SrtpContext | None = None
        self._transmit: SrtpContext | None = None
        self._rtcp_source: int | None = None
        self._rtcp_sources = 0
        self._last_sender_report: tuple[int, float] | None = None
        self._rtt: float | None = None
        self._remote_loss: float | None = None
        self._reported_at = 0.0
        self._reported_packets = 0
        # What the peer reported last of our packets: how many it lost, the extended highest number it saw.
        self.remote_report: tuple[int, int] | None = None

    @property
    def forward(self) -> Callable[[int], None]:
        """Where each authenticated inbound packet goes."""
        return self.forwarder.forward

    @forward.setter
    def forward(self, forward: Callable[[int], None]) -> None:
        self.forwarder.forward = forward

    @property
    def send_datagram(self) -> Callable[[Datagram], bool]:
        """Where what this leg sends goes."""
        return self.forwarder.send_datagram

    @send_datagram.setter
    def send_datagram(self, send: Callable[[Datagram], bool]) -> None:
        self.forwarder.send_datagram = send

    @property
    def packets_in(self) -> int:
        """Authenticated packets that came."""
        return self.forwarder.packets_in

    def start(self, contexts: tuple[SrtpContext, SrtpContext], payload_type: int) -> None:
        """Begin: SRTP contexts (inbound, outbound) and the leg's Opus payload type."""
        self._receive, self._transmit = contexts
        self.forwarder.start(*contexts, payload_type)

    def on_rtp(self, datagram: bytes) -> bool:
        """Take one SRTP datagram that did not come through the packet buffer; whether it is the peer's."""
        if is_rtp(datagram, len(datagram)):
            return self.on_packet(load(datagram))
        self.dropped[DropCause.MALFORMED] += 1
        return False

    def on_rtcp(self, datagram: bytes) -> None:
        """Take one SRTCP datagram: reports of this leg's peer end here."""
        if self._receive is None:
            self.dropped[DropCause.NOT_READY] += 1
            return
        if len(datagram) < _SRTCP_MIN_LENGTH:
            self.dropped[DropCause.RTCP_MALFORMED] += 1
            return
        if not self.forwarder.within_rate():
            self.dropped[DropCause.RATE] += 1
            return
        (ssrc,) = unpack_from("!I", datagram, 4)
        known = ssrc in {self.forwarder.source, self._rtcp_source}
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
        """Once a second: open a new rate window and send this leg's own report.

        While nothing flows a report goes every 5 s, the least that RFC 3550 section 6.2 asks for.
        """
        forwarder = self.forwarder
        forwarder.open_window()
        if self._transmit is None:
            return
        packets = forwarder.packets_in + forwarder.packets_out
        if packets == self._reported_packets and now - self._reported_at < _SILENT_REPORT_SECONDS:
            return
        self._reported_packets, self._reported_at = packets, now
        report = Report(self.ssrc, self._sender_info(now, unix), self._report_blocks(now))
        try:
            self.send_datagram(self._transmit.protect_rtcp(build_compound(report, CNAME)))
        except (pylibsrtp.Error, ValueError):
            self.dropped[DropCause.SEND_FAILED] += 1

    def snapshot(self) -> LegCounters:
        """What was counted until now."""
        forwarder = self.forwarder
        return LegCounters(
            packets_in=forwarder.packets_in,
            bytes_in=forwarder.bytes_in,
            packets_out=forwarder.packets_out,
            bytes_out=forwarder.bytes_out,
            packets_lost=forwarder.lost,
            jitter_seconds=forwarder.jitter_seconds if forwarder.packets_in else None,
            rtt_seconds=self._rtt,
            remote_loss=self._remote_loss,
            dropped={cause.value: number for cause, number in self.dropped.items()},
        )

    def _read_reports(self, packets: list[Report | Goodbye]) -> None:
        now = monotonic()
        for packet in packets:
            if not isinstance(packet, Report):
                continue
            if packet.sender is not None and packet.ssrc == self.forwarder.source:
                self._last_sender_report = (middle_of_ntp(packet.sender.ntp), now)
            for block in packet.blocks:
                if block.ssrc != self.ssrc:
                    continue
                self._remote_loss = block.fraction_lost / 256
                self.remote_report = (block.lost, block.highest_sequence)
                if block.last_report:
                    # RFC 3550 section 6.4.1: round trip = arrival - last report - delay since it.
                    elapsed = (middle_of_ntp(ntp_time(time.time())) - block.last_report - block.delay) & 0xFFFFFFFF
                    if elapsed < 0x80000000:  # noqa: PLR2004 - a clock that stepped back gives a huge difference
                        self._rtt = elapsed * _SECONDS_PER_NTP_UNIT

    def _sender_info(self, now: float, unix: float) -> SenderInfo | None:
        forwarder = self.forwarder
        sent_at = forwarder.last_sent_at
        if sent_at is None:
            return None
        current = (forwarder.newest_timestamp + int((now - sent_at) * OPUS_CLOCK_RATE)) & 0xFFFFFFFF
        return SenderInfo(ntp_time(unix), current, forwarder.packets_out, forwarder.bytes_out)

    def _report_blocks(self, now: float) -> tuple[ReportBlock, ...]:
        source = self.forwarder.source
        if source is None:
            return ()
        last, delay = 0, 0
        if self._last_sender_report is not None:
            last, came_at = self._last_sender_report
            delay = int((now - came_at) / _SECONDS_PER_NTP_UNIT)
        return (ReportBlock(source, *self.forwarder.take_report(), last, delay),)
