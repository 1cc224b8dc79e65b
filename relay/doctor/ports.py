"""Checks of what the relay listens on and what browsers are told: ports, interfaces, advertised addresses."""

from __future__ import annotations

import errno
import ipaddress
import json
import socket

from relay.config import Settings
from relay.doctor.checks import Check, CheckName, Status, in_thread
from relay.doctor.net import NetError, get, is_literal, lookup
from relay.doctor.serving import Serving, accepts, local, local_url, takes_datagrams
from relay.errors import ConfigError
from relay.rtc.advertise import AdvertisedAddress, advertised_addresses, bind_addresses, family_of, local_addresses

_OK = 200
_WORDS = {
    errno.EACCES: "is not allowed to this user",
    errno.EADDRNOTAVAIL: "cannot be bound: no interface has that address",
    errno.EAFNOSUPPORT: "cannot be bound: this machine lacks the address family",
}


async def http_port(settings: Settings, seconds: float) -> list[Check]:
    """The public listener: free, or a relay answers there."""
    http = settings.http
    scheme = "https" if http.tls_cert_file else "http"
    return [await _listener(CheckName.HTTP_PORT, scheme, http.host, http.port, "http.port", seconds)]


async def operations_port(settings: Settings, seconds: float) -> list[Check]:
    """The operations listener: free, or a relay answers there."""
    admin = settings.admin
    return [await _listener(CheckName.OPERATIONS_PORT, "http", admin.host, admin.port, "admin.port", seconds)]


async def media_ports(settings: Settings, relay: Serving | None, seconds: float) -> list[Check]:
    """The media ports on every address to bind: free, or this relay takes what is sent there."""
    ice = settings.ice
    try:
        hosts = bind_addresses(ice.hosts, ice.interfaces)
    except ConfigError as error:
        return [Check(CheckName.MEDIA_UDP, Status.FAIL, str(error), "correct ice.hosts or ice.interfaces")]
    found = [await _media("udp", host, ice.udp_port, relay, seconds) for host in hosts]
    if not ice.tcp:
        return [*found, Check(CheckName.MEDIA_TCP, Status.SKIP, "ice.tcp is false: media over UDP alone")]
    return [*found, *[await _media("tcp", host, ice.tcp_port, relay, seconds) for host in hosts]]


async def advertised(settings: Settings) -> list[Check]:
    """What browsers would be told, each address against the interfaces of this machine."""
    ice = settings.ice
    try:
        bound = bind_addresses(ice.hosts, ice.interfaces)
        told = await in_thread(
            lambda: advertised_addresses(
                ice.advertise, bound, ice.udp_port, ice.tcp_port if ice.tcp else None, ice.interfaces
            )
        )
    except ConfigError as error:
        advice = "give addresses that browsers can reach and of families that ice.hosts binds, or auto"
        return [Check(CheckName.ADVERTISED, Status.FAIL, str(error), advice)]
    names = [each.host for each in ice.advertise if each.host != "auto" and not is_literal(each.host)]
    origins = [(name, set(await lookup(name))) for name in names]
    own = {each.host: each.interface for each in local_addresses()}
    found: list[Check] = []
    for each in told:
        name = next((name for name, addresses in origins if each.host in addresses), "")
        found.append(_advertised(each, settings, own.get(each.host), name))
    return found


def _advertised(told: AdvertisedAddress, settings: Settings, interface: str | None, name: str) -> Check:
    ice = settings.ice
    origin = f" (from {name})" if name else ""
    subject = str(told)
    if interface is None:
        ports = _forwarding("UDP", told.udp_port, ice.udp_port)
        if told.tcp_port is not None:
            ports += " and " + _forwarding("TCP", told.tcp_port, ice.tcp_port)
        seen = f"is on no interface of this machine{origin}: 1:1 NAT assumed"
        return Check(CheckName.ADVERTISED, Status.WARN, seen, f"{ports} must be forwarded here", subject)
    address = ipaddress.ip_address(told.host)
    seen = f"is on {interface}{origin}"
    if address.is_loopback:
        advice = "right for a trial; else give the address that browsers reach in ice.advertise"
        return Check(
            CheckName.ADVERTISED, Status.WARN, f"{seen}: only browsers on this machine reach it", advice, subject
        )
    if address.is_link_local:
        advice = "give an address that browsers reach in ice.advertise"
        return Check(CheckName.ADVERTISED, Status.WARN, f"{seen}: link-local, reached from one cable", advice, subject)
    if address.is_private:
        seen += ", a private address: browsers outside this network do not reach it"
    return Check(CheckName.ADVERTISED, Status.OK, seen, subject=subject)


def _forwarding(protocol: str, outside: int, inside: int) -> str:
    return f"{protocol} {outside}" if outside == inside else f"{protocol} {outside} to {inside}"


async def _listener(name: CheckName, scheme: str, host: str, port: int, setting: str, seconds: float) -> Check:
    subject = f"tcp {host} {port}"
    if port == 0:
        return Check(name, Status.OK, f"{setting} is 0: any free port is taken", subject=subject)
    try:
        addresses = (host,) if is_literal(host) else await lookup(host)
    except NetError as error:
        return Check(name, Status.FAIL, f"{host} does not resolve: {error}", "correct the host to listen on", subject)
    problem = next((each for each in (_bindable(address, port, tcp=True) for address in addresses) if each), None)
    if problem is None:
        return Check(name, Status.OK, "free", subject=subject)
    if problem != errno.EADDRINUSE:
        return _cannot_bind(name, problem, port, subject)
    return await _relay_at(name, local_url(scheme, host, port), port, setting, subject, seconds)


async def _relay_at(name: CheckName, url: str, port: int, setting: str, subject: str, seconds: float) -> Check:
    """Who has a port that is in use: a relay, ready or not, or something else."""
    try:
        alive, ready = await get(url, "/livez", seconds), await get(url, "/readyz", seconds)
        is_relay = alive.status == _OK and b"alive" in alive.body
    except NetError:
        is_relay = False
    if not is_relay:
        advice = f"find it with: ss -ltnp 'sport = :{port}'; stop it or change {setting}"
        return Check(name, Status.FAIL, "in use by something that is not a relay", advice, subject)
    if ready.status != _OK:
        seen = f"a relay is running there and admits nobody: {_reasons(ready.body)}"
        return Check(name, Status.WARN, seen, "see its log; the operations listener's /readyz says more", subject)
    return Check(name, Status.OK, "a relay is running there and answers", subject=subject)


def _reasons(body: bytes) -> str:
    """Why a relay is not ready: names at the public listener, names and words at the operations listener."""
    try:
        reasons = json.loads(body)["reasons"]
    except (ValueError, KeyError, TypeError):
        return "it does not say why"
    named = reasons.items() if isinstance(reasons, dict) else ((each, "") for each in reasons)
    return "; ".join(f"{each}: {words}" if words else str(each) for each, words in named)


async def _media(protocol: str, host: str, port: int, relay: Serving | None, seconds: float) -> Check:
    name = CheckName.MEDIA_TCP if protocol == "tcp" else CheckName.MEDIA_UDP
    subject, setting = f"{protocol} {host} {port}", f"ice.{protocol}_port"
    if port == 0:
        return Check(
            name, Status.OK, f"{setting} is 0: any free port is taken, which no firewall knows", subject=subject
        )
    problem = _bindable(host, port, tcp=protocol == "tcp")
    if problem is None:
        return Check(name, Status.OK, "free", subject=subject)
    if problem != errno.EADDRINUSE:
        return _cannot_bind(name, problem, port, subject)
    advice = f"find it with: ss -{protocol[0]}lnp 'sport = :{port}'; stop it or change {setting}"
    if relay is None:
        return Check(name, Status.FAIL, "in use, and no relay is running that could be asked", advice, subject)
    if protocol == "tcp":
        taken = await accepts(host, port, seconds)
    else:
        taken = await takes_datagrams(relay, local(host), port, seconds)
    if taken:
        return Check(name, Status.OK, "a relay is running there and takes what is sent", subject=subject)
    return Check(name, Status.FAIL, "in use, and what is sent there does not reach the running relay", advice, subject)


def _cannot_bind(name: CheckName, problem: int, port: int, subject: str) -> Check:
    advice = "give an address of this machine"
    if problem == errno.EACCES:
        advice = f"use a port of 1024 or more, or allow {port} (CAP_NET_BIND_SERVICE)"
    return Check(
        name, Status.FAIL, _WORDS.get(problem, errno.errorcode.get(problem, "cannot be bound")), advice, subject
    )


def _bindable(address: str, port: int, *, tcp: bool) -> int | None:
    """The number of the error with which binding fails, None if it does not."""
    family = socket.AF_INET if family_of(address) == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as tried:
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if tcp:
                # As the relay binds: connections that wait to be forgotten do not count.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((address, port))
            if tcp:
                tried.listen(1)
    except OSError as error:
        return error.errno or errno.EINVAL
    return None
