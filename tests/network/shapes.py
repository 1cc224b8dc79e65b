"""The networks that enterprises have, by name: what each host is told, and what its line lets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from network.lab import Host, Lab, Nat
from network.programs import (
    HTTP_PORT,
    MEDIA_PORT,
    SERVICE_PORT,
    TURNS_PORT,
    Relay,
    Service,
    Turn,
    ready,
    relay_on,
    stand_in,
    turn_server,
)

CLIENT, RELAY, SERVICE, TURN = "198.51.100.10", "203.0.113.20", "203.0.113.30", "203.0.113.40"
CLIENT6, RELAY6, SERVICE6, TURN6 = "2001:db8:10::10", "2001:db8:20::20", "2001:db8:30::30", "2001:db8:40::40"
_TCP_HEADERS = 60
OTHER_PORT = 9443
CLIENT_INSIDE, RELAY_INSIDE = "192.168.10.2", "10.20.0.2"


@dataclass(slots=True)
class World:
    """A shape in service."""

    lab: Lab
    client: Host
    relay: Relay
    service: Service
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How a network is made. `firewall` sets the lines' rules once all hosts are there."""

    text: str
    families: tuple[int, ...] = (4,)
    client_nat: str | None = None
    relay_nat: str | None = None
    relay_forwards: tuple[tuple[int, int], ...] = ()
    turn: bool = False
    firewall: Callable[[Lab], None] = lambda _lab: None
    settings: Mapping[str, str] = field(default_factory=dict)
    client_line: Mapping[str, Any] = field(default_factory=dict)
    relay_line: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of a line, both ways."""
    service_options: tuple[str, ...] = ()


async def world(lab: Lab, shape: Shape, **settings: str) -> World:
    """Make the hosts of a shape and start what runs on them. `settings` are more of the relay's environment."""
    client, relay, service, turn = _hosts(lab, shape)
    environment = {**shape.settings, **settings}
    served = None
    if turn is not None:
        served = turn_server(turn, turn.addresses[0], lab.directory)
        environment = {name: _filled(value, served) for name, value in environment.items()}
    stand = stand_in(service, service.addresses[0], shape.service_options)
    running = relay_on(relay, relay.seen_as[0], stand.url, environment)
    shape.firewall(lab)
    client.set(**shape.client_line)
    relay.set(**shape.relay_line)
    for host in (client, relay, service) if "mtu" in shape.relay_line else ():
        host.clamp(shape.relay_line["mtu"] - _TCP_HEADERS)
    await ready(running, stand, served)
    return World(lab, client, running, stand, served)


def _hosts(lab: Lab, shape: Shape) -> tuple[Host, Host, Host, Host | None]:
    def made(role: str, inside: str | None, outside: str, address6: str, nat: str | None) -> Host:
        by_family = {4: outside if nat is None else str(inside), 6: address6}
        addresses = (by_family[each] for each in shape.families)
        forwards = shape.relay_forwards if role == "relay" else ()
        return lab.host(role, *addresses, nat=None if nat is None else Nat(nat, outside, forwards))

    client = made("client", CLIENT_INSIDE, CLIENT, CLIENT6, shape.client_nat)
    relay = made("relay", RELAY_INSIDE, RELAY, RELAY6, shape.relay_nat)
    service = made("service", None, SERVICE, SERVICE6, None)
    return client, relay, service, made("turn", None, TURN, TURN6, None) if shape.turn else None


def _filled(value: str, turn: Turn) -> str:
    ways = {way: turn.url(way) for way in ("udp", "tcp", "tls")}
    return value.format(**ways, secret=turn.secret, certificate=turn.certificate)


def _no_udp_from_clients(lab: Lab) -> None:
    lab.hosts["client"].rules({"allow": False, "protocol": "udp"})


def _only_turn_over_tls(lab: Lab) -> None:
    lab.hosts["client"].rules(
        {"allow": True, "protocol": "tcp", "host": RELAY, "port": HTTP_PORT},
        {"allow": True, "protocol": "tcp", "host": TURN, "port": TURNS_PORT},
        {"allow": False},
    )


def _no_udp_to_the_service(lab: Lab) -> None:
    lab.hosts["service"].rules({"allow": False, "protocol": "udp"})


def _only_turn_to_the_service(lab: Lab) -> None:
    lab.hosts["service"].rules(
        {"allow": True, "protocol": "tcp", "port": SERVICE_PORT}, {"allow": True, "host": TURN}, {"allow": False}
    )


_DOWNSTREAM_TURN = {"RELAY_TURN_SECRET": "{secret}"}
_UPSTREAM_TURN = {"RELAY_EGRESS_TURN_SECRET": "{secret}"}

SHAPES = {
    "direct": Shape("nothing in between"),
    "dual-stack": Shape("IPv4 and IPv6, nothing in between", families=(4, 6)),
    "nat": Shape("the relay behind 1:1 NAT, the client behind a router that translates ports", (4,), "napt", "1:1"),
    "nat-other-port": Shape(
        "the same, and the relay's media port is another one outside",
        (4,),
        "napt",
        "1:1",
        ((OTHER_PORT, MEDIA_PORT),),
        settings={"RELAY_ICE_ADVERTISE": f"{RELAY}:{OTHER_PORT}"},
    ),
    "no-udp": Shape("all UDP of clients is dropped: ICE-TCP", firewall=_no_udp_from_clients),
    "turn-tls": Shape(
        "clients reach the relay's web port and TCP 443 of a TURN server, nothing else: TURN over TLS",
        turn=True,
        firewall=_only_turn_over_tls,
        settings={"RELAY_TURN_URLS": "{udp},{tcp},{tls}", **_DOWNSTREAM_TURN},
    ),
    "lossy": Shape(
        "5 % loss, 150 ms delay with 30 ms jitter, 2 % reordered, each way, on the client's line",
        client_line={"loss": 0.05, "delay": 0.15, "jitter": 0.03, "reorder": 0.02},
    ),
    "mtu-black-hole": Shape("packets above 1280 bytes disappear on the relay's line", relay_line={"mtu": 1280}),
    "mtu-told": Shape(
        "packets above 1280 bytes are refused by ICMP on the relay's line",
        relay_line={"mtu": 1280, "too_big": "icmp"},
    ),
    "ipv6": Shape("no IPv4 anywhere", families=(6,)),
    "no-udp-egress": Shape("no UDP between relay and service: ICE-TCP upstream", firewall=_no_udp_to_the_service),
    "turn-egress": Shape(
        "the relay's media reaches the service through a TURN server alone",
        turn=True,
        firewall=_only_turn_to_the_service,
        settings={"RELAY_EGRESS_TURN_URL": "{udp}", **_UPSTREAM_TURN},
    ),
}
