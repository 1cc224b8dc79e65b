"""What all sessions of one process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.config import EgressSettings
from relay.core.sdp_build import LocalCandidate
from relay.rtc.dtls import SharedCertificate
from relay.rtc.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class MediaPlane:
    """The public port, where it is reached, the certificate, the ways out to the service."""

    endpoint: Endpoint
    candidates: tuple[LocalCandidate, ...]
    certificate: SharedCertificate
    egress: EgressSettings = field(default_factory=EgressSettings)
