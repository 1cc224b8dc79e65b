"""Parsers of network settings: advertised addresses, TURN and STUN URLs, port ranges, a proxy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import urlsplit

from relay.config_values import Secret, is_address, quoted

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\Z"
)
_INTERFACE = re.compile(r"[^\s/:,]{1,15}\Z")
# RFC 7064 and RFC 7065: scheme, host, port, and for TURN the transport.
_ICE_SERVER = re.compile(
    r"(stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[^:?/\[\]@]+)(?::([0-9]{1,5}))?(\?transport=(udp|tcp))?\Z"
)
_DEFAULT_PORTS = {"stun": 3478, "turn": 3478, "stuns": 5349, "turns": 5349}
MAX_PORT = 65_535
_FIRST_FREE_PORT = 1_024


@dataclass(frozen=True, slots=True)
class Advertised:
    """What browsers are told to send to: `auto`, an IP address or a DNS name; `port` None is the bound one."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Local ports from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server: `scheme` stun, stuns, turn or turns; `transport` udp or tcp."""

    scheme: str
    host: str
    port: int
    transport: str

    @property
    def is_turn(self) -> bool:
        """Whether it relays; a STUN server only tells addresses."""
        return self.scheme.startswith("turn")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}" + (f"?transport={self.transport}" if self.is_turn else "")


def advertised(text: str) -> Advertised:
    """Parse `auto`, a literal IP address or a DNS name, each with an optional `:port` (an IPv6 address in brackets)."""
    if is_address(text):
        return Advertised(_reachable(text, text))
    host, port = text, None
    if (found := re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", text)) is not None:
        host, port = found[1].removeprefix("[").removesuffix("]"), _port(found[2], text)
    if is_address(host):
        return Advertised(_reachable(host, text), port)
    if re.fullmatch(r"[0-9.]+", host) or _HOST.match(host) is None:
        raise ValueError(f"{quoted(text)} is neither auto, an IP address nor a DNS name (with :port or without)")
    return Advertised(host, port)


def interface(text: str) -> str:
    """Parse the name of a network interface such as `eth0`."""
    if _INTERFACE.match(text) is None:
        raise ValueError(f"{quoted(text)} is not the name of a network interface")
    return text


def port_range(text: str) -> PortRange:
    """Parse `first-last`."""
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text, re.ASCII)
    if found is None:
        raise ValueError(f"{quoted(text)} is not a range of ports such as 50000-50999")
    first, last = int(found[1]), int(found[2])
    if not _FIRST_FREE_PORT <= first <= last <= MAX_PORT:
        raise ValueError(f"{quoted(text)} is not a range within {_FIRST_FREE_PORT} to {MAX_PORT}")
    return PortRange(first, last)


def ice_server(text: str) -> IceServer:
    """Parse a `stun:`, `turn:` or `turns:` URL (RFC 7064, RFC 7065)."""
    found = _ICE_SERVER.match(text)
    if found is None:
        raise ValueError(f"{quoted(text)} is not a URL such as turns:turn.example.com:443?transport=tcp")
    scheme, host, port, query, transport = found.groups()
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(host) and (re.fullmatch(r"[0-9.]+", host) or _HOST.match(host) is None):
        raise ValueError(f"{quoted(text)} names no host")
    if query and scheme.startswith("stun"):
        raise ValueError(f"{quoted(text)}: a STUN URL has no transport")
    number = _DEFAULT_PORTS[scheme] if port is None else _port(port, text)
    return IceServer(scheme, host, number, transport or ("tcp" if scheme.endswith("s") else "udp"))


def turn_server(text: str) -> IceServer:
    """Parse a `turn:` or `turns:` URL."""
    server = ice_server(text)
    if not server.is_turn:
        raise ValueError(f"{quoted(text)} is no TURN server")
    if server.scheme == "turns" and server.transport == "udp":
        raise ValueError(f"{quoted(text)}: TURN over DTLS is not supported; use transport=tcp")
    return server


def proxy_url(text: str) -> Secret:
    """Parse an HTTP proxy, `http://[user:password@]host:port`; kept as a secret, for it may hold a password."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "http" and parts.hostname and parts.port and parts.path in {"", "/"}
        usable = usable and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    # The URL splitter passes over tabs and line ends, which a header must not hold.
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is not a proxy such as http://proxy.example.com:3128")
    return Secret(text.rstrip("/"))


@dataclass(frozen=True, slots=True)
class TcpListener:
    """What accepts TCP connections: its port's setting, the hosts it binds, the ports it takes (0: any free one)."""

    name: str
    hosts: tuple[str, ...]
    ports: range


def shared_port_problems(listeners: Sequence[TcpListener]) -> list[str]:
    """Which of these cannot both listen, because they would at one port of one address."""
    found: list[str] = []
    for one, other in combinations(listeners, 2):
        taken = [port for port in one.ports if port and port in other.ports]
        if taken and any(_meet(host, each) for host in one.hosts for each in other.hosts):
            found.append(f"{one.name} and {other.name} are both TCP port {taken[0]}: give each a port of its own")
    return found


def _meet(host: str, other: str) -> bool:
    """Whether two hosts are one address: the same words, or a wildcard and any literal of its family."""
    if host == other:
        return True
    if not (is_address(host) and is_address(other)):
        return False
    one, two = ipaddress.ip_address(host), ipaddress.ip_address(other)
    return one.version == two.version and (one == two or one.is_unspecified or two.is_unspecified)


def own_port_problems(workers: int, ports: Mapping[str, int], advertise: tuple[Advertised, ...]) -> list[str]:
    """Why so many workers cannot have ports of their own, each the setting's (by name) and its number."""
    found = [
        f"workers.ports own: worker {workers} would listen on {name} + {workers}, and there is no port {port + workers}"
        for name, port in ports.items()
        if port + workers > MAX_PORT
    ]
    if any(each.port is not None for each in advertise):
        found.append(
            "workers.ports own: ice.advertise names one port, and every worker has its own; leave the port out "
            "(outside they must be the same as inside), or set workers.ports to shared"
        )
    return found


def _reachable(host: str, text: str) -> str:
    ip = ipaddress.ip_address(host)
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{quoted(text)} cannot be reached by a browser; give the address it sees, or auto")
    if "%" in host:
        raise ValueError(f"{quoted(text)} holds a zone, which means nothing to a browser")
    return str(ip)


def _port(digits: str, text: str) -> int:
    number = int(digits)
    if not 1 <= number <= MAX_PORT:
        raise ValueError(f"{quoted(text)} has a port that is not from 1 to {MAX_PORT}")
    return number
