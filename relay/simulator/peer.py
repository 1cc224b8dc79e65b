"""One peer connection, composed of aiortc's transports: the answer, the connecting, the closing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDtlsTransport,
    RTCRtpCodecParameters,
    RTCRtpParameters,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSctpTransport,
)
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack

from relay.simulator.faults import NeverOpens, SessionFaults
from relay.simulator.offer_answer import STREAM, AnswerHabits, Offer, Transport, write_answer
from relay.simulator.peer_ice import (
    IceConnection,
    IceHabits,
    SharedUdpPort,
    give_track,
    ice_transport,
    lift_message_limit,
    sender_ssrc,
    set_dtls_role,
    settled,
)
from relay.simulator.peer_tcp import PassiveTcpPort
from relay.simulator.record import PacketCounts
from relay.simulator.settings import SimulatorSettings
from relay.simulator.speaker import Speaker

_USERNAME_HOST = "realtime-api-vmss-prod-simulator-4000001"


@dataclass(frozen=True, slots=True)
class SharedPorts:
    """The ports that all sessions share; without one for UDP each session binds its own."""

    udp: Sequence[SharedUdpPort]
    tcp: Sequence[PassiveTcpPort]


class PeerListener(Protocol):
    """Who is told what happens on the wire."""

    def channel_opened(self, channel: RTCDataChannel) -> None:
        """Take a channel the peer opened."""

    def peer_lost(self) -> None:
        """Note that DTLS or ICE has ended."""


class Peer:
    """The service's end of one call."""

    def __init__(
        self,
        settings: SimulatorSettings,
        certificate: RTCCertificate,
        offer: Offer,
        faults: SessionFaults,
        *,
        speaker: Speaker,
        listener: PeerListener,
    ) -> None:
        self._settings = settings
        self._offer = offer
        self._faults = faults
        self._listener = listener
        habits = IceHabits(
            settings.ice_lite,
            settings.consent_quirk,
            deaf=faults.never_opens is NeverOpens.ICE,
            udp_blocked=settings.udp_blocked,
        )
        username = f"{secrets.token_hex(4)}/{_USERNAME_HOST}"
        # A lite offerer cannot control (RFC 8445 §6.1.1).
        self._connection = IceConnection(username, controlling=offer.ice.iceLite, habits=habits)
        self._tcp: Sequence[PassiveTcpPort] = ()
        self._ice = ice_transport(self._connection)
        self._dtls = RTCDtlsTransport(self._ice, [certificate])
        self._sctp = RTCSctpTransport(self._dtls)
        self._sender = RTCRtpSender(speaker, self._dtls)
        self._receiver = RTCRtpReceiver("audio", self._dtls)
        self.track: RemoteStreamTrack = give_track(self._receiver, self._sender)

    @property
    def counts(self) -> PacketCounts:
        """RTP packets so far."""
        return self._connection.counts

    async def answer(self, ports: SharedPorts) -> str:
        """Gather and write the answer. Raises OSError when an address cannot be bound."""
        await self._connection.gather_on(self._settings.ice_addresses, ports.udp)
        self._tcp = ports.tcp
        for each in ports.tcp:
            each.add(self._connection)
        fingerprints = self._dtls.getLocalParameters().fingerprints
        transport = Transport(
            username=self._connection.local_username,
            password=self._connection.local_password,
            fingerprint=next(f.value for f in fingerprints if f.algorithm == "sha-256"),
            candidates=tuple(self._connection.local_candidates),
            ssrc=sender_ssrc(self._sender),
        )
        habits = AnswerHabits(
            ice_lite=self._settings.ice_lite,
            every_section=self._settings.candidates_in_every_section,
            tcp_ports=dict(each.address for each in ports.tcp),
            opus=not self._faults.no_opus,
        )
        return write_answer(self._offer, transport, habits)

    async def connect(self) -> bool:
        """ICE, DTLS, then media and SCTP. False when it failed; never returns when a fault stalls ICE or DTLS."""
        for candidate in self._offer.candidates:
            await self._connection.add_remote_candidate(candidate)
        await self._ice.start(self._offer.ice)
        if self._ice.state != "completed":
            return False
        if self._faults.never_opens is NeverOpens.DTLS:
            await asyncio.Event().wait()
        set_dtls_role(self._dtls, client=not self._offer.offerer_is_dtls_client)
        await self._dtls.start(self._offer.dtls)
        if self._dtls.state != "connected":
            return False
        self._dtls.on("statechange", self._maybe_lost)
        self._ice.on("statechange", self._maybe_lost)
        if self._offer.sctp_port is not None and self._faults.never_opens is not NeverOpens.CHANNEL:
            # Nothing may be awaited between DTLS and here, or the peer's INIT is lost and repeated 3 s later.
            self._sctp.on("datachannel", self._listener.channel_opened)
            await self._sctp.start(self._offer.sctp, self._offer.sctp_port)
        await self._start_media()
        return True

    def vanish(self) -> None:
        """Say nothing and hear nothing from now on; the sockets stay."""
        self._connection.silent = True

    def allow_any_size(self) -> None:
        """Send messages larger than the peer announced to take."""
        lift_message_limit(self._sctp)

    async def close(self) -> None:
        """Say goodbye (unless silent) and free every socket and task."""
        await self._sender.stop()
        await self._receiver.stop()
        if self._sctp.state != "closed":
            await self._sctp.stop()
        await settled(self._dtls)
        for each in self._tcp:
            each.remove(self._connection)
        await self._ice.stop()

    def _maybe_lost(self) -> None:
        if self._dtls.state in ("closed", "failed") or self._ice.state in ("closed", "failed"):
            self._listener.peer_lost()

    def association_ended(self) -> bool:
        """Tell whether SCTP has ended: some peers leave with an ABORT alone."""
        return self._sctp.state == "closed"

    async def _start_media(self) -> None:
        if self._faults.no_opus:
            return
        codec = RTCRtpCodecParameters(
            mimeType="audio/opus",
            clockRate=48000,
            channels=2,
            payloadType=self._offer.opus_payload_type,
        )
        common = RTCRtpParameters(codecs=[codec], rtcp=RTCRtcpParameters(cname=STREAM, mux=True))
        if self._offer.direction in ("sendrecv", "sendonly"):
            await self._receiver.receive(RTCRtpReceiveParameters(codecs=[codec], rtcp=common.rtcp))
        if self._offer.direction in ("sendrecv", "recvonly"):
            await self._sender.send(RTCRtpSendParameters(codecs=[codec], rtcp=common.rtcp))
