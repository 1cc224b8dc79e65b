"""Which addresses media is received on, and which ones browsers are told to send to.

Three kinds of address are left out wherever this module chooses by itself (a wildcard narrowed to interfaces, `auto`):
link-local ones, which an ICE candidate cannot carry across a router or without a zone; loopback ones, unless the
interface was asked for by name or nothing else exists; and those of a family that the machine does not have. An address
that is written out is taken as written.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import ifaddr

from relay.config_network import Advertised
from relay.errors import ConfigError

_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class AdvertisedAddress:
    """One address for browsers, a literal IP; `tcp_port` None: no TCP there. Ports are those seen from outside."""

    host: str
    udp_port: int
    tcp_port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.tcp_port is None:
            return f"{host} udp {self.udp_port}"
        return f"{host} udp {self.udp_port} tcp {self.tcp_port}"


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address that an interface of this machine has, an IPv6 one without its zone."""

    interface: str
    host: str

    @property
    def is_usable(self) -> bool:
        """Whether another machine could be told to send here."""
        address = ipaddress.ip_address(self.host)
        return not address.is_loopback and not address.is_link_local


def local_addresses() -> tuple[LocalAddress, ...]:
    """Every address of every interface, in the order the system gives them."""
    return tuple(
        LocalAddress(adapter.name, ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    )


def family_of(host: str) -> int:
    """4 or 6, for a literal address."""
    return ipaddress.ip_address(host).version


def bind_addresses(hosts: tuple[str, ...], interfaces: tuple[str, ...]) -> tuple[str, ...]:
    """What to bind for `ice.hosts`, in its order, each address once.

    Without `interfaces` a wildcard stays one; with them it becomes the addresses of these interfaces. A wildcard of a
    family that this machine lacks is left out; a literal address never is. An IPv6 wildcard is meant for IPv6 alone
    (IPV6_V6ONLY). Raises ConfigError for an unknown interface, and when nothing is left to bind.
    """
    local = local_addresses()
    _require_known(interfaces)
    families = {family_of(each.host) for each in local}
    found: list[str] = []
    for host in hosts:
        version = family_of(host)
        if not ipaddress.ip_address(host).is_unspecified:
            found.append(host)
        elif interfaces:
            found.extend(each.host for each in _on(interfaces, local) if family_of(each.host) == version)
        elif version in families:
            found.append(host)
    if not found:
        place = f"ice.interfaces {', '.join(interfaces)}" if interfaces else "this machine"
        raise ConfigError(f"ice.hosts {', '.join(hosts)}: {place} has no address of that family to receive media on")
    return tuple(dict.fromkeys(found))


def advertised_addresses(
    wanted: tuple[Advertised, ...],
    bound: tuple[str, ...],
    udp_port: int,
    tcp_port: int | None,
    interfaces: tuple[str, ...] = (),
) -> tuple[AdvertisedAddress, ...]:
    """Resolve `ice.advertise` once, at start, for sockets bound to `bound`; the order is the order of preference.

    `auto` is every bound address, a wildcard among them standing for the addresses of its family on `interfaces` (none:
    on all), and loopback when there is no other. A DNS name is every address it has in the bound families. A port given
    with an address takes the place of both bound ones. `tcp_port` None: no TCP.
    Raises ConfigError for an unknown interface, for a name that does not resolve, for an address of a family that
    nothing is bound to, when `auto` finds nothing, and for an empty list.
    """
    if not wanted:
        raise ConfigError("ice.advertise is empty: browsers would be told no address; give auto, or the one they see")
    families = {family_of(host) for host in bound}
    found: list[AdvertisedAddress] = []
    for each in wanted:
        hosts = _automatic(bound, interfaces) if each.host == _AUTO else _resolved(each.host, families)
        for host in hosts:
            tcp = None if tcp_port is None else each.port or tcp_port
            found.append(AdvertisedAddress(host, each.port or udp_port, tcp))
    return tuple(dict.fromkeys(found))


def _automatic(bound: tuple[str, ...], interfaces: tuple[str, ...]) -> list[str]:
    _require_known(interfaces)
    local = local_addresses()
    allowed = _on(interfaces, local) if interfaces else [each for each in local if each.is_usable]
    found: list[str] = []
    for host in bound:
        if ipaddress.ip_address(host).is_unspecified:
            found.extend(each.host for each in allowed if family_of(each.host) == family_of(host))
        elif not interfaces or any(each.host == host for each in allowed):
            found.append(host)
    if not found and not interfaces:
        families = {family_of(host) for host in bound}
        found = [each.host for each in local if _is_loopback(each.host) and family_of(each.host) in families]
    if not found:
        place = f"ice.interfaces {', '.join(interfaces)} and ice.hosts" if interfaces else "ice.hosts"
        raise ConfigError(f"ice.advertise: auto finds no address that fits {place} {', '.join(bound)}")
    return found


def _resolved(name: str, families: set[int]) -> list[str]:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _looked_up(name, families)
    if address.version not in families:
        raise ConfigError(f"ice.advertise: {name} is an IPv{address.version} address and ice.hosts binds none")
    return [str(address)]


def _looked_up(name: str, families: set[int]) -> list[str]:
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConfigError(f"ice.advertise: {name} does not resolve: {error.strerror}") from None
    addresses = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos))
    fitting = [address for address in addresses if family_of(address) in families]
    if not fitting:
        raise ConfigError(
            f"ice.advertise: {name} resolves to {', '.join(addresses)}, of a family that ice.hosts does not bind"
        )
    return fitting


def _on(interfaces: tuple[str, ...], local: Iterable[LocalAddress]) -> list[LocalAddress]:
    """The addresses of these interfaces; an interface's loopback addresses count, for it was asked for by name."""
    return [each for each in local if each.interface in interfaces and (each.is_usable or _is_loopback(each.host))]


def _require_known(interfaces: tuple[str, ...]) -> None:
    existing = [name for _, name in socket.if_nameindex()] if interfaces else []
    for name in interfaces:
        if name not in existing:
            raise ConfigError(f"ice.interfaces: there is no interface {name}; this machine has {', '.join(existing)}")


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
