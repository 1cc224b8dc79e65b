"""Checks of the way to the service's HTTP: name, connection, proxy, TLS, clock, and the credential by a real mint."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from relay.config import Settings, UpstreamProtocol, UpstreamSettings
from relay.doctor.checks import Check, CheckName, Status
from relay.doctor.local import clock, expiry
from relay.doctor.net import (
    Certificate,
    Connection,
    NetError,
    Place,
    connected,
    is_literal,
    lookup,
    place_of,
    request,
    start_tls,
    tunnel,
)
from relay.errors import ConfigError
from relay.upstream import ServiceError, ServiceRefusal, create_upstream
from relay.upstream.http import environment_proxy

_ADDRESSES_TRIED = 8
_STEPS = (CheckName.SERVICE_DNS, CheckName.SERVICE_TCP, CheckName.SERVICE_TLS, CheckName.CLOCK)
# Who is known to issue the public certificates of these services; another issuer is most likely a proxy's.
_ISSUERS = {
    "azure.com": ("microsoft", "digicert"),
    "openai.com": ("google trust", "cloudflare", "let's encrypt", "digicert", "sectigo", "ssl corporation", "amazon"),
}
_BROKEN = "a proxy between here and the service opens TLS"


def service_urls(upstream: UpstreamSettings) -> tuple[str, ...]:
    """The base URLs the relay would ask: one for each member of the pool, or the preview's two."""
    urls: list[str] = []
    for each in map(upstream.of_member, upstream.members):
        urls.append(each.endpoint)
        if each.protocol is UpstreamProtocol.AZURE_PREVIEW and each.webrtc_endpoint:
            urls.append(each.webrtc_endpoint)
    return tuple(dict.fromkeys(url for url in urls if url))


async def service(url: str, seconds: float) -> list[Check]:
    """Every step to one base URL of the service, the way the relay goes; the first that fails ends the walk."""
    found: list[Check] = []
    await _walk(url, seconds, found)
    done = {check.name for check in found}
    found.extend(Check(name, Status.SKIP, "not reached", subject=url) for name in _STEPS if name not in done)
    return found


async def _walk(url: str, seconds: float, found: list[Check]) -> None:
    place = place_of(url)
    proxy = None
    proxy_url = environment_proxy(url)
    if proxy_url is not None:
        try:
            proxy = place_of(proxy_url)
        except NetError as error:
            seen = f"the proxy of the environment: {error}"
            advice = "correct HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY"
            found.append(Check(CheckName.SERVICE_TCP, Status.FAIL, seen, advice, url))
            return
    addresses = await _names(place, proxy, found)
    if addresses is None:
        return
    try:
        async with _way(place, proxy, addresses, seconds) as (connection, wrong):
            found.append(_reached(proxy, addresses, wrong, url))
            await _speak(connection, place, proxy, url, seconds, found)
    except NetError as error:
        found.append(_unreached(error, proxy, addresses, url))


async def credentials(settings: Settings, *, mint: bool) -> list[Check]:
    """The relay's own credential, by minting a key that is then left to expire; nothing without leave."""
    upstream = settings.upstream
    if not mint:
        seen = "not tried; --mint proves it by one key, which costs nothing and opens no session"
        return [Check(CheckName.CREDENTIALS, Status.SKIP, seen)]
    proved = [_proved(upstream.of_member(each), each.name if upstream.pool else "") for each in upstream.members]
    return list(await asyncio.gather(*proved))


async def _proved(upstream: UpstreamSettings, member: str) -> Check:
    """Mint at one member; the subject of the check is its name in the pool, else its address."""
    name, subject = CheckName.CREDENTIALS, member or upstream.endpoint
    session: dict[str, Any] = {"model": upstream.deployment}
    if upstream.protocol is not UpstreamProtocol.AZURE_PREVIEW:
        session["type"] = "realtime"
    try:
        service_of = create_upstream(upstream)
    except ConfigError as error:
        return Check(name, Status.FAIL, str(error), "see docs/reference/config.md", subject)
    began = time.monotonic()
    try:
        key = await service_of.mint(session)
    except ServiceError as error:
        return Check(name, Status.FAIL, str(error), _advice(error.refusal), subject)
    finally:
        await service_of.close()
    region = f" in {key.region}" if key.region else ""
    seen = f"a key was minted for {upstream.deployment}{region} in {time.monotonic() - began:.1f} s; it was not used"
    return Check(name, Status.OK, seen, subject=subject)


async def _names(place: Place, proxy: Place | None, found: list[Check]) -> tuple[str, ...] | None:
    """The addresses to connect to, the proxy's where there is one; None if there are none."""
    target = proxy or place
    if proxy is not None:
        seen = f"not asked here: the proxy {proxy} resolves it"
        found.append(Check(CheckName.SERVICE_DNS, Status.SKIP, seen, subject=place.host))
    if is_literal(target.host):
        if proxy is None:
            found.append(Check(CheckName.SERVICE_DNS, Status.OK, "an address, no name", subject=place.host))
        return (target.host,)
    try:
        addresses = await lookup(target.host)
    except NetError as error:
        advice = "check the name, and that this machine's name server knows it (a Private Endpoint needs its zone)"
        found.append(Check(CheckName.SERVICE_DNS, Status.FAIL, str(error), advice, target.host))
        return None
    if proxy is None:
        found.append(_resolved(place.host, addresses))
    return addresses


def _resolved(host: str, addresses: tuple[str, ...]) -> Check:
    private = [ipaddress.ip_address(each.partition("%")[0]).is_private for each in addresses]
    seen = ", ".join(addresses)
    if all(private):
        loopback = all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses)
        kind = "this machine" if loopback else "private: a Private Endpoint or a split name"
        return Check(CheckName.SERVICE_DNS, Status.OK, f"{seen} ({kind})", subject=host)
    if any(private):
        advice = "find out which name server gives the address that should not be there"
        return Check(CheckName.SERVICE_DNS, Status.WARN, f"{seen}: private and public ones", advice, host)
    return Check(CheckName.SERVICE_DNS, Status.OK, f"{seen} (public)", subject=host)


@asynccontextmanager
async def _way(
    place: Place, proxy: Place | None, addresses: tuple[str, ...], seconds: float
) -> AsyncIterator[tuple[Connection, list[str]]]:
    """A stream to the service, through the proxy if there is one, and what was wrong with addresses tried before."""
    target = proxy or place
    wrong: list[str] = []
    for address in addresses[:_ADDRESSES_TRIED]:
        attempt = connected(address, target.port, seconds)
        try:
            connection = await attempt.__aenter__()
        except NetError as error:
            wrong.append(f"{address}: {error}")
            continue
        try:
            if proxy is not None:
                if proxy.scheme == "https":
                    await start_tls(connection, proxy.host, seconds)
                if place.scheme == "https":
                    await tunnel(connection, proxy, place, seconds)
            yield connection, wrong
        finally:
            await attempt.__aexit__(None, None, None)
        return
    raise NetError("; ".join(wrong))


def _reached(proxy: Place | None, addresses: tuple[str, ...], wrong: list[str], url: str) -> Check:
    through = f" through the proxy {proxy} of the environment" if proxy is not None else ""
    if wrong:
        seen = f"connected{through}, not at every address: {'; '.join(wrong)}"
        return Check(CheckName.SERVICE_TCP, Status.WARN, seen, "open the way to all addresses of the name", url)
    seen = f"connected{through or f' at {addresses[0]}'}"
    return Check(CheckName.SERVICE_TCP, Status.OK, seen, subject=url)


def _unreached(error: NetError, proxy: Place | None, addresses: tuple[str, ...], url: str) -> Check:
    if proxy is not None:
        advice = f"make the proxy {proxy} reachable and let it pass this host, or name the host in NO_PROXY"
        return Check(CheckName.SERVICE_TCP, Status.FAIL, f"through the proxy of the environment: {error}", advice, url)
    private = all(ipaddress.ip_address(each.partition("%")[0]).is_private for each in addresses)
    advice = "let outbound TCP to this port pass, or name a proxy in HTTPS_PROXY"
    if private:
        advice = "it is a private address: check the route and the network rules of the Private Endpoint"
    return Check(CheckName.SERVICE_TCP, Status.FAIL, str(error), advice, url)


async def _speak(
    connection: Connection, place: Place, proxy: Place | None, url: str, seconds: float, found: list[Check]
) -> None:
    """TLS and one HEAD on a connection; what it shows is added to `found`."""
    if place.scheme == "https":
        try:
            shown = await start_tls(connection, place.host, seconds)
        except NetError as error:
            found.append(await _refused_tls(error, place, proxy, connection.address, url, seconds))
            return
        found.append(_judged(shown, place.host, url))
    else:
        found.append(Check(CheckName.SERVICE_TLS, Status.SKIP, "plain http", subject=url))
    # Plain http through a proxy names the whole URL (RFC 9112 section 3.2.2).
    target = "/" if proxy is None or place.scheme == "https" else f"{url}/"
    began = time.monotonic()
    try:
        answer = await request(connection, "HEAD", target, str(place), seconds)
        server_time = parsedate_to_datetime(answer.headers["date"])
    except NetError as error:
        found.append(Check(CheckName.CLOCK, Status.WARN, str(error), "what answers there is no HTTP service", url))
    except (KeyError, ValueError):
        found.append(Check(CheckName.CLOCK, Status.SKIP, "the service's answer tells no time", subject=url))
    else:
        found.append(clock(server_time, time.monotonic() - began, url))


async def _refused_tls(
    error: NetError, place: Place, proxy: Place | None, address: str, url: str, seconds: float
) -> Check:
    """Why TLS failed: the certificate that was shown says who stands there."""
    advice = "see who answers there; with a proxy that opens TLS, put its authority into SSL_CERT_FILE"
    shown = None
    try:
        async with _way(place, proxy, (address,), seconds) as (connection, _):
            shown = await start_tls(connection, place.host, seconds, verify=False)
    except NetError:
        advice = "what answers there speaks no TLS that can be used"
    if shown is None:
        return Check(CheckName.SERVICE_TLS, Status.FAIL, str(error), advice, url)
    whose = f"{shown.subject}, issued by {shown.issuer}, until {shown.expires:%Y-%m-%d}"
    seen = f"the certificate is refused: {error}; shown is {whose}"
    if not _is_known_issuer(shown, place.host):
        seen += f"; {_BROKEN}"
    return Check(CheckName.SERVICE_TLS, Status.FAIL, seen, advice, url)


def _judged(shown: Certificate | None, host: str, url: str) -> Check:
    if shown is None:
        return Check(CheckName.SERVICE_TLS, Status.OK, "the certificate is good", subject=url)
    seen = f"the certificate is good, issued by {shown.issuer}"
    if not _is_known_issuer(shown, host):
        advice = "nothing, if that authority is your own; media is not affected, a proxy sees what is minted"
        return Check(
            CheckName.SERVICE_TLS, Status.WARN, f"{seen}, who does not issue for {host}: {_BROKEN}", advice, url
        )
    return expiry(CheckName.SERVICE_TLS, shown.expires, url, seen)


def _is_known_issuer(shown: Certificate, host: str) -> bool:
    known = next((issuers for zone, issuers in _ISSUERS.items() if host.endswith(f".{zone}")), None)
    return known is None or any(each in shown.issuer.lower() for each in known)


def _advice(refusal: ServiceRefusal) -> str:
    match refusal:
        case ServiceRefusal.UNAUTHORIZED:
            return "check upstream.api_key, or the identity and its role at the resource"
        case ServiceRefusal.NO_DEPLOYMENT:
            return "check upstream.deployment: the name of the deployment, not of the model"
        case ServiceRefusal.RATE_LIMITED:
            return "the quota of the deployment is used up: wait, or raise it"
        case ServiceRefusal.UNREACHABLE | ServiceRefusal.TIMEOUT:
            return "see the checks of the service's connection"
        case _:
            return "check upstream.endpoint and upstream.protocol"
