"""Our end of ICE towards a browser: an ICE-lite agent (RFC 8445 sections 2.5 and 6.1.1), restartable.

It answers authenticated checks, follows USE-CANDIDATE, takes checks as proof of life, and sends only on paths on which
an authenticated check came. It sends no checks, resolves no names and looks at no candidate of the peer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import unpack_from
from typing import Protocol

from relay.core.rtp import DropCause
from relay.core.stun import BindingRequest, StunError, binding_error, binding_success, is_authentic
from relay.rtc.forwarding_python import Forwarder
from relay.rtc.packet import Datagram
from relay.rtc.path import Path

# Paths one peer may prove at the same time: a few interfaces, transports and NAT rebindings.
MAX_PATHS = 8
# Ufrags of 16 characters: short ones collide once there are thousands of sessions.
_UFRAG_BYTES = 8
_PWD_BYTES = 16
_SEEN_BYTES = 4_096


def _stay(send: Callable[[Datagram], bool]) -> None:
    """Where the leg's datagrams go is asked each time."""
    del send


@dataclass(frozen=True, slots=True)
class Inlets:
    """Where a leg takes its datagrams, each called synchronously with one.

    `packet` takes the size of RTP that is in the packet buffer, `rtp` RTP that came another way; both return whether it
    is the peer's. `forwarder` is what `packet` belongs to, if RTP may go there past everybody; `route` hears where the
    leg's own datagrams go from now on.
    """

    packet: Callable[[int], bool]
    dtls: Callable[[bytes], None]
    rtp: Callable[[bytes], bool]
    rtcp: Callable[[bytes], None]
    forwarder: Forwarder | None = None
    route: Callable[[Callable[[Datagram], bool]], None] = _stay


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our user fragment and password, and the user fragment the peer signs with (RFC 8445 section 5.3)."""

    remote_ufrag: str
    ufrag: str = field(default_factory=lambda: secrets.token_hex(_UFRAG_BYTES))
    pwd: str = field(default_factory=lambda: secrets.token_hex(_PWD_BYTES), repr=False)


class SeenChecks:
    """Remembers every transaction id in 4 kB: a Bloom filter of three bits each, taken from the id, which is random.

    It may take a new id for a known one (one in 500 after an hour of a browser's checks, which come every 2.5 s): the
    peer's next check has another id.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_SEEN_BYTES)

    def add(self, transaction_id: bytes) -> None:
        """Remember an id."""
        for number in unpack_from("!HHH", transaction_id):
            self._bits[(number >> 3) % _SEEN_BYTES] |= 1 << (number & 7)

    def __contains__(self, transaction_id: bytes) -> bool:
        return all(
            self._bits[(number >> 3) % _SEEN_BYTES] & 1 << (number & 7)
            for number in unpack_from("!HHH", transaction_id)
        )


class AgentEndpoint(Protocol):
    """What an agent asks of the endpoint that owns the sockets."""

    def listen_for(self, ufrag: str, agent: IceLiteAgent) -> None:
        """Hand checks that name `ufrag` to this agent."""
        ...

    def forget(self, ufrag: str) -> None:
        """Hand them to nobody any more."""
        ...

    def claim(self, path: Path, agent: IceLiteAgent, now: float) -> bool:
        """Give a path to this agent; False if another session holds it."""
        ...

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        ...


class IceLiteAgent:
    """The ICE end of one downstream leg. `last_check` is the time of the last authenticated check, in seconds."""

    def __init__(self, endpoint: AgentEndpoint, inlets: Inlets, remote_ufrag: str) -> None:
        self.inlets = inlets
        self.last_check = 0.0
        self._selected: Path | None = None
        self.credentials = Credentials(remote_ufrag)
        self._endpoint = endpoint
        self._before: Credentials | None = None
        self._paths: set[Path] = set()
        self._nominated = False
        self._validated = asyncio.Event()
        self._seen = SeenChecks()
        endpoint.listen_for(self.credentials.ufrag, self)

    @property
    def selected(self) -> Path | None:
        """The path that the leg's datagrams take; None before one is proven."""
        return self._selected

    def restart(self, remote_ufrag: str) -> Credentials:
        """Take new credentials; those before them serve until the peer nominates under the new (RFC 8445 section 9)."""
        self._retire()
        self._before, self.credentials = self.credentials, Credentials(remote_ufrag)
        self._endpoint.listen_for(self.credentials.ufrag, self)
        return self.credentials

    def on_check(self, datagram: bytes, request: BindingRequest, path: Path, now: float) -> None:
        """Answer a connectivity check that names an ufrag of ours (RFC 8445 section 7.3)."""
        credentials = self._credentials_of(request.local_ufrag)
        key = credentials.pwd.encode()
        if request.remote_ufrag != credentials.remote_ufrag or not is_authentic(datagram, request, key):
            # Unauthenticated checks get no answer: nothing is reflected to a forged source.
            self._endpoint.drop(DropCause.STUN_NOT_AUTHENTIC)
            return
        if request.unknown:
            path.send(binding_error(request.transaction_id, StunError.UNKNOWN_ATTRIBUTE, key, request.unknown))
            return
        if request.claims_controlled:
            # RFC 8445 section 7.3.1.1: a lite agent never becomes controlling.
            path.send(binding_error(request.transaction_id, StunError.ROLE_CONFLICT, key, request.unknown))
            return
        if path.owner is not self and (self._is_replay(request.transaction_id) or not self._learn(path, now)):
            return
        self._seen.add(request.transaction_id)
        path.last_check = self.last_check = now
        self._select(path, credentials, nominated=request.use_candidate)
        path.send(binding_success(request.transaction_id, path.address, key))
        self._validated.set()

    def on_media(self, path: Path) -> None:
        """Follow the peer's media onto a path proven later than the selected one: its address changed.

        Some browsers do not nominate again after a NAT rebinding; what they send on is the pair they use.
        """
        if self.selected is None or path.last_check > self.selected.last_check:
            self._lead_over(path)

    def send(self, datagram: Datagram) -> bool:
        """Send on the selected path; False before one is proven, or when it does not take the datagram."""
        return self.selected is not None and self.selected.send(datagram)

    async def connected(self) -> None:
        """Wait until a path is proven; the deadline is the caller's."""
        await self._validated.wait()

    def close(self) -> None:
        """Forget credentials and paths; what comes later is a stranger's."""
        self._retire()
        self._endpoint.forget(self.credentials.ufrag)
        self._lead_over(None)
        while self._paths:
            self._release(self._paths.pop())

    def lose(self, path: Path) -> None:
        """A path is gone: its connection closed, or another session proved it while we were silent."""
        self._paths.discard(path)
        if self.selected is path:
            self._lead_over(max(self._paths, key=lambda each: each.last_check, default=None))

    def _credentials_of(self, ufrag: str) -> Credentials:
        before = self._before
        return before if before is not None and ufrag == before.ufrag else self.credentials

    def _select(self, path: Path, credentials: Credentials, *, nominated: bool) -> None:
        # RFC 8445 section 8.1.1: the peer nominates; before that the first proven path serves.
        if nominated or self.selected is None or not self._nominated:
            self._lead_over(path)
        if nominated:
            self._nominated = True
            if credentials is self.credentials:
                self._retire()

    def _lead_over(self, path: Path | None) -> None:
        if path is not self._selected:
            self._selected = path
            # The leg's packets go straight there; without a path they come here and are refused.
            self.inlets.route(self.send if path is None else path.send)

    def _retire(self) -> None:
        if self._before is not None:
            self._endpoint.forget(self._before.ufrag)
            self._before = None

    def _is_replay(self, transaction_id: bytes) -> bool:
        # A check is signed but not bound to an address: who overheard one must not lead our media away with it.
        if transaction_id not in self._seen:
            return False
        self._endpoint.drop(DropCause.STUN_REPLAYED)
        return True

    def _learn(self, path: Path, now: float) -> bool:
        if not self._endpoint.claim(path, self, now):
            self._endpoint.drop(DropCause.ADDRESS_TAKEN)
            return False
        if len(self._paths) >= MAX_PATHS:
            oldest = min((each for each in self._paths if each is not self.selected), key=lambda each: each.last_check)
            self._paths.discard(oldest)
            self._release(oldest)
            self._endpoint.drop(DropCause.ADDRESS_LIMIT)
        self._paths.add(path)
        return True

    def _release(self, path: Path) -> None:
        path.owner = None
        path.on_released(path)
