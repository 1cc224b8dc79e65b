"""A full, controlling ICE agent for one component (RFC 8445), as values and times: no socket, no clock, no task.

The owner opens ways and tells of them (`add_way`), hands in STUN datagrams (`on_stun`) and calls `on_timer` at
`next_at`; datagrams leave by the `send` it gave. Where the agent differs from the RFC's letter it says so:

- The check that can go now goes now: 20 ms lie between two new checks, not before the first.
- The kinds of way have an order of their own (UDP, TCP, relay); RFC priorities decide within a kind.
- The first pair that works is nominated; a better kind gets a short head start, counted from its first check.
- A lite peer is nominated by the very first check of the best pair; every other nomination is a check of its own.
- We keep the controlling role: our tie-breaker is the largest there is, so a peer that claims it too yields to our 487.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from relay.core.ice_check_pairs import (
    Check,
    CheckTimes,
    IceParameters,
    Pair,
    PairState,
    Way,
    WayKind,
    pair_priority,
)
from relay.core.rtp import DropCause
from relay.core.sdp import Candidate
from relay.core.stun import (
    Address,
    BindingRequest,
    StunError,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    parse_binding_request,
    parse_binding_response,
)

# Addresses that are no candidate of the peer and from which it may check us.
MAX_REFLEXIVE = 8
_TIE_BREAKER = 2**64 - 1
_TRANSACTION_BYTES = 12
# RFC 8445 section 11: an agent may keep its path open by Binding indications, which nobody answers.
_BINDING_INDICATION = b"\x00\x11"


class Randomness(Protocol):
    """What is asked of a source of random values, such as `random.SystemRandom`."""

    def randbytes(self, n: int, /) -> bytes:
        """`n` random bytes."""
        ...

    def uniform(self, a: float, b: float, /) -> float:
        """A number between two others."""
        ...


class ControllingAgent:
    """Finds a pair that works and keeps its consent.

    `send(way, datagram, address)` sends one datagram on the way of a number. `selected` is the nominated pair; `lost`
    says that the peer stopped answering on it (RFC 7675), or that its way is gone.
    """

    def __init__(
        self,
        local: IceParameters,
        remote: IceParameters,
        candidates: tuple[Candidate, ...],
        send: Callable[[int, bytes, Address], object],
        randomness: Randomness,
        now: float,
        times: CheckTimes,
    ) -> None:
        self.selected: Pair | None = None
        self.lost = False
        self._local = local
        self._remote = remote
        self._username = f"{remote.ufrag}:{local.ufrag}"
        self._local_key = local.pwd.encode()
        self._remote_key = remote.pwd.encode()
        self._candidates = candidates
        self._send = send
        self._random = randomness
        self._times = times
        self._ways: dict[int, Way] = {}
        self._pairs: list[Pair] = []
        self._asked: dict[bytes, Pair] = {}
        self._expected: frozenset[WayKind] = frozenset(WayKind)
        self._reflexive = 0
        self._checked = False
        self._relay_at = now + times.relay_after
        self._check_at = now
        self._consent_at = 0.0
        self._answered = 0.0

    # --- ways --------------------------------------------------------------------------------------------------------

    def add_way(self, way: Way, now: float) -> None:
        """Pair a new way with every candidate it reaches (RFC 8445 section 6.1.2.2), and check."""
        if self.selected is not None:
            return
        self._ways[way.number] = way
        for each in self._candidates:
            if way.reaches(each):
                self._add_pair(way, (each.host, each.port), each.priority)
        self.on_timer(now)

    def remove_way(self, number: int, now: float) -> None:
        """Give up a way that is broken; with the selected pair's, the peer is lost."""
        self._ways.pop(number, None)
        for pair in self._pairs:
            if pair.way.number == number:
                self._fail(pair)
        self.lost = self.lost or (self.selected is not None and self.selected.way.number == number)
        self.on_timer(now)

    def expect(self, kinds: Collection[WayKind], now: float) -> None:
        """Say ways of which kinds may still be added; until it is said, any."""
        self._expected = frozenset(kinds)
        self.on_timer(now)

    @property
    def failed(self) -> bool:
        """Whether no pair works and none can be added."""
        return self.selected is None and not self._expected and not any(pair.unfinished for pair in self._pairs)

    @property
    def unanswered(self) -> list[str]:
        """The pairs that were checked in vain, for people."""
        return [str(pair) for pair in self._pairs if pair.state is PairState.FAILED]

    def knows(self, number: int, address: Address) -> bool:
        """Whether an address may be the peer's, as seen on a way."""
        return self._find(number, address) is not None

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float | None:
        """When `on_timer` is to be called; None: not before something else happens."""
        if self.lost:
            return None
        times = [check.due for pair in self._pairs for check in pair.checks.values()]
        if self.selected is not None:
            times += [self._consent_at, self._answered + self._times.consent_lost]
        elif (best := self._best_working()) is not None:
            times.append(self._held_until(best))
        else:
            times += [
                self._relay_at if self._must_wait(pair) else self._check_at
                for pair in self._pairs
                if pair.state is PairState.WAITING
            ]
        return min(times, default=None)

    def on_timer(self, now: float) -> None:
        """Do what is due: repeat, begin checks, nominate, ask for consent."""
        self._repeat_or_give_up(now)
        if self.selected is not None:
            self._keep_consent(now)
        elif (best := self._best_working()) is None:
            self._begin_checks(now)
        elif self._held_until(best) <= now:
            self._nominate(best, now)

    def _repeat_or_give_up(self, now: float) -> None:
        for pair in self._pairs:
            for transaction_id, check in list(pair.checks.items()):
                if check.due > now:
                    continue
                if check.sent < self._times.transmissions:
                    check.sent += 1
                    check.interval = min(2 * check.interval, self._times.retransmit_most)
                    check.due = now + check.interval
                    self._send(pair.way.number, check.message, pair.address)
                    continue
                self._forget(pair, transaction_id)
                if pair.state is PairState.IN_PROGRESS:
                    pair.state = PairState.FAILED

    def _begin_checks(self, now: float) -> None:
        for pair in self._pairs:
            if now < self._check_at:
                return
            if pair.state is PairState.WAITING and not self._must_wait(pair, now):
                self._check_at = now + self._times.pace
                self._begin(pair, now)

    def _must_wait(self, pair: Pair, now: float = float("-inf")) -> bool:
        """Whether a relay is not to be used yet, because something better may work."""
        if pair.way.kind is not WayKind.RELAY or now >= self._relay_at:
            return False
        return bool(self._expected - {WayKind.RELAY}) or any(
            each.unfinished for each in self._pairs if each.way.kind is not WayKind.RELAY
        )

    def _best_working(self) -> Pair | None:
        return next((pair for pair in self._pairs if pair.state is PairState.SUCCEEDED), None)

    def _held_until(self, best: Pair) -> float:
        """Until when a pair that works waits for one of a better kind whose check is still fresh."""
        better = (
            pair.began + self._times.patience
            for pair in self._pairs
            if pair.state is PairState.IN_PROGRESS and pair.way.kind.rank < best.way.kind.rank
        )
        return max(better, default=0.0)

    def _nominate(self, pair: Pair, now: float) -> None:
        self.selected = pair
        for other in self._pairs:
            if other is not pair:
                self._fail(other)
        self._pairs = [pair]
        self._answered = now
        self._consent_at = now + self._random.uniform(self._times.consent_least, self._times.consent_most)
        if not pair.nominating:
            pair.nominating = True
            self._ask(pair, now)

    def _keep_consent(self, now: float) -> None:
        if now - self._answered >= self._times.consent_lost:
            self.lost = True
        elif now >= self._consent_at and not self.lost and self.selected is not None:
            # RFC 7675 section 5.1: a new transaction each time, not repeated. All with USE-CANDIDATE: some servers
            # answer no other check once they are connected.
            self._ask(self.selected, now, once=self._times.consent_lost)
            self._consent_at = now + self._random.uniform(self._times.consent_least, self._times.consent_most)

    # --- datagrams ---------------------------------------------------------------------------------------------------

    def on_stun(self, number: int, datagram: bytes, address: Address, now: float) -> DropCause | None:
        """Take a datagram that looks like STUN; the cause if it is dropped. `address` is host and port."""
        request = parse_binding_request(datagram)
        if request is not None:
            return self._on_request(number, datagram, request, address, now)
        response = parse_binding_response(datagram)
        if response is None:
            return None if datagram.startswith(_BINDING_INDICATION) else DropCause.STUN_MALFORMED
        if not is_authentic(datagram, response, self._remote_key):
            return DropCause.STUN_NOT_AUTHENTIC
        pair = self._asked.get(response.transaction_id)
        if pair is None:
            return None  # the second answer to a check that was repeated
        # RFC 8445 section 7.2.5.2.1: the answer comes from where the check went.
        if pair.way.number != number or pair.address != address:
            return DropCause.STRANGER
        self._forget(pair, response.transaction_id)
        if self.selected is pair:
            self._answered = self._answered if response.error else now
        else:
            # RFC 8445 sections 7.2.5.1 and 7.2.5.2.4: any error ends the pair; see the module for 487.
            pair.state = PairState.FAILED if response.error else PairState.SUCCEEDED
        self.on_timer(now)
        return None

    def _on_request(
        self, number: int, datagram: bytes, request: BindingRequest, address: Address, now: float
    ) -> DropCause | None:
        if (request.local_ufrag, request.remote_ufrag) != (self._local.ufrag, self._remote.ufrag):
            return DropCause.STUN_UNKNOWN_SESSION
        if not is_authentic(datagram, request, self._local_key):
            return DropCause.STUN_NOT_AUTHENTIC
        if request.unknown:
            self._refuse(number, request, StunError.UNKNOWN_ATTRIBUTE, address)
        elif request.claims_controlling:
            # RFC 8445 section 7.3.1.1: the larger tie-breaker keeps the role, and none is larger than ours.
            self._refuse(number, request, StunError.ROLE_CONFLICT, address)
        else:
            self._send(number, binding_success(request.transaction_id, address, self._local_key), address)
            if self.selected is None:
                return self._trigger(number, request.priority, address, now)
        return None

    def _trigger(self, number: int, priority: int, address: Address, now: float) -> DropCause | None:
        """Check back where the peer checked us (RFC 8445 sections 7.3.1.3 and 7.3.1.4)."""
        pair, way = self._find(number, address), self._ways.get(number)
        if pair is None and way is not None:
            if self._reflexive == MAX_REFLEXIVE:
                return DropCause.ADDRESS_LIMIT
            self._reflexive += 1
            pair = self._add_pair(way, address, priority)
        if pair is not None and pair.state in {PairState.WAITING, PairState.FAILED} and not self._must_wait(pair, now):
            self._begin(pair, now)
        return None

    def _refuse(self, number: int, request: BindingRequest, error: StunError, address: Address) -> None:
        answer = binding_error(request.transaction_id, error, self._local_key, request.unknown)
        self._send(number, answer, address)

    # --- pairs -------------------------------------------------------------------------------------------------------

    def _add_pair(self, way: Way, address: Address, priority: int) -> Pair:
        pair = Pair(way, address, pair_priority(way.priority, priority))
        self._pairs.append(pair)
        self._pairs.sort(key=lambda each: each.order)
        return pair

    def _find(self, number: int, address: Address) -> Pair | None:
        return next((each for each in self._pairs if each.address == address and each.way.number == number), None)

    def _begin(self, pair: Pair, now: float) -> None:
        pair.state = PairState.IN_PROGRESS
        pair.began = now
        # A lite peer follows the last nomination: one pair alone may carry it before it is known to work.
        pair.nominating = self._remote.lite and not self._checked
        self._checked = True
        self._ask(pair, now)

    def _ask(self, pair: Pair, now: float, once: float = 0.0) -> None:
        """Send a check; with `once` it is not repeated, and forgotten after so many seconds."""
        transaction_id = self._random.randbytes(_TRANSACTION_BYTES)
        message = binding_request(
            transaction_id, self._username, self._remote_key, priority=pair.way.reflexive_priority,
            tie_breaker=_TIE_BREAKER, use_candidate=pair.nominating,
        )  # fmt: skip
        times = self._times
        if pair.way.reliable:
            once = once or times.check_seconds
        if once:
            pair.checks[transaction_id] = Check(message, now + once, 0.0, times.transmissions)
        else:
            pair.checks[transaction_id] = Check(message, now + times.retransmit, times.retransmit)
        self._asked[transaction_id] = pair
        self._send(pair.way.number, message, pair.address)

    def _fail(self, pair: Pair) -> None:
        pair.state = PairState.FAILED
        for transaction_id in list(pair.checks):
            self._forget(pair, transaction_id)

    def _forget(self, pair: Pair, transaction_id: bytes) -> None:
        del pair.checks[transaction_id]
        del self._asked[transaction_id]
