"""A browser and a relay find each other across the networks that enterprises have, and sound goes both ways."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from network.browser import Call, calling
from network.lab import Lab
from network.packet import Kind
from network.programs import CLIENT_KEY, MEDIA_PORT, TURNS_PORT, until
from network.shapes import CLIENT, OTHER_PORT, RELAY, RELAY6, RELAY_INSIDE, SHAPES, TURN, World, world

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]


@contextlib.asynccontextmanager
async def shape(lab: Lab, name: str, *flags: str, **settings: str) -> AsyncIterator[tuple[World, Call]]:
    """A shape of network and a page on it; a failure shows what the programs printed."""
    try:
        there = await world(lab, SHAPES[name], **settings)
        async with calling(there, *flags) as call:
            yield there, call
    except Exception as error:
        error.add_note(lab.logs())
        raise


async def talked(there: World, call: Call) -> dict[str, Any]:
    """Sound both ways, at the page and at the service."""
    stats = await call.flowing()
    rtp = there.service.session()["rtp"]
    assert rtp["packets_received"] >= 50
    assert rtp["packets_sent"] >= 50
    return stats


@pytest.mark.parametrize("name", ["nat", "nat-other-port"])
async def test_nat_1_1_and_a_client_behind_a_router(lab, name):
    async with shape(lab, name) as (there, call):
        await call.start()
        stats = await talked(there, call)
        port = MEDIA_PORT if name == "nat" else OTHER_PORT
        assert [stats["remote"][each] for each in ("address", "port", "protocol")] == [RELAY, port, "udp"]
        # What the relay saw, and told the browser, is the router's address.
        assert stats["local"]["address"] == CLIENT
        assert RELAY_INSIDE not in await call.answer()


async def test_ipv6_only(lab):
    async with shape(lab, "ipv6") as (there, call):
        await call.start()
        stats = await talked(there, call)
        assert (stats["remote"]["address"], stats["remote"]["protocol"]) == (RELAY6, "udp")
        assert {line.split()[4] for line in candidates(await call.answer())} == {RELAY6}


def candidates(sdp: str) -> list[str]:
    return [line for line in sdp.splitlines() if line.startswith("a=candidate:")]


async def test_no_udp_from_clients_so_ice_tcp(lab):
    async with shape(lab, "no-udp") as (there, call):
        await call.start()
        stats = await talked(there, call)
        assert (stats["remote"]["protocol"], stats["remote"]["address"]) == ("tcp", RELAY)
        assert there.client.seen("into").passed(Kind.RTP) == 0
        await call.page.evaluate("() => call.restart()")
        stats = await talked(there, call)
        assert stats["remote"]["protocol"] == "tcp"
        # The wall falls: the browser moves to UDP by itself, and the relay follows it.
        there.client.rules()
        await until(lambda: there.client.seen("into").passed(Kind.RTP) > 50, "sound over UDP")
        assert (await call.stats())["remote"]["protocol"] == "udp"


async def test_only_tcp_443_to_coturn_so_turn_over_tls(lab):
    async with shape(lab, "turn-tls", "--ignore-certificate-errors") as (there, call):
        servers = await call.page.evaluate(
            """async (key) => {
                const answer = await fetch("/v1/realtime/ice_servers", { headers: { Authorization: `Bearer ${key}` } });
                return await answer.json();
            }""",
            CLIENT_KEY,
        )
        configuration = {
            "iceServers": [
                {name: each[name] for name in ("urls", "username", "credential") if name in each}
                for each in servers["ice_servers"]
            ],
            "iceTransportPolicy": servers["ice_transport_policy"],
        }
        await call.start(configuration)
        stats = await talked(there, call)
        assert stats["local"]["candidateType"] == "relay"
        assert stats["local"]["relayProtocol"] == "tls"
        assert stats["local"]["url"].startswith(f"turns:{TURN}:{TURNS_PORT}")
        # To the relay the media comes from the TURN server, over UDP.
        assert there.relay.host.audio("into", lab.hosts["turn"])["packets"] >= 50
