"""The stand-in's ICE-TCP: where it listens, whom it lets in."""

import asyncio
import re

import pytest
from aioice import stun


def tcp_ports(answer):
    return set(re.findall(r"a=candidate:\S+ 1 tcp \d+ \S+ (\d+) typ host tcptype passive\r", answer))


def check(username, password):
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = username
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.add_message_integrity(password.encode())
    request.add_fingerprint()
    datagram = bytes(request)
    return len(datagram).to_bytes(2, "big") + datagram


async def test_one_tcp_port_serves_all_sessions_beside_the_udp_port(simulate, connect):
    simulator = await simulate(udp_port=0)
    first, second = await connect(simulator), await connect(simulator)
    assert tcp_ports(first.answer) == tcp_ports(second.answer) == {str(simulator._tcp[0].address[1])}
    assert simulator._udp[0].address[1] == simulator._tcp[0].address[1]


async def test_a_taken_number_is_an_error_only_if_it_was_asked_for(simulate):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(OSError, match="address already in use"):
        await simulate(udp_port=port)
    server.close()
    await server.wait_closed()


async def test_a_stream_finds_its_session_by_its_first_check(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    ufrag = re.search("a=ice-ufrag:(.*)\r", client.answer)[1]
    reader, writer = await asyncio.open_connection(*simulator._tcp[0].address)
    stream = check(f"{ufrag}:stranger", "not the password")
    writer.write(stream[:5])
    await writer.drain()
    writer.write(stream[5:])
    frame = await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 5)
    # It was the session that judged it.
    assert stun.parse_message(frame).message_class is stun.Class.ERROR
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("rubbish", [b"\x00\x00", b"\x00\x05hello", b"GET / HTTP/1.1\r\n" + bytes(40_000)])
async def test_a_stream_that_names_no_session_is_closed(simulate, connect, rubbish):
    simulator = await simulate()
    client = await connect(simulator)
    reader, writer = await asyncio.open_connection(*simulator._tcp[0].address)
    writer.write(rubbish)
    assert await asyncio.wait_for(_end(reader), 5) == b""
    writer.close()
    client.send({"type": "session.update", "session": {"type": "realtime"}})
    await client.event("session.updated")


async def _end(reader):
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
