"""Checks of the ways for media beyond this machine: STUN and TURN servers, UDP egress, the proxy for media."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from relay.config import EgressSettings, Settings, TurnSettings
from relay.config_network import IceServer
from relay.core.turn_credentials import turn_credential
from relay.doctor.checks import Check, CheckName, Status
from relay.doctor.net import NetError, Place, connected, is_literal, lookup, place_of, start_tls, tunnel
from relay.rtc.probe import ProbeError, stun_binding, turn_allocation

_CREDENTIAL_SECONDS = 300
# Who allocates, as the TURN server's log will have it.
_TAG = "relay-doctor"
_UNAUTHORIZED = 401
_QUOTA, _CAPACITY = 486, 508


async def ice_server(server: IceServer, turn: TurnSettings, seconds: float) -> list[Check]:
    """One of the servers handed to browsers: a Binding for STUN, a real allocation for TURN."""
    if not server.is_turn:
        return [await _binding(CheckName.ICE_SERVER, server, seconds)]
    if turn.secret is None:
        seen = "there is no turn.secret to make credentials with"
        return [Check(CheckName.ICE_SERVER, Status.FAIL, seen, "set turn.secret", str(server))]
    if server.scheme == "turns" and server.transport == "udp":
        seen = "TURN over DTLS: browsers do not speak it, and it is not tried"
        return [Check(CheckName.ICE_SERVER, Status.WARN, seen, "use transport=tcp", str(server))]
    secret = turn.secret.reveal()
    credential = turn_credential(secret, _TAG, int(time.time()) + _CREDENTIAL_SECONDS)
    advice = "make turn.secret the server's static-auth-secret, and compare the clocks of both"
    return [
        await _allocation(CheckName.ICE_SERVER, server, (credential.username, credential.password), advice, seconds)
    ]


async def egress_turn(egress: EgressSettings, seconds: float) -> list[Check]:
    """The TURN server towards the service, by an allocation with the credentials of the settings."""
    server, name = egress.turn_url, CheckName.EGRESS_TURN
    if server is None:
        return [Check(name, Status.SKIP, "egress.turn_url is not set")]
    advice = "correct egress.turn_username and egress.turn_password"
    if egress.turn_secret is not None:
        expires = int(time.time()) + _CREDENTIAL_SECONDS
        credential = turn_credential(egress.turn_secret.reveal(), _TAG, expires)
        user = (credential.username, credential.password)
        advice = "make egress.turn_secret the server's static-auth-secret, and compare the clocks of both"
    elif egress.turn_username is not None and egress.turn_password is not None:
        user = (egress.turn_username, egress.turn_password.reveal())
    else:
        return [Check(name, Status.FAIL, "egress.turn_url has no credentials", advice, str(server))]
    return [await _allocation(name, server, user, advice, seconds)]


async def egress_udp(settings: Settings, seconds: float) -> list[Check]:
    """Whether UDP leaves this network, as far as that can be told without a call."""
    name, egress = CheckName.EGRESS_UDP, settings.egress
    if not egress.udp:
        return [Check(name, Status.SKIP, "egress.udp is false: media to the service does not use it")]
    server = _udp_server(settings)
    if server is None:
        seen = (
            "cannot be proved without a peer: the service's media address is only known in a call "
            "(on Azure udp 3478, with tcp 3478 beside it)"
        )
        return [Check(name, Status.SKIP, seen, "put a stun: URL outside this network into turn.urls to have it tried")]
    check = await _binding(name, server, seconds)
    if check.status is Status.FAIL:
        advice = f"let outbound UDP pass to port {server.port}; media then goes over TCP or TURN, where these are set"
        return [Check(name, Status.WARN, f"nothing came back over UDP: {check.seen}", advice, str(server))]
    seen = f"{check.seen}; that the service's own address is let through is only seen in a call"
    return [Check(name, Status.OK, seen, subject=str(server))]


def egress_ports(settings: Settings) -> list[Check]:
    """Whether the local ports towards the service are enough and free."""
    name, ports = CheckName.EGRESS_PORTS, settings.egress.udp_ports
    if ports is None or not settings.egress.udp:
        return [Check(name, Status.SKIP, "egress.udp_ports is not set: the system chooses")]
    numbers = range(ports.first, ports.last + 1)
    sessions = settings.limits.max_sessions
    if len(numbers) < sessions:
        advice = "widen egress.udp_ports or lower limits.max_sessions: each session takes a port"
        seen = f"{len(numbers)} ports for {sessions} sessions"
        return [Check(name, Status.FAIL if len(numbers) < 1 else Status.WARN, seen, advice, str(ports))]
    taken = sum(not _is_free(number) for number in numbers)
    seen = f"{len(numbers) - taken} of {len(numbers)} ports are free, for {sessions} sessions"
    if taken > len(numbers) - sessions:
        advice = "see who has them: ss -ulnp; or choose a range outside net.ipv4.ip_local_port_range"
        return [Check(name, Status.WARN, seen, advice, str(ports))]
    return [Check(name, Status.OK, seen, subject=str(ports))]


async def egress_proxy(settings: Settings, seconds: float) -> list[Check]:
    """The HTTP proxy for media over TCP: connected to, and asked for a way to the service's HTTPS port."""
    name, secret = CheckName.EGRESS_PROXY, settings.egress.proxy
    if secret is None:
        return [Check(name, Status.SKIP, "egress.proxy is not set: media over TCP goes without")]
    proxy = place_of(secret.reveal())
    endpoint = settings.upstream.members[0].endpoint
    target = place_of(endpoint) if endpoint else Place("https", "127.0.0.1", 443)
    try:
        address = proxy.host if is_literal(proxy.host) else (await lookup(proxy.host))[0]
        async with connected(address, proxy.port, seconds) as connection:
            if proxy.scheme == "https":
                await start_tls(connection, proxy.host, seconds)
            await tunnel(connection, proxy, target, seconds)
    except NetError as error:
        if error.status is None:
            advice = "check the proxy's address in egress.proxy"
            return [Check(name, Status.FAIL, str(error), advice, str(proxy))]
        advice = "let it pass CONNECT to the service's media addresses too (Azure tcp 3478, OpenAI tcp 443)"
        return [Check(name, Status.FAIL, str(error), advice, str(proxy))]
    seen = f"opens a way to {target}; to the media port (Azure tcp 3478, OpenAI tcp 443) it must as well"
    return [Check(name, Status.OK, seen, subject=str(proxy))]


async def _binding(name: CheckName, server: IceServer, seconds: float) -> Check:
    try:
        addresses = await _addresses(server)
        host, port = await stun_binding(server, addresses[0], seconds)
    except (NetError, ProbeError) as error:
        advice = f"let {server.transport.upper()} {server.port} to {server.host} pass, and see that a server runs there"
        return Check(name, Status.FAIL, str(error), advice, str(server))
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Check(name, Status.OK, f"answers; from there this machine is {shown}", subject=str(server))


async def _allocation(name: CheckName, server: IceServer, user: tuple[str, str], refused: str, seconds: float) -> Check:
    try:
        addresses = await _addresses(server)
        host, port = await turn_allocation(server, addresses[0], *user, seconds)
    except (NetError, ProbeError) as error:
        return Check(name, Status.FAIL, str(error), _advice(error, server, refused), str(server))
    relayed = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Check(name, Status.OK, f"allocated {relayed} and gave it back", subject=str(server))


def _advice(error: Exception, server: IceServer, refused: str) -> str:
    code = error.code if isinstance(error, ProbeError) else None
    if code == _UNAUTHORIZED:
        return refused
    if code in {_QUOTA, _CAPACITY}:
        return "raise its user-quota, total-quota or its range of ports"
    return f"let {server.transport.upper()} {server.port} to {server.host} pass, and see that a TURN server runs there"


async def _addresses(server: IceServer) -> Sequence[str]:
    return (server.host,) if is_literal(server.host) else await lookup(server.host)


def _udp_server(settings: Settings) -> IceServer | None:
    """A server that would answer a Binding over UDP; one that is there for STUN before one that relays."""
    known = [*settings.turn.urls, *([settings.egress.turn_url] if settings.egress.turn_url else [])]
    over_udp = [each for each in known if each.transport == "udp"]
    return min(over_udp, key=lambda each: each.is_turn, default=None)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind(("0.0.0.0", port))  # noqa: S104 - as a leg would
        except OSError:
            return False
    return True
