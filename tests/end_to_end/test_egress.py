"""Sessions whose relay has no plain UDP to the service: TCP, an HTTP proxy, a TURN server."""

from __future__ import annotations

import pytest
from support.client import Client
from support.connect_proxy import connect_proxy
from support.coturn import coturn
from support.service import CLIENT_KEY, bench
from support.sessions import Watch, client_of, started, watched

from relay.config import EgressSettings, Secret
from relay.config_network import turn_server
from relay.rtc import egress_turn
from relay.simulator import SimulatorSettings

BLOCKED = SimulatorSettings(udp_blocked=True)


async def speak(watch):
    """A whole turn: speech up, speech and events down, hang-up."""
    async with client_of(watch) as client:
        await client.connect()
        await client.event("session.created")
        client.microphone.level = 1.0
        await client.event("input_audio_buffer.speech_started")
        client.microphone.level = 0.0
        await client.until(lambda: max(client.levels, default=0) > 1000)
        # On a busy machine late packets split what is said in two, and the second half interrupts the first answer.
        await client.until(lambda: any(completed(event) for event in client.events))
        assert watch.session()["rtp"]["packets_received"]
        assert await client.hang_up() == 200
        await client.closed.wait()


def completed(event):
    return event["type"] == "response.done" and event["response"]["status"] == "completed"


@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("egress", [EgressSettings(), EgressSettings(udp=False)], ids=["after udp", "alone"])
async def test_where_udp_is_blocked_the_session_goes_by_tcp(egress, lite):
    async with watched(SimulatorSettings(udp_blocked=True, ice_lite=lite), egress=egress) as watch:
        await speak(watch)


async def test_tcp_goes_through_an_http_proxy():
    async with connect_proxy() as proxy:
        egress = EgressSettings(udp=False, proxy=Secret(proxy.url("u%40ser:pass%3A@")))
        async with watched(BLOCKED, egress=egress) as watch:
            await speak(watch)
            port = watch.world.simulator._tcp[0].address[1]
        head = proxy.heads[0].split("\r\n")
        assert head[:2] == [f"CONNECT 127.0.0.1:{port} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        assert head[2] == "Proxy-Authorization: Basic dUBzZXI6cGFzczo="


async def test_without_any_way_the_session_says_why():
    async with connect_proxy(b"HTTP/1.1 403 Forbidden by the\x07 firewall\r\n\r\n") as proxy:
        egress = EgressSettings(udp=False, proxy=Secret(proxy.url("user:hush@")))
        # The client's own ICE, cut off in its midst, leaves a task behind: what is left is not looked at here.
        async with bench(BLOCKED, egress=egress) as world, Client(world.url, CLIENT_KEY) as client:
            watch = Watch(world)
            await started(client)
            record = await watch.ended()
    assert record.reason == "service_unreachable"
    assert "the proxy refused: '403 Forbidden by the\\x07 firewall'" in record.detail
    assert "hush" not in record.detail


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_a_session_goes_through_a_turn_server(way, tmp_path, monkeypatch):
    async with coturn(tmp_path) as turn:
        monkeypatch.setenv("SSL_CERT_FILE", str(turn.certificate))
        egress_turn._verifying_context.cache_clear()
        egress = EgressSettings(
            udp=False, tcp=False, turn_url=turn_server(turn.url(way)), turn_secret=Secret(turn.secret)
        )
        async with watched(egress=egress) as watch:
            await speak(watch)
        # The allocation is given back, not left to expire.
        assert ":relay>, lifetime=0" in await turn.logged("lifetime=0", 5)
    egress_turn._verifying_context.cache_clear()
