"""DTLS of a leg: aiortc's transport over a path of ours, with our certificate, SRTP policy and content checks."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pylibsrtp
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters, RTCDtlsTransport, State
from aiortc.rtcdtlstransport import RTCDtlsFingerprint as AiortcFingerprint
from OpenSSL import SSL

from relay.core.dtls_records import records
from relay.core.rtp import DropCause
from relay.core.sdp import Fingerprint

# Packets that may arrive out of order before they count as replayed (RFC 3711 section 3.3.2).
REPLAY_WINDOW = 128
# Datagrams waiting for the handshake or for SCTP; a peer that sends faster than we read loses some, as UDP may.
_QUEUE_LENGTH = 128
_CERTIFICATE_RENEWAL = dt.timedelta(days=7)
_ALERT = 21


class SharedCertificate:
    """One certificate and TLS context for all legs of the process, renewed long before it expires."""

    def __init__(self) -> None:
        self._certificate = _CachedContextCertificate.generateCertificate()

    def current(self) -> RTCCertificate:
        """The certificate for a new leg; running legs keep theirs."""
        now = dt.datetime.now(tz=dt.UTC)
        if self._certificate.expires - now < _CERTIFICATE_RENEWAL:
            self._certificate = _CachedContextCertificate.generateCertificate()
        return self._certificate


class _CachedContextCertificate(RTCCertificate):
    """Builds the OpenSSL context once: it costs as much as the rest of a leg's set-up."""

    _context: Any = None

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> Any:
        # Private name: aiortc has no way to hand in a context; all profiles of a process are the same.
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            # A peer that renegotiates gets a warning; without this OpenSSL ends the connection and tells nobody.
            self._context.set_options(SSL.OP_NO_RENEGOTIATION)
        return self._context


def fingerprint_of(certificate: RTCCertificate) -> Fingerprint:
    """The SHA-256 fingerprint to put into a description."""
    found = next(each for each in certificate.getFingerprints() if each.algorithm == "sha-256")
    return Fingerprint(found.algorithm, found.value)


class DtlsPath:
    """The datagram path under a DTLS transport: what aiortc calls an ICE transport, reduced to what it uses."""

    role = "controlled"

    def __init__(self, send: Callable[[bytes], bool], dropped: Counter[DropCause]) -> None:
        self.send = send
        self._dropped = dropped
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=_QUEUE_LENGTH)
        self._closed = False

    def feed(self, datagram: bytes) -> None:
        """Take one DTLS datagram, record by record: aiortc reads one of a datagram and would let the others pile up.

        A plaintext alert (epoch 0) is not taken: anybody who forges the peer's address could end a handshake with it.
        """
        for record in records(datagram):
            if self._closed or (record[0] == _ALERT and record[3:5] == b"\0\0"):
                self._dropped[DropCause.DTLS_REFUSED] += 1
            elif self._queue.full():
                self._dropped[DropCause.DTLS_QUEUE_FULL] += 1
            else:
                self._queue.put_nowait(record)

    def close(self) -> None:
        """End every pending and later read with ConnectionError."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def _recv(self) -> bytes:
        # Private name: called by RTCDtlsTransport._recv_next.
        datagram = await self._queue.get()
        if datagram is None:
            self._queue.put_nowait(None)
            raise ConnectionError
        return datagram

    async def _send(self, data: bytes) -> None:
        # Private name: called by RTCDtlsTransport.
        self.send(data)


class DtlsSession(RTCDtlsTransport):
    """aiortc's DTLS transport with an SRTP policy for a relay; RTP never passes through it."""

    def __init__(self, path: DtlsPath, certificate: RTCCertificate, on_closed: Callable[[], None]) -> None:
        super().__init__(path, [certificate])  # type: ignore[arg-type]  # the path stands in for an ICE transport
        self._on_closed = on_closed
        self.on("statechange", self._state_changed)

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is complete and both certificates were accepted."""
        return self._state is State.CONNECTED

    async def handshake(self, role: str, fingerprints: tuple[Fingerprint, ...]) -> bool:
        """Shake hands as `client` or `server`; True if the peer has a certificate of these fingerprints."""
        # Private name: aiortc derives the role from ICE, here it comes from the descriptions.
        self._set_role(role)
        await self.start(RTCDtlsParameters([AiortcFingerprint(each.algorithm, each.value) for each in fingerprints]))
        return self.is_connected

    def srtp(self) -> tuple[pylibsrtp.Session, pylibsrtp.Session]:
        """The SRTP contexts, inbound and outbound, once connected."""
        return self._rx_srtp, self._tx_srtp

    def _setup_srtp(self) -> None:
        # Private name: aiortc builds contexts with a window of 1024, whose bit vector libsrtp shifts for every packet.
        connection = self._ssl
        assert connection is not None  # noqa: S101  set by start(), which calls this
        chosen = connection.get_selected_srtp_profile()
        profile = next((each for each in self._srtp_profiles if each.openssl_profile == chosen), None)
        if profile is None:
            self._set_state(State.FAILED)
            return
        size = 2 * (profile.key_length + profile.salt_length)
        keys = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", size)
        # RFC 5764 section 4.2: the client's key comes first.
        receive, transmit = (0, 1) if self._role == "server" else (1, 0)
        self._rx_srtp = _srtp_session(profile, keys, receive, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._tx_srtp = _srtp_session(profile, keys, transmit, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)

    async def _send_data(self, data: bytes) -> None:
        # Private name: called by the association. OpenSSL may have ended the connection by itself.
        try:
            await super()._send_data(data)
        except SSL.Error as error:
            self._set_state(State.CLOSED)
            raise ConnectionError("DTLS has failed") from error

    def _state_changed(self) -> None:
        if self._state is State.CLOSED:
            self._on_closed()


def _srtp_session(profile: Any, keys: bytes, index: int, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=profile.get_key_and_salt(keys, index), ssrc_type=direction, srtp_profile=profile.libsrtp_profile
    )
    policy.window_size = REPLAY_WINDOW
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)
