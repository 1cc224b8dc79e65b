"""A lean WebRTC peer for load: one socket, just enough ICE, aiortc's DTLS and SCTP, SRTP in place. No codec."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from aioice import stun
from aiortc import RTCCertificate, RTCDataChannel, RTCDtlsTransport, RTCSctpCapabilities, RTCSctpTransport
from aiortc.rtcdatachannel import RTCDataChannelParameters
from aiortc.rtcdtlstransport import RTCDtlsParameters
from aiortc.sdp import SessionDescription

from benchmarks.srtp import BUFFER, VIEW, Context
from benchmarks.voice import FRAME_SAMPLES, stamp
from benchmarks.wire import Wire

HOST = "127.0.0.1"
_CHECK_SECONDS = 0.05
_CONSENT_SECONDS = 4.0
_MESSAGE_BYTES = 262_144
_DATAGRAM_BYTES = 2_048
_RTP_HEADER = Struct("!BBHII")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Remote:
    """What is needed of the other end's description."""

    ufrag: str
    pwd: str
    dtls: Any
    address: Address | None
    payload_type: int
    sctp_port: int
    sections: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Read an offer or an answer with an audio section that has Opus and, after it, a data section."""
        media = SessionDescription.parse(text).media
        audio, data = media[0], media[1]
        ice = audio.ice
        if ice is None or ice.usernameFragment is None or ice.password is None:
            raise ConnectionError("a description without ICE credentials")
        candidates = [each for each in audio.ice_candidates if each.protocol == "udp" and ":" not in each.ip]
        opus = next(each for each in audio.rtp.codecs if each.mimeType.lower() == "audio/opus")
        if opus.payloadType is None:
            raise ConnectionError("a description without a payload type for Opus")
        return cls(
            ice.usernameFragment,
            ice.password,
            audio.dtls,
            (candidates[0].ip, candidates[0].port) if candidates else None,
            opus.payloadType,
            data.sctp_port or 5000,
            tuple((each.kind, each.rtp.muxId) for each in media),
        )


class Peer:
    """One end of a call: a controlling peer offers and nominates, the other answers and checks back, as services do."""

    def __init__(self, wire: Wire, certificate: RTCCertificate, *, controlling: bool) -> None:
        self.on_rtp: Callable[[int, int], None] = lambda _size, _arrival_ns: None
        """Is given the size of an encrypted RTP packet in `srtp.BUFFER` and the time it was read, in nanoseconds."""
        self.on_text: Callable[[str], None] = lambda _text: None
        self.on_sent: Callable[[bytes], None] | None = None
        self.channel: RTCDataChannel | None = None
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self._controlling = controlling
        self._ufrag, self._pwd = secrets.token_hex(8), secrets.token_hex(16)
        self._tie_breaker = secrets.randbits(64)
        self._ssrc = secrets.randbits(32) or 1
        self._sequence = self._timestamp = 0
        self._wire = wire
        self._socket = wire.open(HOST, self._on_first_datagrams)
        self._path = _Path(self._send)
        self._certificate = certificate
        self._dtls = RTCDtlsTransport(self._path, [certificate])  # type: ignore[arg-type]  # stands in for ICE
        self._sctp: RTCSctpTransport | None = None
        self._remote: Remote | None = None
        self._connected = False
        self._reached = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        self._receive: Context | None = None
        self._transmit: Context | None = None

    def offer(self) -> str:
        """Describe this end as a browser would."""
        return self._describe((("audio", "0"), ("application", "1")), 111, "actpass")

    def answer(self, remote: Remote) -> str:
        """Describe this end as the service would; it is the DTLS server."""
        self._remote = remote
        return self._describe(remote.sections, remote.payload_type, "passive")

    async def connect(self, remote: Remote) -> None:
        """Take ICE, DTLS and SCTP to where audio can flow; `opened` tells when the data channel follows."""
        self._remote = remote
        if self._controlling:
            self._checking = asyncio.create_task(self._check())
        await self._reached.wait()
        # Private names: aiortc takes the role from ICE and keeps the SRTP contexts to itself.
        self._dtls._set_role("client" if remote.dtls.role == "server" else "server")
        await self._dtls.start(RTCDtlsParameters(remote.dtls.fingerprints))
        if self._dtls.state != "connected":
            raise ConnectionError("DTLS failed")
        if self._dtls._rx_srtp is None or self._dtls._tx_srtp is None:
            raise ConnectionError("DTLS agreed on no SRTP")
        self._receive, self._transmit = Context(self._dtls._rx_srtp), Context(self._dtls._tx_srtp)
        self._sctp = RTCSctpTransport(self._dtls)
        if self._controlling:
            self._use(RTCDataChannel(self._sctp, RTCDataChannelParameters(label="oai-events")))
        else:
            self._sctp.on("datachannel", self._use)
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=_MESSAGE_BYTES), remote.sctp_port)

    def reach(self, address: Address) -> None:
        """Take this as the other end's address; `connect` waits for it."""
        self._socket.connect(address)
        self._connected = True
        self._wire.read(self._socket, self._on_datagram)
        self._reached.set()

    def send_audio(self, payload: bytes, number: int, leaves: Callable[[int], None] = lambda _at_ns: None) -> None:
        """Send the next 20 ms, stamped with its number; `leaves` is told the time just before, in nanoseconds."""
        remote, transmit = self._remote, self._transmit
        if remote is None or transmit is None:
            raise ConnectionError("not connected")
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        _RTP_HEADER.pack_into(BUFFER, 0, 0x80, remote.payload_type, self._sequence, self._timestamp, self._ssrc)
        end = _RTP_HEADER.size + len(payload)
        BUFFER[_RTP_HEADER.size : end] = payload
        stamp(BUFFER, end, number)
        datagram = transmit.protect(end)
        leaves(time.monotonic_ns())
        try:
            self._socket.send(datagram)
        except OSError:  # the relay has gone or has hung up: what is sent is lost
            return
        if self.on_sent is not None:
            self.on_sent(bytes(datagram))

    def decrypt(self, size: int) -> int:
        """Decrypt the packet that `on_rtp` is being given; its new size, 0 if it is not this call's."""
        return self._receive.unprotect(size) if self._receive is not None else 0

    def send_raw(self, datagram: bytes) -> None:
        """Send any bytes from this peer's own address, as somebody who forges it."""
        with contextlib.suppress(OSError):
            self._socket.send(datagram)

    async def vanish(self) -> None:
        """Free the socket without a goodbye, as a browser whose machine was switched off."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        self._wire.shut(self._socket)
        self._connected = False
        if self._sctp is not None:
            await self._sctp.stop()
        await self._dtls.stop()

    async def close(self) -> None:
        """Leave in order and free the socket."""
        self.closed.set()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        if self._sctp is not None:
            await self._sctp.stop()
        await self._dtls.stop()
        self._wire.shut(self._socket)

    # --- description ---------------------------------------------------------------------------------------------

    def _describe(self, sections: tuple[tuple[str, str], ...], payload_type: int, setup: str) -> str:
        lines = ["v=0", f"o=- {secrets.randbits(31)} 2 IN IP4 {HOST}", "s=-", "t=0 0"]
        lines.append(f"a=group:BUNDLE {' '.join(mid for _, mid in sections)}")
        port = self._socket.getsockname()[1]
        fingerprint = next(each for each in self._certificate.getFingerprints() if each.algorithm == "sha-256")
        for kind, mid in sections:
            if kind == "audio":
                lines.append(f"m=audio {port} UDP/TLS/RTP/SAVPF {payload_type}")
                lines += [f"c=IN IP4 {HOST}", "a=sendrecv", "a=rtcp-mux", f"a=rtpmap:{payload_type} opus/48000/2"]
                lines += [f"a=fmtp:{payload_type} minptime=10;useinbandfec=1", "a=msid:load audio"]
                lines += [f"a=ssrc:{self._ssrc} cname:load"]
            else:
                lines.append(f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel")
                lines += [f"c=IN IP4 {HOST}", "a=sctp-port:5000", f"a=max-message-size:{_MESSAGE_BYTES}"]
            lines += [f"a=mid:{mid}", f"a=ice-ufrag:{self._ufrag}", f"a=ice-pwd:{self._pwd}", f"a=setup:{setup}"]
            lines += [f"a=fingerprint:sha-256 {fingerprint.value}"]
            lines += [f"a=candidate:1 1 udp 2130706431 {HOST} {port} typ host", "a=end-of-candidates"]
        return "\r\n".join(lines) + "\r\n"

    # --- datagrams -----------------------------------------------------------------------------------------------

    def _send(self, datagram: bytes, address: Address | None = None) -> None:
        """Send to the path, or to `address` while there is none."""
        try:
            if self._connected:
                self._socket.send(datagram)
            elif address is not None:
                self._socket.sendto(datagram, address)
        except OSError:  # the relay has gone or has hung up: what is sent is lost
            return
        if self.on_sent is not None:
            self.on_sent(datagram)

    def _on_first_datagrams(self) -> None:
        """Read a check; there is nothing else before the path is known."""
        try:
            datagram, address = self._socket.recvfrom(_DATAGRAM_BYTES)
        except OSError:  # an ICMP error of a peer that has gone
            return
        if datagram[0] < 4:
            self._on_stun(datagram, address)

    def _on_datagram(self) -> None:
        try:
            size = self._socket.recv_into(BUFFER)
        except OSError:  # the same
            return
        arrival_ns = time.monotonic_ns()
        if BUFFER[0] >= 128:
            # RFC 5761 section 4: RTCP's types, which take RTP's marker and payload type.
            if not 192 <= BUFFER[1] < 224:
                self.on_rtp(size, arrival_ns)
        elif BUFFER[0] < 4:
            self._on_stun(bytes(VIEW[:size]), self._socket.getpeername())
        else:
            self._path.feed(bytes(VIEW[:size]))

    def _on_stun(self, datagram: bytes, address: Address) -> None:
        message = stun.parse_message(datagram)
        if message.message_class is stun.Class.REQUEST:
            if not message.check_message_integrity(self._pwd.encode()):
                return
            response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
            response.attributes["XOR-MAPPED-ADDRESS"] = address
            response.add_message_integrity(self._pwd.encode())
            self._send(bytes(response), address)
            if not self._controlling and not self._connected and self._remote is not None:
                # RFC 8445 section 7.3.1.4: a full agent's triggered check; some wait for it before they nominate.
                self._send(self._request(self._remote, {"ICE-CONTROLLED": self._tie_breaker}), address)
            nominated = not self._controlling and "USE-CANDIDATE" in message.attributes
        else:
            nominated = self._controlling and message.message_class is stun.Class.RESPONSE
        if nominated and not self._reached.is_set():
            self.reach(address)

    async def _check(self) -> None:
        """Nominate with the first check, then keep consent fresh (RFC 7675)."""
        remote = self._remote
        if remote is None or remote.address is None:
            raise ConnectionError("no address to check")
        while True:
            request = self._request(remote, {"ICE-CONTROLLING": self._tie_breaker, "USE-CANDIDATE": None})
            self._send(request, remote.address)
            await asyncio.sleep(_CONSENT_SECONDS if self._reached.is_set() else _CHECK_SECONDS)

    def _request(self, remote: Remote, role: dict[str, Any]) -> bytes:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes |= {"USERNAME": f"{remote.ufrag}:{self._ufrag}", "PRIORITY": 1845501695, **role}
        request.add_message_integrity(remote.pwd.encode())
        return bytes(request)

    # --- channel -------------------------------------------------------------------------------------------------

    def _use(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        channel.on("message", self._on_message)
        if channel.readyState == "open":
            self.opened.set()
        else:
            channel.on("open", self.opened.set)

    def _on_message(self, text: str) -> None:
        self.on_text(text)


class _Path:
    """What aiortc's DTLS transport asks of an ICE transport."""

    role = "controlled"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._datagrams: asyncio.Queue[bytes] = asyncio.Queue(maxsize=256)
        self._write = send

    def feed(self, datagram: bytes) -> None:
        self._datagrams.put_nowait(datagram)

    async def _recv(self) -> bytes:
        return await self._datagrams.get()

    async def _send(self, data: bytes) -> None:
        self._write(data)
