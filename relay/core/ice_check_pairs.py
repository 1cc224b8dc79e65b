"""What a controlling ICE agent checks: ways out, their pairs with the peer's candidates, their order, the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from relay.core.sdp import Candidate
from relay.core.stun import Address

# RFC 8445 section 5.1.2.2 gives host candidates 126 and relayed ones 0, peer-reflexive ones 110; for TCP, RFC 6544
# section 4.2 wants less than for UDP.
_LOCAL_PREFERENCE = 65_535


class WayKind(StrEnum):
    """What carries the datagrams of the upstream leg; the best comes first."""

    UDP = "udp"
    TCP = "tcp"
    RELAY = "relay"

    @property
    def rank(self) -> int:
        """0 is the best: a worse kind is never preferred to one that works."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(WayKind)}
_TYPE_PREFERENCES = {WayKind.UDP: 126, WayKind.TCP: 90, WayKind.RELAY: 0}
_REFLEXIVE_PREFERENCES = {WayKind.UDP: 110, WayKind.TCP: 80, WayKind.RELAY: 2}


@dataclass(frozen=True, slots=True)
class IceParameters:
    """What one end of ICE says of itself: ufrag and password, and whether it is a lite agent."""

    ufrag: str
    pwd: str
    lite: bool = False


@dataclass(frozen=True, slots=True)
class CheckTimes:
    """The agent's clockwork, in seconds.

    New checks are `pace` apart; an unanswered one is sent `transmissions` times, after `retransmit`, twice that, and
    so on up to `retransmit_most`. A kind of way has `patience` from its first check before a worse one that works is
    taken; a relay is not checked in the first `relay_after` while better ways may still work. Consent (RFC 7675) is
    asked every `consent_least` to `consent_most` and lost after `consent_lost` without an answer.
    """

    pace: float = 0.02
    retransmit: float = 0.1
    retransmit_most: float = 1.6
    transmissions: int = 10
    patience: float = 0.15
    relay_after: float = 1.0
    consent_least: float = 4.0
    consent_most: float = 6.0
    consent_lost: float = 30.0

    @property
    def check_seconds(self) -> float:
        """How long a check may take altogether, repeated or not."""
        return sum(min(self.retransmit * (1 << each), self.retransmit_most) for each in range(self.transmissions))


@dataclass(frozen=True, slots=True)
class Way:
    """A way out of here: a UDP socket, a TURN allocation, or a TCP connection, which leads to `only` one address."""

    number: int
    kind: WayKind
    version: int
    only: Address | None = None

    @property
    def reliable(self) -> bool:
        """Whether the stream below repeats what is lost (RFC 8489 section 6.2.2): a check is then sent once."""
        return self.kind is WayKind.TCP

    def reaches(self, candidate: Candidate) -> bool:
        """Whether a candidate can be checked on this way: same transport, same family, same end."""
        if self.only is not None:
            return candidate.transport == "tcp" and (candidate.host, candidate.port) == self.only
        # A TURN server's last leg is UDP (RFC 8656 section 3.1).
        return candidate.transport == "udp" and self.version == (6 if ":" in candidate.host else 4)

    @property
    def priority(self) -> int:
        """The priority of its local candidate (RFC 8445 section 5.1.2.1)."""
        return _candidate_priority(_TYPE_PREFERENCES[self.kind])

    @property
    def reflexive_priority(self) -> int:
        """What its checks carry as PRIORITY (RFC 8445 section 7.1.1)."""
        return _candidate_priority(_REFLEXIVE_PREFERENCES[self.kind])


class PairState(Enum):
    """RFC 8445 section 6.1.2.6 without Frozen, which serves several streams."""

    WAITING = 0
    IN_PROGRESS = 1
    SUCCEEDED = 2
    FAILED = 3


@dataclass(slots=True, eq=False)
class Check:
    """One transaction: the request as it is sent each time, when it is due again, and after what interval then."""

    message: bytes
    due: float
    interval: float
    sent: int = 1


@dataclass(slots=True, eq=False)
class Pair:
    """A way and an address of the peer. `began` is when its first check went out."""

    way: Way
    address: Address
    priority: int
    state: PairState = PairState.WAITING
    began: float = 0.0
    nominating: bool = False
    checks: dict[bytes, Check] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts the best pair first: by kind of way, then by pair priority."""
        return self.way.kind.rank, -self.priority

    def __str__(self) -> str:
        return f"{self.way.kind} {self.address[0]} port {self.address[1]}"

    @property
    def unfinished(self) -> bool:
        """Whether it may still succeed."""
        return self.state in {PairState.WAITING, PairState.IN_PROGRESS}


def pair_priority(controlling: int, controlled: int) -> int:
    """RFC 8445 section 6.1.2.3."""
    least, most = sorted((controlling, controlled))
    return (least << 32) + 2 * most + (controlling > controlled)


def _candidate_priority(type_preference: int) -> int:
    return (type_preference << 24) | (_LOCAL_PREFERENCE << 8) | 255
