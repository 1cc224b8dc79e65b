"""Real Chromium that knows no UDP way to the relay: everything goes over its TCP connection (RFC 6544)."""

from __future__ import annotations

import pytest
from support.client_pages import PAGES, TURNS_OVER, ga_page, hear_what_was_said, received, relay_for, sample_pages

from relay.rtc.path import Transport

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]

# The relay is ICE-lite and sends no checks, so that a browser without its UDP candidates cannot learn them either.
WITHOUT_UDP = (PAGES / "without_udp.js").read_text()


async def test_a_page_talks_over_tcp_alone(page):
    async with sample_pages() as origin, relay_for(origin) as world:
        await page.add_init_script(WITHOUT_UDP)
        await page.goto(ga_page(origin, world))
        await page.click("#start")
        created = await received(page, "session.created")
        assert "instructions" not in created["session"]
        await received(page, "response.done")
        await hear_what_was_said(page, "remoteLevels", TURNS_OVER)
        assert not [each for each in await page.evaluate("events") if each["event"]["type"] in {"error", "page.failed"}]
        port = world.relay.media_addresses[0].tcp_port
        assert await page.evaluate("pathInUse()") == {"local": "tcp", "remote": "tcp", "port": port}
        endpoint = world.relay.registry._host._plane.endpoint
        assert [agent.selected.transport for agent in endpoint._by_ufrag.values()] == [Transport.TCP]
        assert endpoint._inlets[0]._paths == {}
        await page.click("#stop")
        await world.simulator.until(lambda state: all(session["state"] == "closed" for session in state["sessions"]))
