"""What the main process and a worker tell each other.

Down go orders, which the worker takes from its main process as they are (pickled). Up go reports: a worker is what the
networks of strangers talk to, so that only `relay.workers.codec` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.config import EgressSettings, IceSettings, LogSettings
from relay.core.lifecycle import Command, Fact, SessionCounters, SessionStart
from relay.core.sdp_build import LocalCandidate
from relay.core.stun import Address
from relay.rtc.advertise import AdvertisedAddress

# --- orders: main process to worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SharedPorts:
    """The main process has the public ports: its bound `hosts` in order, the port, and what browsers are told."""

    hosts: tuple[str, ...]
    udp_port: int
    candidates: tuple[LocalCandidate, ...]


@dataclass(frozen=True, slots=True)
class OwnPorts:
    """The worker binds ports of its own, those in `ice`, and tells browsers of them."""

    ice: IceSettings


@dataclass(frozen=True, slots=True)
class SetUp:
    """The first order: all that the worker is told of the settings."""

    ports: SharedPorts | OwnPorts
    egress: EgressSettings
    log: LogSettings


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a session."""

    start: SessionStart


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell a session."""

    session_id: str
    command: Command


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer with `Alive` of the same number."""

    number: int


@dataclass(frozen=True, slots=True)
class Measure:
    """Answer with `Counted` for every session, then `Measured` of the same number."""

    number: int


@dataclass(frozen=True, slots=True)
class TakeDatagram:
    """A datagram that came to the main process and is for a session of the worker's."""

    host_index: int
    address: Address
    datagram: bytes


@dataclass(frozen=True, slots=True)
class TakeConnection:
    """A connection, which comes with this message, and what was read of it."""

    address: Address
    first: bytes


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Another worker's session has proven an address that a silent session here held."""

    host_index: int
    address: Address


@dataclass(frozen=True, slots=True)
class Stop:
    """End every session and leave."""


Order = SetUp | Begin | Tell | Beat | Measure | TakeDatagram | TakeConnection | GiveUp | Stop

# --- reports: worker to main process ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker can take sessions; `addresses` are those of its own ports."""

    addresses: tuple[AdvertisedAddress, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot be set up so; `error_number` is that of the system, if it was the system's error."""

    message: str
    error_number: int | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """The worker ends its sessions and goes; it takes no more."""


@dataclass(frozen=True, slots=True)
class Told:
    """A session tells a fact."""

    session_id: str
    fact: Fact


@dataclass(frozen=True, slots=True)
class Load:
    """Figures of the worker's process.

    Processor time since its start, memory that is in RAM, how late its event loop ran timers on average just now, open
    files and how many there may be (0: no limit).
    """

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    loop_lag_seconds: float = 0.0
    open_files: int = 0
    max_files: int = 0


@dataclass(frozen=True, slots=True)
class Alive:
    """The answer to `Beat`."""

    number: int
    load: Load


@dataclass(frozen=True, slots=True)
class Counted:
    """What a session counted until now."""

    session_id: str
    counters: SessionCounters


@dataclass(frozen=True, slots=True)
class Measured:
    """The end of the answer to `Measure`; `dropped` is what no session took, by cause."""

    number: int
    load: Load
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListenFor:
    """Checks that name `ufrag` are for this worker from now on."""

    ufrag: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Checks that name `ufrag` are a stranger's again."""

    ufrag: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A check proved an address to a session of this worker's."""

    host_index: int
    address: Address


@dataclass(frozen=True, slots=True)
class Released:
    """No session of this worker's has any more use for an address."""

    host_index: int
    address: Address


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send this from the public port."""

    host_index: int
    address: Address
    datagram: bytes


@dataclass(frozen=True, slots=True)
class StrayDatagram:
    """This came to a socket of the worker's and is not for it."""

    host_index: int
    address: Address
    datagram: bytes


PortReport = ListenFor | Forget | Claimed | Released | SendDatagram | StrayDatagram
# What is written as JSON alone, and what has a datagram behind it.
PlainReport = Ready | Refused | Leaving | Told | Alive | Counted | Measured | ListenFor | Forget | Claimed | Released
Report = PlainReport | SendDatagram | StrayDatagram
