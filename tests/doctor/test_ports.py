"""The doctor on ports and advertised addresses, alone and beside a relay in service."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest
from support.service import bench

from relay.config import AdminSettings, HttpSettings, IceSettings
from relay.config_network import Advertised
from relay.doctor.checks import CheckName, Status
from relay.doctor.net import NetError
from relay.doctor.ports import advertised, http_port, media_ports, operations_port
from relay.doctor.serving import Serving, find, media_path, serving, takes_datagrams

SECONDS = 3.0


def statuses(checks):
    return [check.status for check in checks]


@pytest.fixture
def taken():
    """A TCP and a UDP port that something else has: `(tcp, udp)`."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield tcp.getsockname()[1], udp.getsockname()[1]


@pytest.fixture
def free():
    with socket.create_server(("127.0.0.1", 0)) as tried:
        return tried.getsockname()[1]


def with_ports(settings, tcp, udp):
    return replace(
        settings,
        http=HttpSettings(host="127.0.0.1", port=tcp),
        admin=AdminSettings(host="127.0.0.1", port=tcp),
        ice=IceSettings(advertise=(Advertised("127.0.0.1"),), hosts=("127.0.0.1",), udp_port=udp, tcp_port=tcp),
    )


async def test_free_ports_are_good(settings, free):
    settings = with_ports(settings, free, free)
    found = [
        *await http_port(settings, SECONDS),
        *await operations_port(settings, SECONDS),
        *await media_ports(settings, None, SECONDS),
    ]
    assert [check.name for check in found] == [
        CheckName.HTTP_PORT, CheckName.OPERATIONS_PORT, CheckName.MEDIA_UDP, CheckName.MEDIA_TCP,
    ]  # fmt: skip
    assert statuses(found) == [Status.OK] * 4
    assert {check.seen for check in found} == {"free"}


async def test_ports_that_something_else_has(settings, taken):
    settings = with_ports(settings, *taken)
    found = [
        *await http_port(settings, 0.5),
        *await operations_port(settings, 0.5),
        *await media_ports(settings, None, SECONDS),
    ]
    assert statuses(found) == [Status.FAIL] * 4
    assert all("in use" in check.seen for check in found)
    assert f"ss -ulnp 'sport = :{taken[1]}'" in found[2].advice


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
async def test_a_port_that_is_not_allowed(settings):
    [found] = await http_port(replace(settings, http=HttpSettings(host="127.0.0.1", port=80)), SECONDS)
    assert (found.status, found.seen) == (Status.FAIL, "is not allowed to this user")


async def test_an_address_of_nobody_and_a_name_of_nobody(settings):
    [found] = await http_port(replace(settings, http=HttpSettings(host="192.0.2.200", port=8080)), SECONDS)
    assert "no interface has that address" in found.seen
    [found] = await http_port(replace(settings, http=HttpSettings(host="nobody.invalid", port=8080)), SECONDS)
    assert "does not resolve" in found.seen
    ice = IceSettings(hosts=("0.0.0.0",), interfaces=("nosuch0",))
    assert statuses(await media_ports(replace(settings, ice=ice), None, SECONDS)) == [Status.FAIL]


async def test_a_relay_in_service_is_recognised_by_what_it_counts(settings, taken):
    async with bench() as world:
        relay = await serving(world.relay.operations_url, SECONDS)
        host, port = world.relay.registry._host._plane.endpoint.addresses[0]
        assert await takes_datagrams(relay, host, port, SECONDS)
        assert not await takes_datagrams(relay, "127.0.0.1", taken[1], SECONDS)
        public = int(world.url.rpartition(":")[2])
        inside = with_ports(settings, public, port)
        assert "a relay is running" in (await http_port(inside, SECONDS))[0].seen
        udp, tcp = await media_ports(inside, relay, SECONDS)
        assert (udp.status, tcp.status) == (Status.OK, Status.OK)
        beside = with_ports(settings, public, taken[1])
        udp, _ = await media_ports(beside, relay, SECONDS)
        assert (udp.status, "does not reach the running relay" in udp.seen) == (Status.FAIL, True)
        assert relay.files()[0] > relay.files()[1] > 0
        assert statuses(media_path(relay, "127.0.0.1")) == [Status.OK]
        await world.relay.registry.drain(0)
        [drained] = await http_port(inside, SECONDS)
        assert (drained.status, drained.seen) == (Status.WARN, "a relay is running there and admits nobody: draining")
        operations = replace(inside, admin=AdminSettings(port=int(world.relay.operations_url.rpartition(":")[2])))
        [drained] = await operations_port(operations, SECONDS)
        assert drained.seen.startswith("a relay is running there and admits nobody: draining: ")


async def test_who_is_no_relay_is_told_from_one(settings, https, free):
    port = await https()
    with pytest.raises(NetError, match="not a relay's"):
        await serving(f"http://127.0.0.1:{port}", SECONDS)
    relay, missing = await find(settings, f"http://127.0.0.1:{free}", SECONDS)
    assert (relay, statuses(missing)) == (None, [Status.FAIL])
    assert statuses((await find(settings, "http://127.0.0.1:99999", SECONDS))[1]) == [Status.FAIL]
    relay, missing = await find(with_ports(settings, free, free), None, SECONDS)
    assert (relay, statuses(missing)) == (None, [Status.SKIP])
    _, missing = await find(replace(settings, admin=AdminSettings(port=0)), None, SECONDS)
    assert "--operations" in missing[0].seen


@pytest.mark.parametrize(
    ("reason", "left", "active", "status", "words"),
    [
        ("client_unreachable", 0, 0, Status.FAIL, "signalling works and media does not; the port is blocked between"),
        ("client_unreachable", 5, 0, Status.WARN, "3 of 8 sessions"),
        ("client_unreachable", 0, 1, Status.WARN, "203.0.113.7 udp 8443"),
        ("service_unreachable", 0, 0, Status.FAIL, "between this machine and the service's media addresses"),
    ],
)
def test_signalling_that_works_while_media_is_blocked_is_named(reason, left, active, status, words):
    samples = {
        ("relay_sessions_ended_total", (("side", "client"), ("reason", reason))): 3.0,
        ("relay_sessions_ended_total", (("side", "client"), ("reason", "client_left"))): float(left),
        ("relay_sessions_active", (("phase", "active"),)): float(active),
    }
    [found] = media_path(Serving("http://127.0.0.1:8081", samples), "203.0.113.7 udp 8443")
    assert found.status is status
    assert words in found.seen


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        (Advertised("203.0.113.7"), Status.WARN, "1:1 NAT assumed"),
        (Advertised("127.0.0.1"), Status.WARN, "only browsers on this machine"),
        (Advertised("nobody.invalid"), Status.FAIL, "does not resolve"),
        (Advertised("localhost"), Status.WARN, "from localhost"),
    ],
)
async def test_advertised_addresses_are_compared_with_the_interfaces(settings, address, status, words):
    ice = IceSettings(advertise=(address,), hosts=("0.0.0.0",))
    [found] = await advertised(replace(settings, ice=ice))
    assert (found.status, words in found.seen) == (status, True), found


async def test_nat_names_what_must_be_forwarded(settings):
    ice = IceSettings(advertise=(Advertised("203.0.113.7", 443),), hosts=("0.0.0.0",))
    [found] = await advertised(replace(settings, ice=ice))
    assert found.advice == "UDP 443 to 8443 and TCP 443 to 8443 must be forwarded here"
    [found] = await advertised(replace(settings, ice=replace(ice, advertise=(Advertised("203.0.113.7"),), tcp=False)))
    assert found.advice == "UDP 8443 must be forwarded here"


async def test_an_address_of_an_interface_is_good(settings):
    found = await advertised(replace(settings, ice=IceSettings(hosts=("127.0.0.1",))))
    assert [check.subject for check in found] == ["127.0.0.1 udp 8443 tcp 8443"]
    assert "is on lo" in found[0].seen
