"""IP packets as the link sees them: read, judged by class, translated, split, refused. No socket here."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import StrEnum

TCP, UDP = 6, 17
_DNS = 53
_ICMP, _ICMP6, _IPV6_FRAGMENT = 1, 58, 44
_IPV6_HEADER = 40
_MORE_FRAGMENTS, _DONT_FRAGMENT = 0x2000, 0x4000
_FRAGMENT_OFFSET = 0x1FFF
# RFC 1812 section 4.3.2.3 lets an error quote as much as fits into 576 bytes; RFC 4443 section 2.4 into 1280.
_QUOTED4, _QUOTED6 = 528, 1232
_CHECKSUM_AT = {TCP: 16, UDP: 6}


class Kind(StrEnum):
    """What a packet carries, by RFC 7983's first byte inside UDP."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    UDP = "udp"
    TCP = "tcp"
    ICMP = "icmp"
    OTHER = "other"


_KINDS = {TCP: Kind.TCP, _ICMP: Kind.ICMP, _ICMP6: Kind.ICMP}


@dataclass(slots=True)
class Packet:
    """One IP packet. Ports are 0 where there are none (ICMP, a later fragment); `data` changes with translation."""

    data: bytearray
    version: int
    protocol: int
    source: str
    target: str
    source_port: int
    target_port: int
    body: int
    """Where the transport's header begins; the packet's length for a fragment without one."""

    @property
    def may_fragment(self) -> bool:
        """Only IPv4 without DF; IPv6 routers never split (RFC 8200 section 5)."""
        return self.version == 4 and not int.from_bytes(self.data[6:8], "big") & _DONT_FRAGMENT

    @property
    def kind(self) -> Kind:
        """The class it is counted under."""
        if self.protocol != UDP:
            return _KINDS.get(self.protocol, Kind.OTHER)
        payload = self.data[self.body + 8 : self.body + 10]
        # A DNS message begins with a random number.
        if not self.source_port or len(payload) < 2 or _DNS in (self.source_port, self.target_port):
            return Kind.UDP
        return _inside_udp(payload[0], payload[1])

    @property
    def rtp(self) -> tuple[int, int] | None:
        """SSRC and sequence number, which SRTP leaves readable; None for anything else."""
        at = self.body + 8
        if self.kind is not Kind.RTP or len(self.data) < at + 12:
            return None
        return int.from_bytes(self.data[at + 8 : at + 12], "big"), int.from_bytes(self.data[at + 2 : at + 4], "big")

    def readdress(self, *, source: tuple[str, int] | None = None, target: tuple[str, int] | None = None) -> None:
        """Give it another source or target (port 0 keeps the port), every checksum following (RFC 1624)."""
        change = 0
        if source is not None:
            change += self._put(source[0], 0)
            change += self._put_port(source[1], 0)
            self.source, self.source_port = source[0], source[1] or self.source_port
        if target is not None:
            change += self._put(target[0], 1)
            change += self._put_port(target[1], 2)
            self.target, self.target_port = target[0], target[1] or self.target_port
        at = self.body + _CHECKSUM_AT.get(self.protocol, 0)
        if self.protocol in _CHECKSUM_AT and at + 2 <= len(self.data):
            old = int.from_bytes(self.data[at : at + 2], "big")
            if old or self.protocol == TCP:
                self.data[at : at + 2] = (0xFFFF - (0xFFFF - old + change) % 0xFFFF).to_bytes(2, "big")
        if self.version == 4:
            _seal_ipv4(self.data)

    def _put(self, host: str, which: int) -> int:
        new = ipaddress.ip_address(host).packed
        at = (12 + 4 * which) if self.version == 4 else (8 + 16 * which)
        old = bytes(self.data[at : at + len(new)])
        self.data[at : at + len(new)] = new
        return int.from_bytes(new, "big") % 0xFFFF - int.from_bytes(old, "big") % 0xFFFF

    def _put_port(self, port: int, offset: int) -> int:
        if not port or self.protocol not in _CHECKSUM_AT or self.body + 4 > len(self.data):
            return 0
        at = self.body + offset
        old = int.from_bytes(self.data[at : at + 2], "big")
        self.data[at : at + 2] = port.to_bytes(2, "big")
        return port - old


def parse(data: bytes) -> Packet | None:
    """Read a packet; None if it is none, or multicast, which no router here forwards."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        body, protocol = (data[0] & 15) * 4, data[9]
        if int.from_bytes(data[6:8], "big") & _FRAGMENT_OFFSET:
            body = len(data)
        source, target = ipaddress.ip_address(data[12:16]), ipaddress.ip_address(data[16:20])
    elif version == 6 and len(data) >= _IPV6_HEADER:
        body, protocol = _IPV6_HEADER, data[6]
        if protocol == _IPV6_FRAGMENT and len(data) >= _IPV6_HEADER + 8:
            protocol = data[_IPV6_HEADER]
            later = int.from_bytes(data[_IPV6_HEADER + 2 : _IPV6_HEADER + 4], "big") >> 3
            body = len(data) if later else _IPV6_HEADER + 8
        source, target = ipaddress.ip_address(data[8:24]), ipaddress.ip_address(data[24:40])
    else:
        return None
    if target.is_multicast:
        return None
    ports = (0, 0)
    if protocol in _CHECKSUM_AT and body + 4 <= len(data):
        ports = struct.unpack_from("!HH", data, body)
    return Packet(bytearray(data), version, protocol, str(source), str(target), *ports, body)


def fragments(packet: Packet, mtu: int) -> list[Packet]:
    """Split as an IPv4 router does (RFC 791 section 3.2)."""
    header_length = (packet.data[0] & 15) * 4
    header, payload = packet.data[:header_length], packet.data[header_length:]
    flags = int.from_bytes(header[6:8], "big")
    size = (mtu - header_length) // 8 * 8
    found = []
    for at in range(0, len(payload), size):
        piece = payload[at : at + size]
        more = _MORE_FRAGMENTS if at + size < len(payload) else flags & _MORE_FRAGMENTS
        data = bytearray(header + piece)
        data[2:4] = len(data).to_bytes(2, "big")
        data[6:8] = (
            (flags & ~(_MORE_FRAGMENTS | _FRAGMENT_OFFSET)) | more | (flags & _FRAGMENT_OFFSET) + at // 8
        ).to_bytes(2, "big")
        _seal_ipv4(data)
        part = parse(bytes(data))
        if part is not None:
            found.append(part)
    return found


def too_big(packet: Packet, mtu: int, router: str) -> Packet | None:
    """What a router says to the sender: fragmentation needed (RFC 1191), or packet too big (RFC 4443 section 3.2)."""
    if packet.version == 4:
        body = bytearray(struct.pack("!BBHHH", 3, 4, 0, 0, mtu)) + packet.data[:_QUOTED4]
        body[2:4] = checksum(bytes(body)).to_bytes(2, "big")
        header = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, _ICMP, 0))
        header += ipaddress.ip_address(router).packed + packet.data[12:16]
        _seal_ipv4(header)
        return parse(bytes(header + body))
    body = bytearray(struct.pack("!BBHI", 2, 0, 0, mtu)) + packet.data[:_QUOTED6]
    addresses = ipaddress.ip_address(router).packed + packet.data[8:24]
    pseudo = addresses + struct.pack("!II", len(body), _ICMP6)
    body[2:4] = checksum(bytes(pseudo + body)).to_bytes(2, "big")
    return parse(bytes(struct.pack("!IHBB", 6 << 28, len(body), _ICMP6, 64) + addresses + body))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    return 0xFFFF - int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF


def _inside_udp(first: int, second: int) -> Kind:
    if first < 4:
        return Kind.STUN
    if 20 <= first < 64:
        return Kind.DTLS
    if 128 <= first < 192:
        return Kind.RTCP if 192 <= second < 224 else Kind.RTP
    return Kind.UDP


def _seal_ipv4(data: bytearray) -> None:
    length = (data[0] & 15) * 4
    data[10:12] = b"\0\0"
    data[10:12] = checksum(bytes(data[:length])).to_bytes(2, "big")
