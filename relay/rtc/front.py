"""The public media ports in the main process of many: what comes first from an address, and for which worker it is.

An address is shown to one worker at a time, the one that was given it last. A check that names another worker's session
goes to that worker first: it keeps the address for a living session of its own and gives the check back otherwise.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.core.quota import TokenBucket
from relay.core.rtp import STUN, DropCause, classify
from relay.core.stun import Address, parse_binding_request
from relay.rtc.endpoint import Endpoint
from relay.rtc.path import Path, Transport
from relay.rtc.tcp import TcpListener

# From a check that was handed over to the worker's claim: more than a busy worker may take.
GIVEN_SECONDS = 10.0
# Addresses given and not claimed; the oldest is forgotten for the newest, and its datagrams are strangers' until the
# next check.
GIVEN_ADDRESSES = 16_384
# Of one worker, and more than its sessions have paths; a claim above it is given up. A worker that was taken over can
# fill its own share and no other's.
HELD_ADDRESSES = 16_384

# What one session may have handed over in a second, media included where its worker got no socket for it. Whoever
# floods the name of one session costs the others of its worker nothing.
HANDED_A_SECOND = 500.0

# An address as one of the public port's hosts sees it.
_Place = tuple[int, Address]


class Taker(Protocol):
    """A worker process, as the main process sees it; each is called synchronously and must not wait."""

    def take_datagram(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Take what came to the public UDP port."""
        ...

    def take_connection(self, sock: socket.socket, address: Address, first: bytes) -> None:
        """Take a TCP connection, which is the taker's to close, and what was read from it and not judged."""
        ...

    def give_up(self, host_index: int, address: Address) -> None:
        """Another worker's session has proven an address that a silent session of this worker held."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    """What one ufrag names."""

    taker: Taker
    rate: TokenBucket


@dataclass(frozen=True, slots=True)
class _Given:
    session: _Session
    until: float


class Front:
    """Shares the ports of `endpoint` and `tcp` with takers. The endpoint's own agents keep working beside them.

    Raises OSError where sockets cannot share a UDP port (`shared_port.require_shareable` says so in words).
    """

    def __init__(
        self, endpoint: Endpoint, tcp: TcpListener | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoint = endpoint
        self._hosts = len(endpoint.addresses)
        self._tcp = tcp
        self._clock = clock
        self._by_ufrag: dict[str, _Session] = {}
        self._given: OrderedDict[_Place, _Given] = OrderedDict()
        self._held: dict[_Place, _Session] = {}
        self._held_by: Counter[Taker] = Counter()
        endpoint.share(self)

    # --- what workers tell; a worker talks to hostile networks, so that nothing it says harms another's sessions ------

    def listen_for(self, ufrag: str, taker: Taker) -> None:
        """Hand checks that name `ufrag` to a taker; who says so first keeps it."""
        rate = TokenBucket(HANDED_A_SECOND, HANDED_A_SECOND, self._clock())
        self._by_ufrag.setdefault(ufrag, _Session(taker, rate))

    def forget(self, ufrag: str, taker: Taker) -> None:
        """Later checks that name a taker's `ufrag` are a stranger's."""
        if _taker(self._by_ufrag.get(ufrag)) is taker:
            del self._by_ufrag[ufrag]

    def claimed(self, host_index: int, address: Address, taker: Taker) -> None:
        """A check proved an address to a taker's session: it holds it until `released`."""
        place = (host_index, address)
        before = self._held.get(place)
        if _taker(before) is taker:
            return
        given = self._given_to(place)
        if given is None or given.taker is not taker or self._held_by[taker] >= HELD_ADDRESSES:
            # Claimed too late, or never given: what the address sends next decides anew.
            taker.give_up(host_index, address)
            return
        del self._given[place]
        self._held[place] = given
        self._held_by[taker] += 1
        if before is not None:
            self._held_by[before.taker] -= 1
            before.taker.give_up(host_index, address)

    def released(self, host_index: int, address: Address, taker: Taker) -> None:
        """The taker's session has no more use for an address."""
        if _taker(self._held.get((host_index, address))) is taker:
            del self._held[host_index, address]
            self._held_by[taker] -= 1

    def send(self, host_index: int, address: Address, datagram: bytes, taker: Taker) -> None:
        """Send from the public port, to an address that is the taker's."""
        place = (host_index, address)
        if _taker(self._given_to(place)) is not taker and _taker(self._held.get(place)) is not taker:
            self._endpoint.drop(DropCause.STRANGER)
        elif not self._endpoint.send(host_index, address, datagram):
            self._endpoint.drop(DropCause.SEND_FAILED)

    def stray(self, host_index: int, address: Address, datagram: bytes, taker: Taker) -> None:
        """Take back what is not for a taker's sessions, or what its silent session does not keep the address from."""
        if not 0 <= host_index < self._hosts:
            self._endpoint.drop(DropCause.STRANGER)
            return
        named = self._named(datagram)
        if named is not None and named.taker is taker:
            # Just forgotten there.
            self._endpoint.drop(DropCause.STUN_UNKNOWN_SESSION)
        elif named is not None and _taker(self._holder((host_index, address))) is taker:
            self._give((host_index, address), named, datagram)
        else:
            self._endpoint.arrived(host_index, address, datagram)

    def lose(self, taker: Taker) -> None:
        """A worker is gone: its sessions are unknown and its addresses are nobody's."""
        self._by_ufrag = {ufrag: each for ufrag, each in self._by_ufrag.items() if each.taker is not taker}
        self._held = {place: each for place, each in self._held.items() if each.taker is not taker}
        self._held_by.pop(taker, None)
        for place in [place for place, given in self._given.items() if given.session.taker is taker]:
            del self._given[place]

    # --- what the endpoint asks ---------------------------------------------------------------------------------------

    def take_check(self, ufrag: str, datagram: bytes, path: Path) -> bool:
        """Hand a check to the worker it names; False if it names none."""
        session = self._by_ufrag.get(ufrag)
        if session is None:
            return False
        if path.owner is not None:
            # A connection check of this process, which is over before it could be called silent.
            self._endpoint.drop(DropCause.ADDRESS_TAKEN)
            return True
        if path.transport is Transport.TCP:
            return self._tcp is not None and self._tcp.hand_over(path, session.taker.take_connection)
        place = (path.host_index, path.address)
        holder = self._holder(place)
        if holder is None or holder.taker is session.taker:
            self._give(place, session, datagram)
        else:
            self._hand(place, session, holder.taker, datagram)
        return True

    def take(self, datagram: bytes, path: Path) -> bool:
        """Hand what is no check to the worker that has the address; False if none has."""
        place = (path.host_index, path.address)
        holder = self._holder(place) if path.transport is Transport.UDP else None
        if holder is None:
            return False
        self._hand(place, holder, holder.taker, datagram)
        return True

    def yields(self, path: Path) -> bool:
        """Whether no worker's session holds an address; one that was only given is given no more."""
        place = (path.host_index, path.address)
        if path.transport is Transport.UDP and place in self._held:
            return False
        self._given.pop(place, None)
        return True

    # --- whose an address is ------------------------------------------------------------------------------------------

    def _give(self, place: _Place, session: _Session, datagram: bytes) -> None:
        if not self._hand(place, session, session.taker, datagram):
            return  # nor does a flood that names it, from any number of addresses, push out those of others
        # Also when it holds the address: its word that it released it may be under way.
        self._given.pop(place, None)
        self._given[place] = _Given(session, self._clock() + GIVEN_SECONDS)
        if len(self._given) > GIVEN_ADDRESSES:
            self._given.popitem(last=False)

    def _hand(self, place: _Place, session: _Session, taker: Taker, datagram: bytes) -> bool:
        may = session.rate.take(self._clock())
        if may:
            taker.take_datagram(*place, datagram)
        else:
            self._endpoint.drop(DropCause.RATE)
        return may

    def _given_to(self, place: _Place) -> _Session | None:
        given = self._given.get(place)
        if given is None:
            return None
        if given.until <= self._clock():
            del self._given[place]
            return None
        return given.session

    def _holder(self, place: _Place) -> _Session | None:
        given = self._given_to(place)
        return self._held.get(place) if given is None else given

    def _named(self, datagram: bytes) -> _Session | None:
        if not datagram or classify(datagram) is not STUN:
            return None
        request = parse_binding_request(datagram)
        return None if request is None else self._by_ufrag.get(request.local_ufrag)


def _taker(session: _Session | None) -> Taker | None:
    return None if session is None else session.taker
