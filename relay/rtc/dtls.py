"""DTLS of a leg, over OpenSSL and memory: a datagram in, what it says out, in one call; our certificate, our checks.

aiortc's transport reads in a task behind a queue, one record of a datagram, and copies each record three times.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Any

import pylibsrtp
from aiortc.rtcdtlstransport import SRTP_PROFILES, X509_DIGEST_ALGORITHMS, RTCCertificate, certificate_digest
from OpenSSL import SSL

# Private name: the calls under pyOpenSSL, whose own make two buffers and five calls of Python for each record.
from OpenSSL._util import ffi, lib

from relay.core.dtls_records import packed, records
from relay.core.rtp import DropCause
from relay.core.sdp import Fingerprint
from relay.rtc.packet import Datagram, SrtpContext, nowhere

# Packets that may arrive out of order before they count as replayed (RFC 3711 section 3.3.2).
REPLAY_WINDOW = 128
# Records waiting for the handshake, or decrypted ones for the association; of a peer that is faster some are lost.
_QUEUE_LENGTH = 128
_CERTIFICATE_RENEWAL = dt.timedelta(days=7)
_ALERT = 21
_APPLICATION_DATA = 23
# Flights of the handshake are cut to pass any path (RFC 8200 section 5, and room for what tunnels add).
_FLIGHT_BYTES = 1_200
# More than any datagram that is let in; what is read is copied out before the next call, and there is one thread.
_ROOM = 4_096
_BUFFER = ffi.new(f"char[{_ROOM}]")

OnKeys = Callable[[SrtpContext, SrtpContext], None]


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
    """Builds the OpenSSL context once: it costs as much as the rest of a leg's set-up. Hashes itself once, too."""

    _context: Any = None
    _fingerprints: Any = None

    def getFingerprints(self) -> Any:  # noqa: N802 - aiortc's name
        if self._fingerprints is None:
            self._fingerprints = super().getFingerprints()
        return self._fingerprints

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


class DtlsState(Enum):
    """Where a connection stands; aiortc's association asks for the name in lower case."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


# For every record: looking a member up in its class is dear.
_CONNECTING, _CONNECTED = DtlsState.CONNECTING, DtlsState.CONNECTED


class DtlsSession:
    """One DTLS connection. Datagrams go in by `feed`, at any time, and out by `send_datagram`, which may be replaced.

    `on_closed` is called once, when a connection that was made has ended, by the peer or by OpenSSL.
    """

    def __init__(
        self,
        send_datagram: Callable[[Datagram], bool],
        certificate: RTCCertificate,
        dropped: Counter[DropCause],
        on_closed: Callable[[], None],
    ) -> None:
        self.certificate = certificate
        self.role = "auto"
        self.send_datagram = send_datagram
        self._dropped = dropped
        self._on_closed = on_closed
        self._state = DtlsState.NEW
        self._early: deque[bytes] = deque()
        self._receive: Callable[[bytes], None] | None = None
        self._connection: Any = None
        self._ssl = self._into = self._out_of = ffi.NULL
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._described: tuple[Fingerprint, ...] = ()
        self._on_keys: OnKeys = _unwanted

    @property
    def state(self) -> str:
        """The name of the state."""
        return self._state.value

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is complete and both certificates were accepted."""
        return self._state is _CONNECTED

    async def handshake(self, role: str, fingerprints: tuple[Fingerprint, ...], on_keys: OnKeys | None = None) -> bool:
        """Shake hands as `client` or `server`; True if the peer has a certificate of these fingerprints.

        `on_keys` gets the SRTP contexts (inbound, outbound) before the next datagram is taken: it may be media.
        """
        if self._state is not DtlsState.NEW:
            return False
        self.role = role
        self._described = fingerprints
        self._on_keys = on_keys or _unwanted
        connection = self._connection = SSL.Connection(self.certificate._create_ssl_context(SRTP_PROFILES))  # noqa: SLF001
        # Private names: the structures that the calls below pyOpenSSL work on; the connection keeps them alive.
        self._ssl, self._into, self._out_of = connection._ssl, connection._into_ssl, connection._from_ssl  # noqa: SLF001
        if role == "server":
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        self._state = _CONNECTING
        self._done = asyncio.get_running_loop().create_future()
        early, self._early = self._early, deque()
        self._shake_hands()
        for record in early:
            if self._state not in _OVER:
                self._take(record)
        self._set_timer()
        await self._done
        return self.is_connected

    def deliver_to(self, receive: Callable[[bytes], None]) -> None:
        """Hand what the peer sends to `receive`, from now on and what came since the handshake."""
        self._receive = receive
        while self._early:
            receive(self._early.popleft())

    def feed(self, datagram: bytes) -> None:
        """Take one DTLS datagram; after the handshake each record is read whole before the next, and none piles up.

        A plaintext alert (epoch 0) is not taken: anybody who forges the peer's address could end a handshake with it.
        """
        if self._state is _CONNECTING:
            self._take_flight(datagram)
            return
        for record in records(datagram):
            if self._state is _CONNECTED and record[0] == _APPLICATION_DATA:
                # The way of nearly all records.
                lib.BIO_write(self._into, record, len(record))
                self._read()
            elif self._state in _OVER or _is_plain_alert(record):
                self._dropped[DropCause.DTLS_REFUSED] += 1
            elif self._state is not DtlsState.NEW:
                self._take(record)
            elif len(self._early) < _QUEUE_LENGTH:
                self._early.append(record)
            else:
                self._dropped[DropCause.DTLS_QUEUE_FULL] += 1

    def send(self, data: bytes) -> bool:
        """Send one message of the association; False if the connection is not there or has ended."""
        if self._state is not _CONNECTED:
            return False
        written = lib.SSL_write(self._ssl, data, len(data))
        if written <= 0:
            # OpenSSL may have ended the connection by itself, or is in a handshake that we do not hold.
            self._survives(written)
            self._end(DtlsState.CLOSED)
            return False
        size = lib.BIO_read(self._out_of, _BUFFER, _ROOM)
        if size > 0:
            self.send_datagram(ffi.buffer(_BUFFER, size)[:])
        return True

    def close(self) -> None:
        """Say goodbye and take nothing more; nothing is called after this."""
        if self._state in (_CONNECTING, _CONNECTED):
            # One that has failed already has nobody to say goodbye to.
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()
            self._flush()
        self._on_closed = _nobody
        self._end(DtlsState.CLOSED)
        self._early.clear()
        self.send_datagram, self._on_keys = nowhere, _unwanted
        # OpenSSL's memory goes now, whoever still knows us.
        self._connection = None
        self._ssl = self._into = self._out_of = ffi.NULL

    # --- one record --------------------------------------------------------------------------------------------------

    def _take_flight(self, datagram: bytes) -> None:
        """Take the records of a handshake's datagram at once, so that OpenSSL is asked once for each flight."""
        found = records(datagram)
        taken = [record for record in found if not _is_plain_alert(record)]
        if len(taken) < len(found):
            self._dropped[DropCause.DTLS_REFUSED] += len(found) - len(taken)
        if taken:
            self._take(b"".join(taken))
        self._set_timer()

    def _take(self, record: bytes) -> None:
        lib.BIO_write(self._into, record, len(record))
        if self._state is _CONNECTING:
            self._shake_hands()
        else:
            self._read()

    def _read(self) -> bool:
        """Read one message; False if there is none."""
        size = lib.SSL_read(self._ssl, _BUFFER, _ROOM)
        if size <= 0:
            over = not self._survives(size)
            # An alert, or our last flight again for a peer that did not get it.
            self._flush()
            if over:
                self._end(DtlsState.CLOSED)
            return False
        data = ffi.buffer(_BUFFER, size)[:]
        if self._receive is not None:
            self._receive(data)
        elif len(self._early) < _QUEUE_LENGTH:
            self._early.append(data)
        else:
            self._dropped[DropCause.DTLS_QUEUE_FULL] += 1
        return True

    def _survives(self, result: int) -> bool:
        """Whether a call that gave nothing means something else than a goodbye; empties OpenSSL's list of errors."""
        try:
            # Private name: the only way of pyOpenSSL to tell errors of its calls apart, and to clear their list.
            self._connection._raise_ssl_error(self._ssl, result)  # noqa: SLF001
        except SSL.ZeroReturnError:
            return False
        except SSL.Error:
            # Nothing to read, or it was forged; if OpenSSL gave up over it, the next write says so.
            return True
        return True

    def _flush(self) -> None:
        written = []
        while (size := lib.BIO_read(self._out_of, _BUFFER, _ROOM)) > 0:
            written.append(ffi.buffer(_BUFFER, size)[:])
        if written:
            for datagram in packed(records(b"".join(written)), _FLIGHT_BYTES):
                self.send_datagram(datagram)

    # --- the handshake -----------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error:
            self._flush()
            self._end(DtlsState.FAILED)
            return
        self._flush()
        if self._state is not _CONNECTING:
            return  # whoever sends our last flight may have closed us
        contexts = self._srtp() if self._is_peer() else None
        if contexts is None:
            self._end(DtlsState.FAILED)
            return
        self._state = _CONNECTED
        self._stop_waiting()
        self._on_keys(*contexts)
        # What OpenSSL kept of the peer's first messages, which may overtake its last of the handshake.
        while self._state is _CONNECTED and self._read():
            pass

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._state is not _CONNECTING:
            self._timer = None
            return
        seconds = self._connection.DTLSv1_get_timeout()
        loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, self._send_flight_again)

    def _send_flight_again(self) -> None:
        self._timer = None
        if self._state is _CONNECTING:
            try:
                self._connection.DTLSv1_handle_timeout()
            except SSL.Error:
                self._end(DtlsState.FAILED)  # it was repeated too often
                return
            self._flush()
            self._set_timer()

    def _is_peer(self) -> bool:
        """Whether the peer's certificate has a described fingerprint, and every one that can be computed (RFC 8122)."""
        try:
            certificate = self._connection.get_peer_certificate(as_cryptography=True)
        except ValueError:
            return False  # OpenSSL took it, and it cannot be read
        known = [each for each in self._described if each.algorithm.lower() in X509_DIGEST_ALGORITHMS]
        return bool(known) and all(
            each.value.upper() == certificate_digest(certificate, each.algorithm.lower()) for each in known
        )

    def _srtp(self) -> tuple[SrtpContext, SrtpContext] | None:
        """The SRTP contexts, inbound and outbound; None if the peer takes no profile of ours."""
        connection = self._connection
        chosen = connection.get_selected_srtp_profile()
        profile = next((each for each in SRTP_PROFILES if each.openssl_profile == chosen), None)
        if profile is None:
            return None
        size = 2 * (profile.key_length + profile.salt_length)
        keys = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", size)
        # RFC 5764 section 4.2: the client's key comes first.
        inbound, outbound = (0, 1) if self.role == "server" else (1, 0)
        return (
            SrtpContext(_srtp_session(profile, keys, inbound, pylibsrtp.Policy.SSRC_ANY_INBOUND)),
            SrtpContext(_srtp_session(profile, keys, outbound, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)),
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, state: DtlsState) -> None:
        if self._state in _OVER:
            return
        was_connected = self._state is _CONNECTED and state is DtlsState.CLOSED
        self._state = state
        self._receive = None
        self._stop_waiting()
        if was_connected:
            self._on_closed()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    # --- names that aiortc's association calls -----------------------------------------------------------------------

    @property
    def _role(self) -> str:
        return self.role

    def _register_data_receiver(self, receiver: object) -> None:
        # The association says itself when it can take data: `deliver_to`.
        del receiver

    def _unregister_data_receiver(self, receiver: object) -> None:
        del receiver
        self._receive = None


_OVER = frozenset({DtlsState.FAILED, DtlsState.CLOSED})


def _is_plain_alert(record: bytes) -> bool:
    return record[0] == _ALERT and record[3:5] == b"\0\0"


def _nobody() -> None:
    """What is called in place of a listener that wants to hear no more."""


def _srtp_session(profile: Any, keys: bytes, index: int, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=profile.get_key_and_salt(keys, index), ssrc_type=direction, srtp_profile=profile.libsrtp_profile
    )
    policy.window_size = REPLAY_WINDOW
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)


def _unwanted(inbound: SrtpContext, outbound: SrtpContext) -> None:
    """Where no media is to come."""
    del inbound, outbound
