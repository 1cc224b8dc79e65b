"""What a simulated service looks like: addresses, keys, deployments, lifetimes, habits of the real one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """One stand-in service. Every field has a working default; times are seconds."""

    host: str = "127.0.0.1"
    """Address the HTTP listener binds."""
    port: int = 0
    """TCP port of the HTTP listener; 0 takes any free one."""
    ice_addresses: tuple[str, ...] = ("127.0.0.1",)
    """IP addresses bound for media and offered as host candidates."""
    udp_port: int | None = None
    """None: a socket for each session. A number (0: any free): one UDP port for all sessions, as the service does."""
    api_key: str = "simulator-resource-key"
    """The resource key: mints keys, never opens a call on an Azure path."""
    entra_token: str | None = None
    """A bearer token accepted at mint as Entra ID's would be; None accepts none."""
    deployments: tuple[str, ...] = ("gpt-realtime",)
    transcription_deployments: tuple[str, ...] = ("transcribe",)
    key_seconds: int = 7200
    """Default life of a GA key (Azure GA, recorded)."""
    preview_key_seconds: int = 60
    """Life of a preview key (founding document)."""
    single_use_keys: bool = False
    session_seconds: float = 3600.0
    connect_seconds: float = 30.0
    """How long a call may take from its answer to connected media."""
    max_sessions: int = 500
    """Live sessions; above it a call gets 429."""
    ice_lite: bool = False
    consent_quirk: bool = False
    """Once connected, STUN binding requests without USE-CANDIDATE go unanswered (seen in the field)."""
    candidates_in_every_section: bool = True
    """False: only the first media section of the answer lists candidates."""
    tcp_candidates: bool = True
    """Also list and serve `tcp … tcptype passive` candidates, as the service does: at `udp_port`'s number, else any."""
    udp_blocked: bool = False
    """UDP is neither answered nor sent, as behind a firewall that drops it."""
