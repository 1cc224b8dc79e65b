"""One UDP port for everybody, ICE-lite, the consent quirk, hostile datagrams, and nothing left behind."""

import asyncio
import os
import re
import socket
import threading
from pathlib import Path

import pytest
from aioice import stun

from relay.simulator import Simulator, SimulatorSettings
from relay.simulator.peer_ice import IceConnection, IceHabits


def ports_of(answer):
    return set(re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+) typ host", answer))


async def test_three_sessions_share_one_udp_port(simulate, connect):
    simulator = await simulate(udp_port=0)
    clients = [await connect(simulator) for _ in range(3)]
    assert len(set.union(*(ports_of(client.answer) for client in clients))) == 1
    for number, client in enumerate(clients):
        client.send({"type": "session.update", "session": {"type": "realtime", "instructions": f"number {number}"}})
    for number, client in enumerate(clients):
        assert (await client.event("session.updated"))["session"]["instructions"] == f"number {number}"
        await client.until(lambda client=client: client.levels, "sound")
    state = simulator.state()
    assert all(session["rtp"]["packets_received"] for session in state["sessions"])
    await clients[0].close()
    await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    await simulator.say({"type": "others.live"}, state["sessions"][1]["id"])
    await clients[1].event("others.live")


async def test_sessions_have_ports_of_their_own_by_default(simulate, connect):
    simulator = await simulate()
    first, second = await connect(simulator), await connect(simulator)
    assert not ports_of(first.answer) & ports_of(second.answer)


@pytest.mark.parametrize("shared", [None, 0])
async def test_lite_agent_sends_no_checks_and_connects(simulate, connect, shared):
    simulator = await simulate(ice_lite=True, udp_port=shared)
    client = await connect(simulator)
    assert "a=ice-lite" in client.answer
    await client.event("session.created")
    await client.until(lambda: client.levels, "sound")


@pytest.mark.parametrize("settings", [{"candidates_in_every_section": False}, {"consent_quirk": True}])
async def test_other_habits_connect_too(simulate, connect, settings):
    simulator = await simulate(**settings)
    client = await connect(simulator)
    await client.event("session.created")
    assert simulator.state()["sessions"][0]["state"] == "open"


async def test_shared_port_survives_strangers(simulate, connect):
    simulator = await simulate(udp_port=0)
    client = await connect(simulator)
    port = int(ports_of(client.answer).pop())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        for datagram in (b"", b"\x00", b"\x00\x01" + b"\xff" * 60, os.urandom(1200), b"\x80" * 40, b"\x16\xfe\xff" * 9):
            stranger.sendto(datagram, ("127.0.0.1", port))
        forged = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        username = re.search("a=ice-ufrag:(.*)\r", client.answer)[1]
        forged.attributes["USERNAME"] = f"{username}:x"
        forged.add_message_integrity(b"not the password")
        stranger.sendto(bytes(forged), ("127.0.0.1", port))
    client.send({"type": "session.update", "session": {"type": "realtime"}})
    await client.event("session.updated")
    assert simulator.state()["sessions"][0]["state"] == "open"


class Wire:
    """Where a connection's answers go."""

    def __init__(self):
        self.sent = []

    def send_stun(self, message, addr):
        self.sent.append(message)


def check_of(connection, *, nominate):
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{connection.local_username}:peer"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    if nominate:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(connection.local_password.encode())
    return stun.parse_message(bytes(request))


@pytest.mark.parametrize(("quirk", "answers"), [(True, [True, True, False, True]), (False, [True] * 4)])
async def test_consent_quirk_ignores_plain_checks_once_connected(quirk, answers):
    habits = IceHabits(lite=True, consent_quirk=quirk)
    connection = IceConnection("name/with-hyphen", controlling=False, habits=habits)
    await connection.gather_on(["127.0.0.1"], [])
    connection.remote_username, connection.remote_password = "peer", "x" * 22
    connecting = asyncio.ensure_future(connection.connect())
    protocol = connection._protocols[0]
    wire = Wire()
    protocol.send_stun = wire.send_stun
    answered = []
    for nominate in (False, True, False, True):
        before = len(wire.sent)
        connection.request_received(check_of(connection, nominate=nominate), ("127.0.0.1", 9), protocol)
        await asyncio.sleep(0)
        answered.append(len(wire.sent) > before)
    await connecting
    assert answered == answers
    await connection.close()


def resources():
    """Tasks, threads but those of the default executor (the stock client encodes there), and open files."""
    threads = {t for t in threading.enumerate() if not t.name.startswith("asyncio_")}
    return asyncio.all_tasks(), threads, {link.name for link in Path("/proc/self/fd").iterdir()}


async def test_close_in_the_middle_of_everything_frees_everything(connect, voice):
    before = resources()
    simulator = Simulator(SimulatorSettings(udp_port=0))
    await simulator.start()
    clients = [await connect(simulator) for _ in range(2)]
    for client in clients:
        client.microphone.say(voice(0.3))
        client.send({"type": "response.create"})
    await clients[1].event("output_audio_buffer.started")
    await simulator.close()
    assert {session["end"] for session in simulator.state()["sessions"]} == {"service_closed"}
    for client in clients:
        await client.close()
    assert resources()[:2] == before[:2]
    await simulator.close()


@pytest.mark.parametrize("settings", [{}, {"udp_port": 0}, {"ice_lite": True}])
async def test_close_alone_frees_everything(http, offer, settings):
    before = resources()
    simulator = Simulator(SimulatorSettings(**settings))
    await simulator.start()
    headers = {"api-key": "simulator-resource-key"}
    body = {"session": {"type": "realtime", "model": "gpt-realtime"}}
    async with http.post(f"{simulator.url}/openai/v1/realtime/client_secrets", json=body, headers=headers) as response:
        key = (await response.json())["value"]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/sdp"}
    for _ in range(3):
        async with http.post(f"{simulator.url}/openai/v1/realtime/calls", data=offer, headers=headers) as response:
            assert response.status == 201
    assert len(asyncio.all_tasks()) > len(before[0])
    await simulator.close()
    await http.close()
    await asyncio.sleep(0)
    assert resources() == before


async def test_sessions_in_sequence_leave_nothing(connect, simulate):
    simulator = await simulate()
    first = await connect(simulator)
    await first.close()
    await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    before = resources()
    for number in range(1, 4):
        client = await connect(simulator)
        await client.close()
        await simulator.until(lambda s, number=number: s["sessions"][number]["state"] == "closed")
    await asyncio.sleep(0)
    after = resources()
    assert (after[1], len(after[2])) == (before[1], len(before[2]))
    assert len(after[0]) == len(before[0])


async def test_a_taken_port_is_an_error_and_frees_the_rest():
    async with Simulator(SimulatorSettings()) as first:
        port = int(first.url.rsplit(":", 1)[1])
        second = Simulator(SimulatorSettings(port=port))
        with pytest.raises(OSError, match="address"):
            await second.start()
        await second.close()
