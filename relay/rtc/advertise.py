"""Which addresses browsers are told to send to."""

from __future__ import annotations

import ipaddress
import socket

import ifaddr

from relay.errors import ConfigError

_AUTO = "auto"
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def advertised_addresses(wanted: tuple[str, ...], bound: str, port: int) -> tuple[tuple[str, int], ...]:
    """Resolve `ice.advertise` once, at start, for a socket bound to `bound`: literal IPs, DNS names, or `auto`.

    `auto` is the bound address, or for a wildcard every address of this machine's interfaces that fits its family, and
    loopback when there is no other. Raises ConfigError for a name that does not resolve or an address of the other
    family.
    """
    found: list[str] = []
    version = 6 if ":" in bound else 4
    for name in wanted:
        for address in _local_addresses(bound) if name == _AUTO else _resolve(name, version):
            if ipaddress.ip_address(address).version != version:
                raise ConfigError(f"ice.advertise: {address} is of another family than ice.udp_host {bound}")
            if address not in found:
                found.append(address)
    return tuple((address, port) for address in found)


def _local_addresses(bound: str) -> list[str]:
    if not ipaddress.ip_address(bound).is_unspecified:
        return [bound]
    version = ipaddress.ip_address(bound).version
    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    addresses = [ipaddress.ip_address(text) for text in texts]
    usable = [
        str(address) for address in addresses
        if address.version == version and not address.is_loopback and not address.is_link_local
    ]  # fmt: skip
    return usable or [_LOOPBACK[version]]


def _resolve(name: str, version: int) -> list[str]:
    try:
        return [str(ipaddress.ip_address(name))]
    except ValueError:
        pass
    family = socket.AF_INET6 if version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    try:
        infos = socket.getaddrinfo(name, None, family, socket.SOCK_DGRAM)
    except OSError:
        raise ConfigError(f"ice.advertise: {name} does not resolve to an IPv{version} address") from None
    return [str(info[4][0]) for info in infos]
