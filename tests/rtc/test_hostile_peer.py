"""A client that finished the handshake and then breaks SCTP: its session ends, nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from struct import pack

import pytest
from google_crc32c import value as crc32c
from OpenSSL import SSL
from support.client import Client
from support.service import CLIENT_KEY
from support.sessions import watched


def raw(sctp, *chunks):
    """One SCTP packet of a client's association, made of raw chunks."""
    body = b"".join(chunk + bytes(-len(chunk) % 4) for chunk in chunks)
    head = pack("!HHL", sctp._local_port, sctp._remote_port, sctp._remote_verification_tag)
    return head + pack("<L", crc32c(head + bytes(4) + body)) + body


def chunk(kind, body):
    return pack("!BBH", kind, 0, 4 + len(body)) + body


def sack(sctp, *gaps):
    fixed = pack("!LLHH", sctp._last_received_tsn, 1 << 20, len(gaps), 0)
    return raw(sctp, chunk(3, fixed + b"".join(pack("!HH", *gap) for gap in gaps)))


def data(sctp, stream, body=b"x", tsn_ahead=0, flags=2):
    tsn = (sctp._local_tsn + tsn_ahead) % (1 << 32)
    return pack("!BBH", 0, flags, 16 + len(body)) + pack("!LHHL", tsn, stream, 0, 51) + body


HOSTILE = {
    "parameter without length": lambda sctp: [raw(sctp, chunk(4, b"\0\1\0\0"))],
    "gaps that overlap": lambda sctp: [sack(sctp, *[(0, 65535)] * 280)],
    "gap of what was never sent": lambda sctp: [sack(sctp, (2, 65535))],
    "heartbeats multiplied": lambda sctp: [raw(sctp, *[chunk(4, pack("!HH", 1, 4))] * 120)],
    "FORWARD-TSN": lambda sctp: [raw(sctp, chunk(192, pack("!L", sctp._local_tsn) + bytes(400)))],
    "DATA without data": lambda sctp: [raw(sctp, data(sctp, 0, b""))],
    "many streams": lambda sctp: [raw(sctp, data(sctp, 100 + n, tsn_ahead=n)) for n in range(40)],
    "fragments without end": lambda sctp: [
        raw(sctp, *[data(sctp, 0, tsn_ahead=30 * n + m, flags=0) for m in range(30)]) for n in range(20)
    ],
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE)
async def test_the_attackers_session_ends_and_the_others_go_on(attack):
    async with watched() as watch, Client(watch.world.url, CLIENT_KEY, sound=False) as bystander:
        await bystander.connect()
        await bystander.event("session.created")
        async with Client(watch.world.url, CLIENT_KEY, sound=False) as attacker:
            await attacker.connect()
            await attacker.event("session.created")
            sctp = attacker.peer.sctp
            for packet in attack(sctp):
                await sctp.transport._send_data(packet)
            record = await watch.ended()
            assert record.reason in {"client_protocol_error", "client_message_too_large"}
        update = {"type": "session.update", "session": {"type": "realtime", "instructions": "x"}}
        bystander.send(update)
        await bystander.event("session.updated")


async def test_small_records_in_one_datagram_all_arrive_and_none_piles_up():
    async with watched() as watch, Client(watch.world.url, CLIENT_KEY, sound=False) as client:
        await client.connect()
        await client.event("session.created")
        dtls = client.peer.sctp.transport
        flights = []
        written = dtls.transport._send

        async def collect(flight):
            flights.append(flight)

        dtls.transport._send = collect
        for _ in range(20):
            client.send({"type": "input_audio_buffer.clear"})
        async with asyncio.timeout(5):
            while len(flights) < 3:  # noqa: ASYNC110 - aiortc sends when it likes
                await asyncio.sleep(0)
        dtls.transport._send = written
        await written(b"".join(flights))
        await client.event("input_audio_buffer.cleared")
        (counters,) = watch.world.relay.registry.live.counters().values()
        assert counters.events["downstream", "input_audio_buffer.clear", "forward"] >= 3


async def test_renegotiation_leaves_no_zombie():
    """OpenSSL ends such a connection by itself; a session that does not hear of it would live on for ever."""
    unheard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with watched() as watch:
        async with Client(watch.world.url, CLIENT_KEY, sound=False) as client:
            await client.connect()
            await client.event("session.created")
            dtls = client.peer.sctp.transport
            with contextlib.suppress(SSL.Error):
                dtls._ssl.renegotiate()
                dtls._ssl.do_handshake()
            await dtls._write_ssl()
            await watch.world.simulator.say({"type": "rate_limits.updated", "rate_limits": []})
            await watch.world.simulator.say({"type": "input_audio_buffer.cleared", "event_id": "event_1"})
            # The client's own OpenSSL is as broken: let it go without a goodbye.
            client.peer.sctp._association_state = client.peer.sctp.State.CLOSED
        record = await watch.ended()
        assert record.reason == "client_left"
        assert unheard == []
