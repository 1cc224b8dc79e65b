"""The other end of a connection check: proves a way between a browser and this relay, and nothing else.

A check is what a session's downstream leg is without its media: an ICE-lite agent on the public port, and DTLS. Nothing
is carried, the service is not asked, and it is over as soon as the browser closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from dataclasses import replace

from relay.core.rtp import DropCause
from relay.core.sdp import RemoteDescription, parse_offer
from relay.core.sdp_build import LocalTransport, answer_setup, build_answer
from relay.rtc.client_peer import new_ssrc
from relay.rtc.dtls import DtlsSession, fingerprint_of
from relay.rtc.ice_lite import Inlets
from relay.rtc.packet import Datagram
from relay.rtc.plane import MediaPlane
from relay.rtc.stages import dtls_role

# A browser tries its ways side by side, up to five: UDP, TCP, and TURN in three forms. Each costs a DTLS handshake, so
# that what is bounded is how many begin within the time that one may take.
MOST_OF_ONE_ASKER = 10
MOST = 200
CHECK_SECONDS = 10.0


class ConnectionChecks:
    """Answers offers for checks: in the `seconds` one may last, `MOST` may begin, `MOST_OF_ONE_ASKER` of one key."""

    def __init__(self, plane: MediaPlane, seconds: float = CHECK_SECONDS) -> None:
        self._plane = plane
        self._seconds = seconds
        self._begun: deque[tuple[float, str]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def open(self, offer: str, asker: str) -> str | None:
        """The answer to an offer, reachable from now on; None when too many began just now. Raises SdpError."""
        now = asyncio.get_running_loop().time()
        while self._begun and now - self._begun[0][0] >= self._seconds:
            self._begun.popleft()
        mine = sum(1 for _, each in self._begun if each == asker)
        if len(self._begun) >= MOST or mine >= MOST_OF_ONE_ASKER:
            return None
        peer = _CheckPeer(self._plane, parse_offer(offer))
        self._begun.append((now, asker))
        task = asyncio.create_task(peer.run(self._seconds), name="connection check")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return peer.answer

    @property
    def running(self) -> int:
        """How many checks run."""
        return len(self._running)

    async def close(self) -> None:
        """End all checks."""
        tasks = tuple(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _CheckPeer:
    """One check. Media that is sent to it all the same is not even unprotected."""

    def __init__(self, plane: MediaPlane, remote: RemoteDescription) -> None:
        certificate = plane.certificate.current()
        self._endpoint = plane.endpoint
        self._remote = replace(remote, data=None)
        self._closed = asyncio.Event()
        self._dtls = DtlsSession(self._send, certificate, plane.endpoint.dropped, self._closed.set)
        inlets = Inlets(self._on_packet, self._dtls.feed, self._on_media, self._on_rtcp)
        self._agent = plane.endpoint.add_agent(inlets, remote.ufrag)
        own = self._agent.credentials
        self._role = answer_setup(remote.setup)
        self.answer = build_answer(
            self._remote,
            LocalTransport(
                own.ufrag, own.pwd, fingerprint_of(certificate), self._role, new_ssrc(), secrets.randbits(62),
                candidates=plane.candidates, ice_lite=True,
            ),
        )  # fmt: skip

    async def run(self, seconds: float) -> None:
        """Answer checks and shake hands until the browser is done, at most so long."""
        try:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(seconds):
                    await self._agent.connected()
                    if await self._dtls.handshake(dtls_role(self._role), self._remote.fingerprints):
                        await self._closed.wait()
        finally:
            self._dtls.close()
            self._agent.close()

    def _send(self, datagram: Datagram) -> bool:
        return self._agent.send(datagram)

    def _on_packet(self, size: int) -> bool:
        del size
        self._endpoint.drop(DropCause.GATE_CLOSED)
        return False

    def _on_media(self, datagram: bytes) -> bool:
        return self._on_packet(len(datagram))

    def _on_rtcp(self, datagram: bytes) -> None:
        self._on_packet(len(datagram))
