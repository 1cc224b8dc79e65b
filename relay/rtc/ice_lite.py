"""Our end of ICE towards a browser: an ICE-lite agent (RFC 8445 sections 2.5 and 6.1.1).

It answers authenticated checks, follows USE-CANDIDATE, takes checks as proof of life, and sends only to addresses from
which an authenticated check came. It sends no checks, resolves no names and looks at no candidate of the peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.core.rtp import DropCause
from relay.core.stun import (
    Address,
    BindingRequest,
    StunError,
    binding_error,
    binding_success,
    is_authentic,
)

# Addresses one peer may prove at the same time: a few interfaces and NAT rebindings.
MAX_ADDRESSES = 8


@dataclass(frozen=True, slots=True)
class Inlets:
    """Where a leg takes its datagrams: each is called synchronously with one datagram."""

    dtls: Callable[[bytes], None]
    rtp: Callable[[bytes], None]
    rtcp: Callable[[bytes], None]


class AgentEndpoint(Protocol):
    """What an agent asks of the endpoint that owns the socket."""

    def send(self, datagram: bytes, address: Address) -> bool:
        """Send one datagram."""
        ...

    def claim(self, address: Address, agent: IceLiteAgent, now: float) -> bool:
        """Route datagrams of an address to this agent; False if another session holds it."""
        ...

    def release(self, address: Address, agent: IceLiteAgent) -> None:
        """Give an address up."""
        ...

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        ...


class IceLiteAgent:
    """The ICE end of one downstream leg. `last_check` is the time of the last authenticated check, in seconds."""

    def __init__(self, endpoint: AgentEndpoint, ufrag: str, pwd: str, remote_ufrag: str, inlets: Inlets) -> None:
        self.ufrag = ufrag
        self.pwd = pwd
        self.inlets = inlets
        self.last_check = 0.0
        self.selected: Address | None = None
        self._endpoint = endpoint
        self._key = pwd.encode()
        self._remote_ufrag = remote_ufrag
        self._addresses: dict[Address, float] = {}
        self._nominated = False
        self._validated = asyncio.Event()

    def on_check(self, datagram: bytes, request: BindingRequest, address: Address, now: float) -> None:
        """Answer a connectivity check that names our ufrag (RFC 8445 section 7.3)."""
        if request.remote_ufrag != self._remote_ufrag or not is_authentic(datagram, request, self._key):
            # Unauthenticated checks get no answer: nothing is reflected to a forged source.
            self._endpoint.drop(DropCause.STUN_NOT_AUTHENTIC)
            return
        if request.unknown:
            self._refuse(request, StunError.UNKNOWN_ATTRIBUTE, address)
            return
        if request.claims_controlled:
            # RFC 8445 section 7.3.1.1: a lite agent never becomes controlling.
            self._refuse(request, StunError.ROLE_CONFLICT, address)
            return
        if address not in self._addresses and not self._learn(address, now):
            return
        self._addresses[address] = self.last_check = now
        # RFC 8445 section 8.1.1: the peer nominates; before that the first proven address serves.
        if request.use_candidate:
            self._nominated = True
            self.selected = address
        elif self.selected is None or not self._nominated:
            self.selected = address
        self._endpoint.send(binding_success(request.transaction_id, address, self._key), address)
        self._validated.set()

    def send(self, datagram: bytes) -> bool:
        """Send to the selected address; False before one is proven, or when the kernel does not take it."""
        return self.selected is not None and self._endpoint.send(datagram, self.selected)

    async def connected(self) -> None:
        """Wait until an address is proven; the deadline is the caller's."""
        await self._validated.wait()

    def close(self) -> None:
        """Forget every address."""
        for address in self._addresses:
            self._endpoint.release(address, self)
        self._addresses.clear()
        self.selected = None

    def forget(self, address: Address) -> None:
        """Another session proved this address while we were silent."""
        self._addresses.pop(address, None)
        if self.selected == address:
            self.selected = None

    def _learn(self, address: Address, now: float) -> bool:
        if not self._endpoint.claim(address, self, now):
            self._endpoint.drop(DropCause.ADDRESS_TAKEN)
            return False
        if len(self._addresses) >= MAX_ADDRESSES:
            idle = [each for each in self._addresses if each != self.selected]
            oldest = min(idle, key=self._addresses.__getitem__)
            self._endpoint.release(oldest, self)
            del self._addresses[oldest]
            self._endpoint.drop(DropCause.ADDRESS_LIMIT)
        return True

    def _refuse(self, request: BindingRequest, error: StunError, address: Address) -> None:
        self._endpoint.send(binding_error(request.transaction_id, error, self._key, request.unknown), address)
