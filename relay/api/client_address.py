"""Who is really asking: peer address and scheme, with forwarded headers believed from trusted proxies alone."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN = "unknown"
_MAX_HOPS = 32


def client_address(peer: str | None, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """The address to hold responsible: the peer, or the rightmost `X-Forwarded-For` hop no trusted proxy vouches for.

    IPv6 is given as its /64, because one customer has all of it. `unknown` for a peer without an address.
    """
    address = _parse(peer or "")
    if address is None:
        return UNKNOWN
    hops = [hop for line in forwarded_for for hop in line.split(",")]
    for hop in reversed(hops[-_MAX_HOPS:]):
        if not _is_trusted(address, trusted):
            break
        parsed = _parse(hop.strip())
        if parsed is None:
            break
        address = parsed
    return _group(address)


def group_of_peer(peer: str, trusted: Sequence[Network]) -> str | None:
    """The address a connection counts for, as `client_address` gives it; None for a trusted proxy, which is many."""
    address = _parse(peer)
    if address is None:
        return UNKNOWN
    return None if _is_trusted(address, trusted) else _group(address)


def client_scheme(scheme: str, peer: str | None, forwarded_proto: str | None, trusted: Sequence[Network]) -> str:
    """`https` or `http` as the browser sees it: a trusted proxy's last `X-Forwarded-Proto` wins over our own."""
    address = _parse(peer or "")
    if forwarded_proto is None or address is None or not _is_trusted(address, trusted):
        return scheme
    told = forwarded_proto.rpartition(",")[2].strip().lower()
    return told if told in {"http", "https"} else scheme


def _parse(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted if network.version == address.version)


def _group(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
