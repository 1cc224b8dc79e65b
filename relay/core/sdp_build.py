"""Writing session descriptions: the answer for a browser and the offer for the service (RFC 9429 section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from relay.core.sdp import AudioMedia, Fingerprint, RemoteDescription, Section

OFFERED_PAYLOAD_TYPE = 111
SCTP_PORT = 5000
MAX_MESSAGE_BYTES = 262_144
CNAME = "relay"
OPUS_PARAMETERS = "minptime=10;useinbandfec=1"

_ANSWERED_DIRECTION = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
# Type preferences of a host candidate: RFC 8445 section 5.1.2.2; TCP below UDP, RFC 6544 section 4.2.
_HOST_PREFERENCE = {"udp": 126, "tcp": 90}
# RFC 6544 section 4.2: direction preference of a passive candidate, in the three high bits of the local preference.
_LOCAL_PREFERENCE = {"udp": 65_535, "tcp": (4 << 13) | 8_191}
_TCP_TYPE = {"udp": "", "tcp": " tcptype passive"}


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """Where a peer can send to: `transport` udp or tcp (passive, RFC 6544), `host` an IP address."""

    transport: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end of a leg: ICE credentials, certificate fingerprint, DTLS role, SSRC, and where we can be reached.

    `version` is that of the description (RFC 8866 section 5.2), raised by each later answer of the same connection.
    """

    ufrag: str
    pwd: str
    fingerprint: Fingerprint
    setup: str
    ssrc: int
    session_number: int
    version: int = 1
    candidates: tuple[LocalCandidate, ...] = ()
    ice_lite: bool = False


def answer_setup(offered: str) -> str:
    """The DTLS role to answer with: passive wherever the offer lets us (a lost ClientHello costs a second)."""
    return "active" if offered == "passive" else "passive"


def build_answer(offer: RemoteDescription, local: LocalTransport) -> str:
    """Answer an offer: one audio section with Opus, one data section, every other section rejected with port 0."""
    used = [offer.audio.mid] + ([] if offer.data is None else [offer.data.mid])
    lines = _session_lines(local, used)
    for section in offer.sections:
        if section.mid == offer.audio.mid and section.kind == "audio":
            direction = _ANSWERED_DIRECTION[offer.audio.direction]
            lines += _audio_lines(AudioMedia(offer.audio.mid, offer.audio.payload_type, direction), local)
        elif offer.data is not None and section.mid == offer.data.mid:
            lines += _data_lines(offer.data.mid, section.protocol, local)
        else:
            lines += _rejected_lines(section)
    return "\r\n".join(lines) + "\r\n"


def build_service_offer(local: LocalTransport) -> str:
    """Offer the service one audio section with Opus alone and one data section.

    No candidates are given, as every browser client does it: the service learns our address from our checks.
    """
    lines = _session_lines(local, ["0", "1"])
    lines += _audio_lines(AudioMedia("0", OFFERED_PAYLOAD_TYPE, "sendrecv"), local)
    lines += _data_lines("1", "UDP/DTLS/SCTP", local)
    return "\r\n".join(lines) + "\r\n"


def _session_lines(local: LocalTransport, mids: list[str]) -> list[str]:
    lines = [
        "v=0",
        f"o=- {local.session_number} {local.version} IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(mids)}",
        "a=msid-semantic: WMS relay",
    ]
    return [*lines, "a=ice-lite"] if local.ice_lite else lines


def _audio_lines(audio: AudioMedia, local: LocalTransport) -> list[str]:
    number = audio.payload_type
    return [
        f"m=audio {_port(local)} UDP/TLS/RTP/SAVPF {number}",
        _connection(local),
        "a=rtcp:9 IN IP4 0.0.0.0",
        *_transport_lines(audio.mid, local),
        f"a={audio.direction}",
        "a=msid:relay audio",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=rtpmap:{number} opus/48000/2",
        f"a=fmtp:{number} {OPUS_PARAMETERS}",
        f"a=ssrc:{local.ssrc} cname:{CNAME}",
        f"a=ssrc:{local.ssrc} msid:relay audio",
    ]


def _data_lines(mid: str, protocol: str, local: LocalTransport) -> list[str]:
    return [
        f"m=application {_port(local)} {protocol} webrtc-datachannel",
        _connection(local),
        *_transport_lines(mid, local),
        f"a=sctp-port:{SCTP_PORT}",
        f"a=max-message-size:{MAX_MESSAGE_BYTES}",
    ]


def _rejected_lines(section: Section) -> list[str]:
    formats = " ".join(section.formats) or "0"
    return [
        f"m={section.kind} 0 {section.protocol} {formats}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{section.mid}",
        "a=inactive",
    ]


def _transport_lines(mid: str, local: LocalTransport) -> list[str]:
    # Repeated in every section: with them in the first alone, Firefox does not connect.
    lines = [
        f"a=mid:{mid}",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.pwd}",
        f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}",
        f"a=setup:{local.setup}",
    ]
    for at, each in enumerate(local.candidates):
        priority = (_HOST_PREFERENCE[each.transport] << 24) | ((_LOCAL_PREFERENCE[each.transport] - at) << 8) | 255
        tcp_type = _TCP_TYPE[each.transport]
        lines.append(f"a=candidate:{at + 1} 1 {each.transport} {priority} {each.host} {each.port} typ host{tcp_type}")
    # Without candidates of our own, say that the list is open; with all of them given, say that it is complete.
    return [*lines, "a=end-of-candidates"] if local.candidates else [*lines, "a=ice-options:trickle"]


def _port(local: LocalTransport) -> int:
    return local.candidates[0].port if local.candidates else 9


def _connection(local: LocalTransport) -> str:
    host = local.candidates[0].host if local.candidates else "0.0.0.0"  # noqa: S104 - the null address of RFC 8866
    return f"c=IN {'IP6' if ':' in host else 'IP4'} {host}"
