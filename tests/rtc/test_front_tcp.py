"""The public TCP port in front of workers, and a real browser's stack on both ports."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from support.active_tcp import active_tcp
from support.checks import CLIENT_HELLO, RTCP, RTP, Taken, check
from support.outposts import Relay, until
from support.tcp_client import TcpClient

from relay.core.framing import frame
from relay.core.rtp import DropCause
from relay.core.sdp_build import LocalCandidate
from relay.rtc import tcp
from relay.rtc.check_peer import ConnectionChecks
from relay.rtc.dtls import SharedCertificate
from relay.rtc.path import Transport
from relay.rtc.plane import MediaPlane
from relay.rtc.tcp_connection import UNPROVEN_FRAMES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes share a UDP port on Linux")


@pytest.fixture
async def relay():
    made = Relay("127.0.0.1", "::1")
    yield made
    made.close()


@pytest.fixture
async def connect(relay):
    made: list[socket.socket] = []

    async def dial(host: str = "127.0.0.1") -> TcpClient:
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        connection.setblocking(False)
        made.append(connection)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, (host, relay.listener.port)), 5)
        return TcpClient(connection)

    yield dial
    for each in made:
        each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_goes_to_the_worker_that_its_first_check_names(relay, connect, host):
    one, two = relay.workers
    (_, of_one), (agent, taken) = one.agent(), two.agent()
    await asyncio.sleep(0)
    line = await connect(host)
    # What is read with the check, whole or not, goes along.
    rest = frame(RTCP)
    await line.raw(frame(check(agent, nominate=True)) + frame(CLIENT_HELLO) + frame(RTP) + rest[:10])
    answer = await line.answer()
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == line.socket.getsockname()[:2]
    await line.raw(rest[10:])
    await until(lambda: len(taken) == 3)
    assert (taken.dtls, taken.rtp, taken.rtcp) == ([CLIENT_HELLO], [RTP], [RTCP])
    assert (agent.selected.transport, agent.selected.address) == (Transport.TCP, line.socket.getsockname())
    assert agent.send(RTP)
    assert await line.read() == RTP
    assert (relay.listener.connections, one.outpost.connections, two.outpost.connections) == (0, 0, 1)
    assert (dict(relay.endpoint.dropped), dict(two.outpost.dropped), len(of_one)) == ({}, {}, 0)
    line.socket.close()
    await until(lambda: two.outpost.connections == 0)
    assert agent.selected is None


async def test_a_check_cut_anywhere_arrives_whole(relay, connect):
    agent, taken = relay.workers[0].agent()
    await asyncio.sleep(0)
    line = await connect()
    stream = frame(check(agent)) + frame(RTP)
    for at in range(0, len(stream), 7):
        await line.raw(stream[at : at + 7])
        await asyncio.sleep(0)
    await line.answer()
    await until(lambda: len(taken) == 1)


async def test_what_names_nobody_stays_and_is_closed_in_the_main_process(relay, connect):
    agent, _ = relay.workers[0].agent()
    await asyncio.sleep(0)
    stranger = await connect()
    await stranger.send(*[check(agent, username=f"{number:016}:peer") for number in range(UNPROVEN_FRAMES)])
    assert await stranger.ended()
    await until(lambda: relay.endpoint.dropped[DropCause.TCP_UNPROVEN] == 1)
    assert relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == UNPROVEN_FRAMES
    assert relay.workers[0].outpost.connections == 0


async def test_frames_before_the_check_are_judged_once(relay, connect):
    agent, taken = relay.workers[0].agent()
    await asyncio.sleep(0)
    line = await connect()
    await line.send(*[RTP] * (UNPROVEN_FRAMES - 1), check(agent), RTP)
    await line.answer()
    await until(lambda: len(taken) == 1)
    assert relay.endpoint.dropped == {DropCause.STRANGER: UNPROVEN_FRAMES - 1}
    assert relay.workers[0].outpost.dropped == {}


async def test_a_connection_that_proves_nothing_in_its_worker_is_closed_there(relay, connect, monkeypatch):
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await asyncio.sleep(0)
    line = await connect()
    await until(lambda: relay.listener.connections == 1)
    monkeypatch.setattr(tcp, "PROOF_SECONDS", 0.05)
    await line.send(check(agent, key="another password, wrong"))
    assert await line.ended()
    await until(lambda: worker.outpost.dropped[DropCause.TCP_UNPROVEN] == 1)
    assert worker.outpost.dropped[DropCause.STUN_NOT_AUTHENTIC] == 1
    assert (relay.listener.connections, worker.outpost.connections) == (0, 0)


async def test_a_worker_closes_what_it_has(relay, connect):
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await asyncio.sleep(0)
    line = await connect()
    await line.send(check(agent))
    await line.answer()
    worker.die()
    relay.front.lose(worker)
    assert await line.ended()
    again = await connect()
    await again.send(check(agent))
    await until(lambda: relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1)


async def test_a_connection_of_the_main_processs_own_agent_stays(relay, connect):
    own = relay.endpoint.add_agent(Taken().inlets, "peer")
    agent, _ = relay.workers[0].agent()
    await asyncio.sleep(0)
    line = await connect()
    await line.send(check(own), check(agent))
    await line.answer()
    await until(lambda: relay.endpoint.dropped[DropCause.ADDRESS_TAKEN] == 1)
    assert (relay.listener.connections, own.selected.transport) == (1, Transport.TCP)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("place", ["main", "worker"])
async def test_a_real_stack_connects(relay, transport, place):
    """ICE and DTLS of aiortc, to a connection check of the main process and to one in a worker."""
    port = relay.endpoint.port if transport == "udp" else relay.listener.port
    worker = relay.workers[1]
    endpoint = worker.outpost if place == "worker" else relay.endpoint
    plane = MediaPlane(endpoint, (LocalCandidate(transport, "127.0.0.1", port),), SharedCertificate())
    checks = ConnectionChecks(plane)
    browser = RTCPeerConnection(RTCConfiguration([]))
    browser.addTransceiver("audio", direction="recvonly")
    changed = asyncio.Event()
    browser.on("connectionstatechange", changed.set)
    async with active_tcp() as bridge:
        await browser.setLocalDescription(await browser.createOffer())
        answer = checks.open(browser.localDescription.sdp, "key")
        if transport == "tcp":
            answer = bridge.through(answer)
        await browser.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(15):
            while browser.connectionState != "connected":
                changed.clear()
                await changed.wait()
        assert worker.outpost.connections == (transport == "tcp" and place == "worker")
        assert relay.listener.connections == (transport == "tcp" and place == "main")
        assert bool(relay.front._held) == (transport == "udp" and place == "worker")
        await browser.close()
        await until(lambda: checks.running == 0)
    await checks.close()
    assert relay.front._by_ufrag == {}
