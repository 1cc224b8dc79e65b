"""What all sessions of one process share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from relay.config import EgressSettings
from relay.core.rtp import DropCause
from relay.core.sdp_build import LocalCandidate
from relay.rtc.dtls import SharedCertificate
from relay.rtc.ice_lite import IceLiteAgent, Inlets
from relay.rtc.ticker import Ticker


class MediaPort(Protocol):
    """The public port as legs see it: an Endpoint, or an Outpost where the port is another process's."""

    @property
    def dropped(self) -> Counter[DropCause]:
        """What nobody took, by cause."""
        ...

    def add_agent(self, inlets: Inlets, remote_ufrag: str) -> IceLiteAgent:
        """Create the ICE end of a new leg."""
        ...

    def drop(self, cause: DropCause) -> None:
        """Count a datagram that is not handled."""
        ...


@dataclass(frozen=True, slots=True)
class MediaPlane:
    """The public port and where it is reached, the certificate, the ways out to the service, the sessions' second."""

    endpoint: MediaPort
    candidates: tuple[LocalCandidate, ...]
    certificate: SharedCertificate
    egress: EgressSettings = field(default_factory=EgressSettings)
    ticker: Ticker = field(default_factory=Ticker)
