"""Real Firefox with a spoken microphone against the relay: its ICE, DTLS, SCTP and Opus are none of Chromium's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.client import Client
from support.client_pages import (
    LISTEN,
    PAGES,
    SPEECH,
    TURNS_OVER,
    ga_page,
    hear_what_was_said,
    preview_page,
    received,
    relay_for,
    run_sample,
    sample_pages,
    until_heard,
)
from support.coming_back import one_call
from support.coturn import coturn
from support.firefox import FirefoxPage, firefox, own_address
from support.service import CLIENT_KEY, SECRETS, Bench, bench, bounds
from support.sessions import Watch, no_secret_in, watched

from relay.config import IceSettings, Secret, TurnSettings
from relay.config_network import ice_server
from relay.rtc.path import Transport

COMING_BACK = (PAGES / "coming_back.js").read_text()
WITHOUT_UDP = (PAGES / "without_udp.js").read_text()

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]


@pytest_asyncio.fixture(loop_scope="module")
async def page() -> AsyncIterator[FirefoxPage]:
    async with firefox(SPEECH) as page:
        yield page
        assert page.complaints == []


def media() -> IceSettings:
    """Media where Firefox goes."""
    return IceSettings(hosts=(own_address(),), udp_port=0, tcp_port=0)


def transports(world: Bench) -> list[Transport]:
    endpoint = world.relay.registry._host._plane.endpoint
    return [agent.selected.transport for agent in endpoint._by_ufrag.values()]


async def test_a_page_of_the_ga_doors(page):
    async with sample_pages() as origin, relay_for(origin, ice=media()) as world:
        await run_sample(page, world, ga_page(origin, world), "response.done")


async def test_a_page_of_the_preview_sample(page):
    async with sample_pages() as origin, relay_for(origin, ice=media()) as world:
        await run_sample(page, world, preview_page(origin, world), "response.done")


async def test_a_page_talks_over_tcp_alone(page):
    async with sample_pages() as origin, relay_for(origin, ice=media()) as world:
        await page.add_init_script(WITHOUT_UDP)
        await page.goto(ga_page(origin, world))
        await page.click("#start")
        await received(page, "response.done")
        await hear_what_was_said(page, "remoteLevels", TURNS_OVER)
        assert transports(world) == [Transport.TCP]
        await page.click("#stop")


async def test_the_talk_page(page):
    async with bench(ice=media()) as world:
        await page.goto(f"{world.url}/#key={CLIENT_KEY}")
        await page.click("#start")
        await page.wait_for("document.body.dataset.state === 'live'")
        await page.evaluate(LISTEN)
        await hear_what_was_said(
            page, "heard", "document.querySelectorAll(\"[data-type='output_audio_buffer.stopped']\").length"
        )
        content = await page.evaluate("document.documentElement.outerHTML")
        for secret in SECRETS:
            assert secret not in content, secret
        await page.click("#start")
        await page.wait_for("document.body.dataset.state === 'ended'")
        await world.simulator.until(lambda state: all(call["hung_up"] for call in state["calls"]))


async def test_the_talk_page_comes_back(page):
    async with bench(ice=media(), limits=bounds(reattach_seconds=30)) as world:
        await page.goto(f"{world.url}/#key={CLIENT_KEY}")
        await page.click("#start")
        await page.wait_for("document.querySelector('#event-rows [data-type=\"session.created\"]') !== null")
        await page.evaluate("window.dispatchEvent(new Event('online'))")
        await page.wait_for("document.querySelector('#event-rows [data-type=\"page.reconnected\"]') !== null")
        await page.reload()
        await page.wait_for("document.body.dataset.state === 'idle'")
        # Firefox forgets the permission with the page.
        await page.click("#notice-action")
        await page.wait_for("document.querySelector('#event-rows [data-type=\"page.reconnected\"]') !== null")
        assert await page.evaluate("document.querySelector('#status').textContent") == "Live"
        assert len(world.simulator.state()["calls"]) == 1


async def test_the_check_of_the_connection(page):
    async with bench(ice=media()) as world:
        await page.goto(f"{world.url}/#key={CLIENT_KEY}")
        await page.click("#tab-check")
        await page.click("#check-run")
        await page.wait_for("!document.querySelector('#check-conclusion').hidden")
        rows = "[...document.querySelectorAll('#check-ways li')]"
        found = dict(await page.evaluate(f"{rows}.map(({{ dataset }}) => [dataset.way, dataset.outcome])"))
        assert (found["signalling"], found["udp"], found["tcp"]) == ("works", "works", "works")


async def test_a_relay_on_loopback_alone_is_told_from_a_firewall(page):
    async with bench() as world:
        await page.goto(f"{world.url}/#key={CLIENT_KEY}")
        await page.click("#tab-check")
        await page.click("#check-run")
        found = await page.wait_for("document.querySelector('#check-conclusion').dataset.conclusion")
        assert found == "loopback_only"
        assert all("ICE failed" in each for each in page.complaints)
        page.complaints.clear()


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_the_talk_page_over_a_turn_server_alone(page, tmp_path, way):
    async with coturn(tmp_path, host=own_address()) as server:
        turn = TurnSettings((ice_server(server.url(way)),), Secret(server.secret), 600, relay_only=True)
        async with bench(ice=media(), turn=turn) as world:
            await page.goto(f"{world.url}/#key={CLIENT_KEY}")
            await page.click("#start")
            await page.wait_for("document.querySelector('[data-speaker=model]') !== null")
            [agent] = world.relay.registry._host._plane.endpoint._by_ufrag.values()
            assert agent.selected.address[1] in server.relay_ports
            await page.click("#start")
            await page.wait_for("document.body.dataset.state === 'ended'")


@contextlib.asynccontextmanager
async def talking(page: FirefoxPage) -> AsyncIterator[Watch]:
    """A page in a session that is active."""
    async with watched(ice=media(), limits=bounds(reattach_seconds=30)) as watch:
        async with Client(watch.world.url, CLIENT_KEY) as backend:
            key = await backend.mint()
        await page.add_init_script(COMING_BACK)
        # The talk page, not started: its policy lets scripts reach the relay.
        await page.goto(watch.world.url)
        assert await page.evaluate("key => talk(key)", key) == 201
        await page.wait_for("events.some((event) => event.type === 'session.created')")
        yield watch


async def test_three_restarts_in_a_row(page):
    async with talking(page) as watch:
        await until_heard(watch, page)
        for _ in range(3):
            assert (await page.evaluate("restart()"))["status"] == 200
            assert await page.evaluate("ask()") < 1000
            assert (await until_heard(watch, page))["state"] == "connected"
        assert len(watch.world.relay.registry._host._plane.endpoint._by_ufrag) == 1
        one_call(watch)
        assert await page.evaluate("hangUp()") == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == ("client_hung_up", 0)


async def test_a_reload(page):
    async with talking(page) as watch:
        await until_heard(watch, page)
        await page.reload()
        assert await page.evaluate("comeBack()") == 200
        await page.wait_for("events.length > 0")
        created = (await page.evaluate("events"))[0]
        assert created["type"] == "session.created"
        no_secret_in(str(created))
        await until_heard(watch, page)
        assert await page.evaluate("hangUp()") == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == ("client_hung_up", 1)
        await watch.hung_up()
