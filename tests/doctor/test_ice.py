"""The doctor on STUN and TURN servers, UDP egress and the proxy for media; the servers are Debian's coturn."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from support.coturn import coturn

from relay.config import EgressSettings, LimitSettings, Secret, TurnSettings, UpstreamSettings
from relay.config_network import PortRange, ice_server
from relay.doctor.checks import Status
from relay.doctor.ice import egress_ports, egress_proxy, egress_turn, egress_udp
from relay.doctor.ice import ice_server as check_server

SECONDS = 5.0


@pytest.fixture
def closed():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


async def test_turn_is_proved_by_an_allocation_over_every_transport(tmp_path, monkeypatch):
    async with coturn(tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        turn = TurnSettings(secret=Secret(server.secret))
        for url in server.urls:
            [found] = await check_server(ice_server(url), turn, SECONDS)
            assert found.status is Status.OK, found
            assert "allocated 127.0.0.1:" in found.seen
        wrong = TurnSettings(secret=Secret("canary-wrong-secret"))
        [found] = await check_server(ice_server(server.urls[0]), wrong, SECONDS)
        assert (found.status, "static-auth-secret" in found.advice) == (Status.FAIL, True), found
        assert "canary" not in repr(found)
        monkeypatch.delenv("SSL_CERT_FILE")
        [found] = await check_server(ice_server(server.url("tls")), turn, SECONDS)
        assert (found.status, "certificate" in found.seen) == (Status.FAIL, True), found


async def test_stun_tells_the_address_it_sees(tmp_path, settings):
    async with coturn(tmp_path) as server:
        stun = ice_server(f"stun:127.0.0.1:{server.port}")
        [found] = await check_server(stun, TurnSettings(), SECONDS)
        assert (found.status, "this machine is 127.0.0.1:" in found.seen) == (Status.OK, True)
        with_stun = replace(settings, turn=TurnSettings(urls=(ice_server(server.url("udp")), stun)))
        [found] = await egress_udp(with_stun, SECONDS)
        assert (found.status, found.subject) == (Status.OK, str(stun))
        turn_alone = replace(settings, egress=EgressSettings(turn_url=ice_server(server.url("udp"))))
        [found] = await egress_udp(turn_alone, SECONDS)
        assert found.status is Status.OK, found


async def test_turn_towards_the_service_with_either_kind_of_credentials(tmp_path):
    async with coturn(tmp_path) as server:
        egress = EgressSettings(turn_url=ice_server(server.url("tcp")), turn_secret=Secret(server.secret))
        [found] = await egress_turn(egress, SECONDS)
        assert found.status is Status.OK, found
        user = server.credential("doctor")
        by_name = replace(egress, turn_secret=None, turn_username=user.username, turn_password=Secret(user.password))
        [found] = await egress_turn(by_name, SECONDS)
        assert found.status is Status.OK, found
        [found] = await egress_turn(replace(by_name, turn_password=Secret("canary-wrong")), SECONDS)
        assert (found.status, "egress.turn_password" in found.advice) == (Status.FAIL, True)
        assert "canary" not in repr(found)


async def test_servers_that_are_not_there(closed, settings):
    stun, turn = ice_server(f"stun:127.0.0.1:{closed}"), ice_server(f"turn:127.0.0.1:{closed}?transport=tcp")
    secret = TurnSettings(secret=Secret("s"))
    for server, words in ((stun, "refused"), (turn, "refused"), (ice_server("turn:nobody.invalid"), "not known")):
        [found] = await check_server(server, secret, 1.0)
        assert (found.status, words in found.seen) == (Status.FAIL, True), found
    [found] = await check_server(ice_server(f"turn:127.0.0.1:{closed}"), secret, 0.5)
    assert found.status is Status.FAIL
    [found] = await check_server(turn, TurnSettings(), 1.0)
    assert found.advice == "set turn.secret"
    [found] = await check_server(ice_server("turns:127.0.0.1?transport=udp"), secret, 1.0)
    assert (found.status, "DTLS" in found.seen) == (Status.WARN, True)
    [found] = await egress_turn(EgressSettings(turn_url=turn), 1.0)
    assert (found.status, "no credentials" in found.seen) == (Status.FAIL, True)
    [found] = await egress_turn(EgressSettings(turn_url=turn, turn_secret=Secret("s")), 1.0)
    assert found.status is Status.FAIL
    [found] = await egress_turn(EgressSettings(), 1.0)
    assert found.status is Status.SKIP


async def test_udp_egress_says_what_cannot_be_known(closed, settings):
    [found] = await egress_udp(settings, 1.0)
    assert (found.status, "cannot be proved without a peer" in found.seen) == (Status.SKIP, True)
    [found] = await egress_udp(replace(settings, egress=EgressSettings(udp=False)), 1.0)
    assert (found.status, "egress.udp is false" in found.seen) == (Status.SKIP, True)
    stun = TurnSettings(urls=(ice_server(f"stun:127.0.0.1:{closed}"),))
    [found] = await egress_udp(replace(settings, turn=stun), 1.0)
    assert (found.status, "nothing came back over UDP" in found.seen) == (Status.WARN, True)


def test_local_ports_are_counted(settings):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]

        def judged(first, last, sessions):
            egress = EgressSettings(udp_ports=PortRange(first, last))
            limits = LimitSettings(max_sessions=sessions)
            return egress_ports(replace(settings, egress=egress, limits=limits))[0]

        assert judged(port, port, 1).status is Status.WARN
        assert "0 of 1 ports are free" in judged(port, port, 1).seen
        assert judged(port, port, 500).seen == "1 ports for 500 sessions"
    assert judged(port, port, 1).status is Status.OK
    assert egress_ports(settings)[0].status is Status.SKIP


async def test_the_proxy_for_media(settings, proxy, https, closed):
    port = await https()
    upstream = UpstreamSettings(endpoint=f"http://127.0.0.1:{port}")

    async def judged(url):
        [found] = await egress_proxy(
            replace(settings, upstream=upstream, egress=EgressSettings(proxy=Secret(url))), 2.0
        )
        assert "canary" not in repr(found)
        return found

    good = await judged(f"http://user:canary@127.0.0.1:{proxy.port}")
    assert (good.status, proxy.credentials) == (Status.OK, ["user:canary"]), good
    proxy.status = 403
    refused = await judged(f"http://127.0.0.1:{proxy.port}")
    assert (refused.status, "CONNECT" in refused.advice) == (Status.FAIL, True)
    assert (await judged(f"http://127.0.0.1:{closed}")).status is Status.FAIL
    assert (await egress_proxy(settings, 1.0))[0].status is Status.SKIP
