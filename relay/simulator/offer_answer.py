"""The offer read, and the answer written as Azure writes it (Azure GA, recorded)."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aioice import Candidate
from aiortc import RTCDtlsParameters, RTCIceParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities
from aiortc.sdp import MediaDescription, SessionDescription

MAX_OFFER_BYTES = 256 * 1024
MAX_MESSAGE_SIZE = 1_073_741_823
STREAM = "realtimeapi"
_NTP_EPOCH = 2_208_988_800
_TCP_PRIORITY = 1_518_280_447


class OfferError(ValueError):
    """An offer the service refuses. `no_audio` picks which of its two texts."""

    def __init__(self, *, no_audio: bool) -> None:
        super().__init__("offer without audio" if no_audio else "invalid offer")
        self.no_audio = no_audio


@dataclass(frozen=True, slots=True)
class Section:
    """One m-section of the offer: how it starts, its mid, and whether we take it."""

    kind: str
    mid: str
    profile: str
    formats: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What the answer and the transports need of an offer. Payload types are the offerer's."""

    sections: tuple[Section, ...]
    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    candidates: tuple[Candidate, ...]
    opus_payload_type: int
    g711_payload_types: tuple[int, ...]
    direction: str
    offerer_is_dtls_client: bool
    sctp_port: int | None
    sctp: RTCSctpCapabilities | None

    @property
    def has_data(self) -> bool:
        """Tell whether the offer has a data section."""
        return self.sctp_port is not None


@dataclass(frozen=True, slots=True)
class Transport:
    """Our side of the transport, as the answer announces it."""

    username: str
    password: str
    fingerprint: str
    candidates: tuple[Candidate, ...]
    ssrc: int


@dataclass(frozen=True, slots=True)
class AnswerHabits:
    """Ways in which answers differ from one another. `tcp_ports`: where TCP is listened for at each address."""

    ice_lite: bool
    every_section: bool
    tcp_ports: Mapping[str, int]
    opus: bool


def read_offer(sdp: str) -> Offer:
    """Parse an offer. Raises OfferError for everything the service would answer `invalid_offer`."""
    if len(sdp) > MAX_OFFER_BYTES or not sdp.startswith("v=0"):
        raise OfferError(no_audio=False)
    try:
        description = SessionDescription.parse(sdp)
    # The parser asserts, indexes and converts as it goes: any of these says that the text is no offer.
    except (AssertionError, AttributeError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise OfferError(no_audio=False) from error
    audio = _first(description, "audio")
    if audio is None:
        raise OfferError(no_audio=True)
    return _offer(description, audio, _first(description, "application"))


def _first(description: SessionDescription, kind: str) -> MediaDescription | None:
    return next((media for media in description.media if media.kind == kind and media.port != 0), None)


def _offer(description: SessionDescription, audio: MediaDescription, data: MediaDescription | None) -> Offer:
    opus = next((c for c in audio.rtp.codecs if c.mimeType.lower() == "audio/opus"), None)
    # The transport attributes of a bundle are those of its first section (RFC 9143 §7.2).
    lead = description.media[0] if description.media[0].port != 0 else audio
    if opus is None or opus.payloadType is None or lead.ice is None or lead.dtls is None:
        raise OfferError(no_audio=False)
    if not (lead.ice.usernameFragment and lead.ice.password and lead.dtls.fingerprints):
        raise OfferError(no_audio=False)
    if data is not None and data.sctp_port is None:
        raise OfferError(no_audio=False)
    found = [c for media in description.media for c in media.ice_candidates if c.protocol.lower() == "udp"]
    candidates = [
        Candidate(c.foundation, c.component, "udp", c.priority, c.ip, c.port, c.type)
        for c in found[:32]
        if c.component == 1 and _is_address(c.ip)
    ]
    taken = (audio, data)
    sections = [
        Section(m.kind, m.rtp.muxId, m.profile, " ".join(map(str, m.fmt)), m in taken) for m in description.media
    ]
    return Offer(
        sections=tuple(sections),
        ice=lead.ice,
        dtls=lead.dtls,
        candidates=tuple(candidates),
        opus_payload_type=opus.payloadType,
        g711_payload_types=tuple(c.payloadType for c in audio.rtp.codecs if c.payloadType in (0, 8)),
        direction=audio.direction or "sendrecv",
        offerer_is_dtls_client=lead.dtls.role == "client",
        sctp_port=None if data is None else data.sctp_port,
        sctp=None if data is None else data.sctpCapabilities or RTCSctpCapabilities(maxMessageSize=65536),
    )


def _is_address(host: str) -> bool:
    # Names (mDNS) are never resolved: the offerer's checks will show its address.
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def write_answer(offer: Offer, transport: Transport, habits: AnswerHabits) -> str:
    """Write the answer, shaped like the recorded one: session-level fingerprint, `setup:active`, one msid."""
    stamp = int(time.time()) + _NTP_EPOCH
    mids = " ".join(section.mid for section in offer.sections if section.taken)
    lines = ["v=0", f"o=- {stamp} {stamp} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    if habits.ice_lite:
        lines.append("a=ice-lite")
    lines += [f"a=group:BUNDLE {mids}", "a=msid-semantic:WMS *", f"a=fingerprint:sha-256 {transport.fingerprint}"]
    with_candidates = True
    for section in offer.sections:
        if not section.taken:
            lines += [f"m={section.kind} 0 {section.profile} {section.formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
            lines.append(f"a=mid:{section.mid}")
            continue
        body = _audio(offer, transport, habits) if section.kind == "audio" else _data()
        lines += [_media_line(section, offer, transport, habits), _connection_line(transport), f"a=mid:{section.mid}"]
        lines += _transport(offer, transport) + body
        if with_candidates:
            lines += _candidates(transport, habits)
        with_candidates = habits.every_section
    return "\r\n".join(lines) + "\r\n"


def _media_line(section: Section, offer: Offer, transport: Transport, habits: AnswerHabits) -> str:
    port = transport.candidates[0].port
    if section.kind != "audio":
        return f"m=application {port} {section.profile} webrtc-datachannel"
    return f"m=audio {port} {section.profile} {' '.join(map(str, _payload_types(offer, habits)))}"


def _connection_line(transport: Transport) -> str:
    address = ipaddress.ip_address(transport.candidates[0].host)
    return f"c=IN IP{address.version} {address}"


def _payload_types(offer: Offer, habits: AnswerHabits) -> list[int]:
    g711 = list(offer.g711_payload_types)
    return [offer.opus_payload_type, *g711] if habits.opus else g711 or [0, 8]


def _transport(offer: Offer, transport: Transport) -> list[str]:
    setup = "passive" if offer.offerer_is_dtls_client else "active"
    return [f"a=setup:{setup}", f"a=ice-ufrag:{transport.username}", f"a=ice-pwd:{transport.password}"]


def _audio(offer: Offer, transport: Transport, habits: AnswerHabits) -> list[str]:
    lines = ["a=rtcp-mux", "a=rtcp-rsize"]
    for payload_type in _payload_types(offer, habits):
        if habits.opus and payload_type == offer.opus_payload_type:
            lines += [f"a=rtpmap:{payload_type} opus/48000/2", f"a=fmtp:{payload_type} minptime=10;useinbandfec=1"]
        else:
            lines.append(f"a=rtpmap:{payload_type} {'PCMU' if payload_type == 0 else 'PCMA'}/8000")
    reverse = {"sendonly": "recvonly", "recvonly": "sendonly"}
    lines += [f"a=ssrc:{transport.ssrc} cname:{STREAM}", f"a=ssrc:{transport.ssrc} msid:{STREAM} audio"]
    return [*lines, f"a=msid:{STREAM} audio", f"a={reverse.get(offer.direction, offer.direction)}"]


def _data() -> list[str]:
    return ["a=sctp-port:5000", f"a=max-message-size:{MAX_MESSAGE_SIZE}"]


def _candidates(transport: Transport, habits: AnswerHabits) -> list[str]:
    lines = []
    for candidate in transport.candidates:
        # Both components, though only the first is used: so the service does it.
        for component in (1, 2):
            priority = candidate.priority - (component - 1)
            where = f"{candidate.host} {candidate.port}"
            lines.append(f"a=candidate:{candidate.foundation} {component} udp {priority} {where} typ host")
            if candidate.host in habits.tcp_ports:
                tcp = _TCP_PRIORITY - (component - 1)
                # A foundation has at most 32 characters (RFC 8839 §5.1).
                foundation = f"{candidate.foundation[:31]}t"
                where = f"{candidate.host} {habits.tcp_ports[candidate.host]}"
                lines.append(f"a=candidate:{foundation} {component} tcp {tcp} {where} typ host tcptype passive")
    return [*lines, "a=end-of-candidates"]
