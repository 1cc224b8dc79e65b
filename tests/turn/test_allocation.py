"""Debian's coturn takes our credentials, and only ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from dataclasses import replace

import pytest
from aioice.stun import Class, Message, Method, TransactionFailed
from support.turn_client import allocation, echo, echoed

from relay.api.ice_servers import IceServers
from relay.config import Secret, TurnSettings
from relay.config_network import ice_server
from relay.core.turn_credentials import TurnCredential, turn_credential


def way_in(server, way):
    return (server.host, server.tls_port if way == "tls" else server.port), way, server.trusting()


async def answer_to(server, credential, way="udp"):
    """The error code that an allocation is refused with; None if it is made."""
    address, way, trusting = way_in(server, way)
    try:
        async with allocation(address, credential, way, trusting):
            return None
    except TransactionFailed as error:
        return error.response.error_code


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_an_allocation_carries_datagrams_both_ways(server, way):
    address, way, trusting = way_in(server, way)
    async with allocation(address, server.credential(), way, trusting) as (transport, heard), echo() as peer:
        host, port = transport.get_extra_info("sockname")
        assert host == server.host
        assert port in server.relay_ports
        for size in (1, 172, 1200):
            assert await echoed(transport, heard, peer, bytes(size)) == peer


async def test_what_the_door_hands_out_works(server):
    settings = TurnSettings(tuple(map(ice_server, server.urls)), Secret(server.secret))
    (given,) = IceServers(settings).body("ek_any", time.time())["ice_servers"]
    assert given["urls"] == list(server.urls)
    credential = TurnCredential(given["username"], given["credential"], 0)
    for way in ("udp", "tcp", "tls"):
        address, _, trusting = way_in(server, way)
        async with allocation(address, credential, way, trusting) as (transport, _):
            assert transport.get_extra_info("sockname")[0] == server.host


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_an_expired_credential_is_refused(server, way):
    assert await answer_to(server, server.credential(seconds=-2), way) == 401


async def test_an_allocation_outlives_the_credential_it_was_made_with(server):
    short = server.credential(seconds=2)
    address = server.host, server.port
    async with allocation(address, short) as (transport, heard), echo() as peer:
        assert await echoed(transport, heard, peer, b"before") == peer
        async with asyncio.timeout(10):
            while await answer_to(server, short) != 401:  # noqa: ASYNC110 - the server's clock is waited for
                await asyncio.sleep(0.2)
        assert await echoed(transport, heard, peer, b"after") == peer
        # Private name: aioice refreshes only minutes later.
        refresh = Message(message_method=Method.REFRESH, message_class=Class.REQUEST)
        refresh.attributes["LIFETIME"] = 600
        answer, _ = await transport._TurnTransport__inner_protocol.request_with_retry(refresh)
        assert answer.attributes["LIFETIME"] == 600
        assert await echoed(transport, heard, peer, b"refreshed") == peer


async def test_forged_credentials_are_refused(server):
    good = server.credential(seconds=60)
    later = good.expires_at + 3600
    forged = [
        turn_credential("another secret", "test", good.expires_at),
        replace(good, username=f"{later}:test"),
        replace(good, username=f"{good.expires_at}:somebody"),
        replace(good, password=""),
        replace(good, password=base64.b64encode(hmac.digest(b"", good.username.encode(), hashlib.sha1)).decode()),
    ]
    for each in forged:
        assert await answer_to(server, each) == 401, each
    assert await answer_to(server, good) is None


async def test_the_secret_and_passwords_are_in_no_log_of_the_server(server):
    credential = server.credential()
    async with allocation((server.host, server.port), credential):
        await server.logged(f"username=<{credential.username}>")
    text = "\n".join(server.log)
    assert server.secret not in text
    assert credential.password not in text
