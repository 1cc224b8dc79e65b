"""Real Chromium that knows no UDP way to the relay: everything goes over its TCP connection (RFC 6544)."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from end_to_end.test_browser import hear_what_was_said, received, relay_for, sample_pages
from support.service import CLIENT_KEY

from relay.rtc.path import Transport

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]

TURNS_OVER = "events.filter((each) => each.event.type === 'output_audio_buffer.stopped').length"
# The relay is ICE-lite and sends no checks, so that a browser without its UDP candidates cannot learn them either.
WITHOUT_UDP = """
    window.peers = [];
    const Stock = RTCPeerConnection;
    window.RTCPeerConnection = class extends Stock {
        constructor(...options) {
            super(...options);
            window.peers.push(this);
        }
        setRemoteDescription({ type, sdp }) {
            return super.setRemoteDescription({ type, sdp: sdp.replace(/^a=candidate:\\S+ \\d+ udp .*\\r\\n/gm, "") });
        }
    };
    window.pathInUse = async () => {
        const stats = [...(await window.peers[0].getStats()).values()];
        const { selectedCandidatePairId } = stats.find(({ type }) => type === "transport");
        const pair = stats.find(({ id }) => id === selectedCandidatePairId);
        const local = stats.find(({ id }) => id === pair.localCandidateId);
        const remote = stats.find(({ id }) => id === pair.remoteCandidateId);
        return { state: pair.state, local: local.protocol, remote: remote.protocol, port: remote.port };
    };
"""


async def test_a_page_talks_over_tcp_alone(page):
    async with sample_pages() as origin, relay_for(origin) as world:
        await page.add_init_script(WITHOUT_UDP)
        query = urlencode(
            {
                "secrets_url": f"{world.url}/openai/v1/realtime/client_secrets",
                "calls_url": f"{world.url}/openai/v1/realtime/calls",
                "api_key": CLIENT_KEY,
                "deployment": "gpt-realtime",
            }
        )
        await page.goto(f"{origin}/ga_sample.html?{query}")
        await page.click("#start")
        created = await received(page, "session.created")
        assert "instructions" not in created["session"]
        await received(page, "response.done")
        await hear_what_was_said(page, "remoteLevels", TURNS_OVER)
        assert not [each for each in await page.evaluate("events") if each["event"]["type"] in {"error", "page.failed"}]
        port = world.relay.media_addresses[0].tcp_port
        assert await page.evaluate("pathInUse()") == {
            "state": "succeeded", "local": "tcp", "remote": "tcp", "port": port
        }  # fmt: skip
        endpoint = world.relay.registry._host._plane.endpoint
        assert [agent.selected.transport for agent in endpoint._by_ufrag.values()] == [Transport.TCP]
        assert endpoint._inlets[0]._paths == {}
        await page.click("#stop")
        await world.simulator.until(lambda state: all(session["state"] == "closed" for session in state["sessions"]))
