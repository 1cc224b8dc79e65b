"""A whole session whose media goes through coturn and nowhere else."""

from __future__ import annotations

import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection
from support.client import Client
from support.service import CLIENT_KEY, bench

from relay.config import Secret, TurnSettings
from relay.config_network import ice_server


def turn_settings(server, *ways):
    return TurnSettings(tuple(ice_server(server.url(way)) for way in ways), Secret(server.secret), 600, relay_only=True)


async def configuration(client, key):
    """What the door says, as a native client takes it."""
    async with client.http.get(
        f"{client.base}/v1/realtime/ice_servers", headers={"Authorization": f"Bearer {key}"}
    ) as response:
        assert response.status == 200
        told = await response.json()
    servers = [
        RTCIceServer(each["urls"], each["username"], each["credential"], each["credential_type"])
        for each in told["ice_servers"]
    ]
    return RTCConfiguration(servers, iceTransportPolicy=RTCIceTransportPolicy(told["ice_transport_policy"]))


async def give_peer(client, wanted):
    """Give the client another peer connection: its ICE servers are known only once it has a key."""
    await client.peer.close()
    client.peer = RTCPeerConnection(wanted)
    client.peer.on("track", client._on_track)
    client.channel = client.peer.createDataChannel("oai-events")
    client.channel.on("message", client._on_message)


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_a_native_client_speaks_through_turn(server, way, monkeypatch):
    await speak(server, way, monkeypatch)


async def test_a_native_client_speaks_through_the_shipped_configuration(shipped, monkeypatch):
    await speak(shipped, "tls", monkeypatch)


async def speak(server, way, monkeypatch):
    # The client's TLS knows no certificate but the system's, as on a customer's machine.
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    async with bench(turn=turn_settings(server, way)) as world, Client(world.url, CLIENT_KEY) as client:
        key = await client.mint()
        await give_peer(client, await configuration(client, key))
        status, answer = await client.post_offer(await client.offer(), key)
        assert status == 201, answer
        await client.accept(answer)
        await client.event("session.created")
        client.microphone.level = 1.0
        await client.event("input_audio_buffer.speech_started")
        client.microphone.level = 0.0
        await client.until(lambda: max(client.levels, default=0) > 1000, 20)
        await client.event("response.done")
        seen = relayed_port(client)
        assert seen in server.relay_ports


def relayed_port(client):
    """The port of the address the relay sees."""
    connection = client.peer.sctp.transport.transport._connection
    assert [each.type for each in connection.local_candidates] == ["relay"]
    return connection.local_candidates[0].port
