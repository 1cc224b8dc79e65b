"""Reading session descriptions (RFC 8866, RFC 9429): the browser's offer and the service's answer.

Only what two audio-and-data legs need is read; everything else is ignored. Nothing here trusts its input: sizes are
bounded, and what cannot be used raises `SdpError` with a message that may be shown to the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

MAX_SDP_BYTES = 65_536
MAX_SECTIONS = 32
_MAX_LINES = 4_000
_MAX_CANDIDATES = 32
_HASH_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_DEFAULT_SCTP_PORT = 5000
# RFC 8841 section 6.1: without the attribute a peer takes 64 KiB.
_DEFAULT_MAX_MESSAGE = 65_536
# RFC 8839 section 5.4 gives 4 to 256 ice-chars; the service is known to put others (`-`) into its ufrag.
_ICE_UFRAG = re.compile(r"[!-~]{4,256}")
_ICE_PWD = re.compile(r"[!-~]{22,256}")
_MID = re.compile(r"[!-~]{1,64}")
_ORIGIN = re.compile(r"^o=([!-~]{1,256} [0-9]{1,32}) ", re.MULTILINE)
_SETUP_ROLES = frozenset({"active", "passive", "actpass"})
_DIRECTIONS = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_NO_AUDIO = "Offer did not have an audio media section."


class SdpError(Exception):
    """A description that cannot be used; the message is public."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hash of the peer's certificate: algorithm in lower case, value as upper-case hex pairs joined by colons."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate of the peer (RFC 8839 section 5.1), address literal only."""

    foundation: str
    transport: str
    priority: int
    host: str
    port: int
    kind: str
    tcp_type: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One m-section: its kind (`audio`, `application`, …), mid, transport line as it came, and all attributes."""

    kind: str
    protocol: str
    formats: tuple[str, ...]
    mid: str
    rejected: bool
    attributes: tuple[tuple[str, str], ...]

    def all(self, name: str) -> Iterator[str]:
        """Every value of an attribute, in order."""
        return (value for key, value in self.attributes if key == name)

    def first(self, name: str) -> str | None:
        """The first value of an attribute; `""` for a flag that is there."""
        return next(self.all(name), None)


@dataclass(frozen=True, slots=True)
class AudioMedia:
    """The audio section that is used: its mid, the peer's Opus payload type and direction."""

    mid: str
    payload_type: int
    direction: str


@dataclass(frozen=True, slots=True)
class DataMedia:
    """The data-channel section: its mid, SCTP port and the largest message the peer takes (0: any)."""

    mid: str
    sctp_port: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class RemoteDescription:
    """What a leg must know of its peer. `sections` lists all m-sections in the order in which they must be answered.

    `origin` is the user name and session id of the `o=` line, which a peer connection keeps in all its descriptions
    (RFC 8866 section 5.2); empty without a usable one.
    """

    ufrag: str
    pwd: str
    ice_lite: bool
    setup: str
    fingerprints: tuple[Fingerprint, ...]
    audio: AudioMedia
    data: DataMedia | None
    sections: tuple[Section, ...]
    candidates: tuple[Candidate, ...] = field(default=())
    origin: str = ""


def parse_offer(text: str) -> RemoteDescription:
    """Read a browser's offer; its candidates are not looked at: a lite agent sends no checks (RFC 8445 section 6.1)."""
    return _parse(text, is_offer=True)


def parse_answer(text: str) -> RemoteDescription:
    """Read the service's answer, with the candidates of every section."""
    return _parse(text, is_offer=False)


def _parse(text: str, *, is_offer: bool) -> RemoteDescription:
    session, sections = _split(text)
    live = [section for section in sections if not section.rejected]
    audio_section = next((section for section in live if section.kind == "audio"), None)
    if audio_section is None:
        raise SdpError(_NO_AUDIO)
    data_section = next(
        (section for section in live if section.kind == "application" and section.protocol.endswith("DTLS/SCTP")), None
    )
    used = [audio_section] if data_section is None else [audio_section, data_section]
    _check_transport(session, used)
    audio = AudioMedia(audio_section.mid, _opus_payload_type(audio_section), _direction(audio_section, session))
    data = None if data_section is None else _data_media(data_section)
    setup = _one("setup", session, used)
    if setup is None and is_offer:
        setup = "actpass"
    if setup not in _SETUP_ROLES or (not is_offer and setup == "actpass"):
        raise SdpError("The DTLS set-up role is missing or unknown.")
    return RemoteDescription(
        ufrag=_credential("ice-ufrag", _ICE_UFRAG, session, used),
        pwd=_credential("ice-pwd", _ICE_PWD, session, used),
        ice_lite=("ice-lite", "") in session,
        setup=setup,
        fingerprints=_fingerprints(session, used),
        audio=audio,
        data=data,
        sections=tuple(sections),
        candidates=() if is_offer else _candidates(sections),
        origin=_origin(text),
    )


def _origin(text: str) -> str:
    found = _ORIGIN.search(text)
    return "" if found is None else found[1]


def _split(text: str) -> tuple[tuple[tuple[str, str], ...], list[Section]]:
    if len(text) > MAX_SDP_BYTES or "\0" in text:
        raise SdpError("The description is too large or holds control characters.")
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if len(lines) > _MAX_LINES or not lines or lines[0] != "v=0":
        raise SdpError("The body is not a session description: it does not begin with v=0.")
    session: list[tuple[str, str]] = []
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for line in lines:
        if line[1:2] != "=":
            raise SdpError("A line of the description is malformed.")
        if line[0] == "m":
            if len(sections) == MAX_SECTIONS:
                raise SdpError("The description has too many media sections.")
            sections.append((line[2:], []))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (sections[-1][1] if sections else session).append((name, value.strip()))
    return tuple(session), [_section(media, attributes, at) for at, (media, attributes) in enumerate(sections)]


def _section(media: str, attributes: list[tuple[str, str]], at: int) -> Section:
    parts = media.split()
    if len(parts) < 3 or not parts[1].partition("/")[0].isdecimal():  # noqa: PLR2004 - kind, port, protocol
        raise SdpError("A media line of the description is malformed.")
    mid = next((value for name, value in attributes if name == "mid"), str(at))
    if not _MID.fullmatch(mid):
        raise SdpError("A media section has an unusable mid.")
    # RFC 9143 section 6: port 0 with bundle-only is a section in use.
    rejected = parts[1].partition("/")[0] == "0" and ("bundle-only", "") not in attributes
    return Section(parts[0], parts[2], tuple(parts[3:]), mid, rejected, tuple(attributes))


def _check_transport(session: tuple[tuple[str, str], ...], used: list[Section]) -> None:
    if used[0].first("rtcp-mux") is None:
        raise SdpError("The audio section must multiplex RTCP (rtcp-mux).")
    if "SAVPF" not in used[0].protocol and "SAVP" not in used[0].protocol:
        raise SdpError("The audio section must use secure RTP.")
    if len(used) > 1:
        groups = [value.split()[1:] for name, value in session if name == "group" and value.startswith("BUNDLE")]
        if not any(all(section.mid in group for section in used) for group in groups):
            raise SdpError("Audio and data must share one transport (BUNDLE).")


def _one(name: str, session: tuple[tuple[str, str], ...], used: list[Section]) -> str | None:
    """The value of an attribute that holds for the whole transport: of the first used section, else of the session."""
    value = used[0].first(name)
    return value if value is not None else next((value for key, value in session if key == name), None)


def _credential(name: str, form: re.Pattern[str], session: tuple[tuple[str, str], ...], used: list[Section]) -> str:
    value = _one(name, session, used)
    if value is None or not form.fullmatch(value):
        raise SdpError(f"The description has no usable {name}.")
    return value


def _fingerprints(session: tuple[tuple[str, str], ...], used: list[Section]) -> tuple[Fingerprint, ...]:
    found: list[Fingerprint] = []
    values = list(used[0].all("fingerprint")) or [value for name, value in session if name == "fingerprint"]
    for section in used[1:]:
        if set(section.all("fingerprint")) - set(values):
            raise SdpError("The media sections have different certificate fingerprints.")
    for value in values[:8]:
        algorithm, _, digest = value.partition(" ")
        size = _HASH_BYTES.get(algorithm.lower())
        if size is None:
            continue  # RFC 8122 section 5: hashes that are not supported are left out
        digest = digest.strip().upper()
        if not re.fullmatch(r"[0-9A-F]{2}(:[0-9A-F]{2})*", digest) or len(digest) != size * 3 - 1:
            raise SdpError("A certificate fingerprint is malformed.")
        found.append(Fingerprint(algorithm.lower(), digest))
    if not found:
        raise SdpError("The description has no usable certificate fingerprint (sha-256 or better).")
    return tuple(found)


def _opus_payload_type(section: Section) -> int:
    for value in section.all("rtpmap"):
        number, _, codec = value.partition(" ")
        if codec.strip().lower() == "opus/48000/2" and number in section.formats and number.isdecimal():
            payload_type = int(number)
            # RFC 5761 section 4: 64 to 95 would be taken for RTCP.
            if payload_type < 64 or 96 <= payload_type < 128:  # noqa: PLR2004
                return payload_type
    raise SdpError("The audio section does not have the Opus codec.")


def _direction(section: Section, session: tuple[tuple[str, str], ...]) -> str:
    for name, _ in (*section.attributes, *session):
        if name in _DIRECTIONS:
            return name
    return "sendrecv"


def _data_media(section: Section) -> DataMedia:
    port = _number(section.first("sctp-port"), _DEFAULT_SCTP_PORT, 65_535)
    return DataMedia(section.mid, port, _number(section.first("max-message-size"), _DEFAULT_MAX_MESSAGE, 2**63))


def _number(value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not value.isdecimal() or not value.isascii() or len(value) > 19 or int(value) > most:  # noqa: PLR2004
        raise SdpError("A number in the data section is malformed.")
    return int(value)


def _candidates(sections: list[Section]) -> tuple[Candidate, ...]:
    # Servers list candidates in the first section only, in every one, or in both: one transport takes them all.
    found: dict[tuple[str, str, int], Candidate] = {}
    for section in sections:
        for value in section.all("candidate"):
            candidate = _candidate(value)
            if candidate is not None and len(found) < _MAX_CANDIDATES:
                found.setdefault((candidate.transport, candidate.host, candidate.port), candidate)
    return tuple(found.values())


def _candidate(value: str) -> Candidate | None:
    """Read one candidate; None if it is of no use: another component than RTP, a host name, malformed."""
    parts = value.split()
    if len(parts) < 8 or parts[1] != "1" or parts[6] != "typ":  # noqa: PLR2004 - RFC 8839 section 5.1
        return None
    try:
        host = str(ip_address(parts[4]))
        priority, port = int(parts[3]), int(parts[5])
    except ValueError:
        return None
    transport = parts[2].lower()
    if transport not in {"udp", "tcp"} or not 0 < port < 65_536 or not 0 <= priority < 2**32:  # noqa: PLR2004
        return None
    extensions = dict(zip(parts[8::2], parts[9::2], strict=False))
    return Candidate(parts[0], transport, priority, host, port, parts[7], extensions.get("tcptype"))
