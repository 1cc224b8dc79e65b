"""The relay finds the service across networks that let no UDP out."""

from __future__ import annotations

import pytest

from network.packet import Kind
from network.test_reach import shape, talked

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]


async def test_no_udp_to_the_service_so_ice_tcp(lab):
    async with shape(lab, "no-udp-egress") as (there, call):
        await call.start()
        await talked(there, call)
        seen = lab.seen()
        # It was tried, and stopped at the service's line.
        assert seen["service"]["into"].counts["filtered:stun"] > 0
        assert seen["relay"]["out"].flows == [seen["relay"]["out"].audio(there.client)]


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_only_a_turn_server_reaches_the_service(lab, way):
    settings = {"RELAY_EGRESS_TURN_URL": f"{{{way}}}"}
    if way == "tls":
        settings["SSL_CERT_FILE"] = "{certificate}"
    async with shape(lab, "turn-egress", **settings) as (there, call):
        await call.start()
        await talked(there, call)
        turn, seen = lab.hosts["turn"], lab.seen()
        assert seen["service"]["into"].audio()["peer"] in turn.addresses
        # What the relay sends to the TURN server is wrapped, in UDP or in a stream.
        assert seen["relay"]["out"].counts.get(Kind.UDP, 0) >= (50 if way == "udp" else 0)
        if way != "udp":
            assert seen["turn"]["into"].passed(Kind.TCP) >= 50
