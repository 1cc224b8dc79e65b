"""RTCP as one leg speaks it: sender and receiver reports with one source each (RFC 3550 section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - struct spells its exception like a function
from struct import pack, unpack_from

_SENDER_REPORT = 200
_RECEIVER_REPORT = 201
_SOURCE_DESCRIPTION = 202
_GOODBYE = 203
_CNAME = 1
_VERSION_2 = 0x80
_NTP_EPOCH = 2_208_988_800
_REPORT_BLOCK_LENGTH = 24
_MAX_REPORT_BLOCKS = 31


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one receiver says of one source.

    `fraction_lost` is in 1/256; `jitter` in timestamp units; `last_report` is the middle of the NTP time of the last
    sender report and `delay` the time since it came, both in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest_sequence: int
    jitter: int
    last_report: int
    delay: int


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """A sender's own count: NTP time (64 bits), RTP timestamp of the same moment, packets and payload bytes sent."""

    ntp: int
    timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Report:
    """A sender report (`sender` set) or receiver report."""

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A source says that it leaves."""

    ssrc: int


def ntp_time(unix: float) -> int:
    """64-bit NTP time of a Unix time in seconds (RFC 3550 section 4)."""
    return int((unix + _NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def middle_of_ntp(ntp: int) -> int:
    """The middle 32 bits of an NTP time, as reports carry it."""
    return (ntp >> 16) & 0xFFFFFFFF


def build_compound(report: Report, cname: str) -> bytes:
    """Build the compound packet a participant must send: a report, then its CNAME (RFC 3550 section 6.1)."""
    body = pack("!I", report.ssrc)
    if report.sender is not None:
        sender = report.sender
        body += pack("!QIII", sender.ntp, sender.timestamp, sender.packets & 0xFFFFFFFF, sender.octets & 0xFFFFFFFF)
    for block in report.blocks:
        lost = max(-0x800000, min(block.lost, 0x7FFFFF)) & 0xFFFFFF
        body += pack("!IIIIII", block.ssrc, (block.fraction_lost << 24) | lost, block.highest_sequence,
                     block.jitter & 0xFFFFFFFF, block.last_report, block.delay & 0xFFFFFFFF)  # fmt: skip
    kind = _RECEIVER_REPORT if report.sender is None else _SENDER_REPORT
    head = pack("!BBH", _VERSION_2 | len(report.blocks), kind, len(body) // 4)
    name = cname.encode()
    item = pack("!IBB", report.ssrc, _CNAME, len(name)) + name
    item += bytes(4 - len(item) % 4)
    return head + body + pack("!BBH", _VERSION_2 | 1, _SOURCE_DESCRIPTION, len(item) // 4) + item


def parse_compound(data: bytes) -> list[Report | Goodbye] | None:
    """Read reports and goodbyes of a compound packet, ignoring other types; None if it is malformed."""
    found: list[Report | Goodbye] = []
    at = 0
    try:
        while at < len(data):
            first, kind, words = unpack_from("!BBH", data, at)
            end = at + 4 + 4 * words
            if first & 0xC0 != _VERSION_2 or end > len(data):
                return None
            if kind in {_SENDER_REPORT, _RECEIVER_REPORT}:
                found.append(_parse_report(data[at + 4 : end], first & 0x1F, is_sender=kind == _SENDER_REPORT))
            elif kind == _GOODBYE and words:
                found.append(Goodbye(unpack_from("!I", data, at + 4)[0]))
            at = end
    except StructError:
        return None
    return found


def _parse_report(body: bytes, count: int, *, is_sender: bool) -> Report:
    (ssrc,) = unpack_from("!I", body)
    at = 4
    sender = None
    if is_sender:
        sender = SenderInfo(*unpack_from("!QIII", body, at))
        at += 20
    blocks = []
    for _ in range(min(count, _MAX_REPORT_BLOCKS)):
        source, loss, highest, jitter, last, delay = unpack_from("!IIIIII", body, at)
        lost = loss & 0xFFFFFF
        blocks.append(
            ReportBlock(source, loss >> 24, lost - 0x1000000 if lost & 0x800000 else lost, highest, jitter, last, delay)
        )
        at += _REPORT_BLOCK_LENGTH
    return Report(ssrc, sender, tuple(blocks))
