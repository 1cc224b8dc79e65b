"""Real Chromium whose session goes on: three ICE restarts in a row, and a reload of the page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page
from support.client import Client
from support.client_pages import PAGES, until_heard
from support.coming_back import one_call
from support.service import CLIENT_KEY, bounds
from support.sessions import Watch, no_secret_in, watched

SCRIPT = (PAGES / "coming_back.js").read_text()

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(240)]


@contextlib.asynccontextmanager
async def talking(browser: Browser) -> AsyncIterator[tuple[Watch, Page]]:
    """A page in a session that is active."""
    async with watched(limits=bounds(reattach_seconds=30)) as watch:
        async with Client(watch.world.url, CLIENT_KEY) as backend:
            key = await backend.mint()
        # Any page of the relay would do; this one has no script of its own, and its policy allows none.
        page = await browser.new_page(bypass_csp=True)
        await loaded(page, watch)
        assert await page.evaluate("key => talk(key)", key) == 201
        await page.wait_for_function("events.some(event => event.type === 'session.created')")
        yield watch, page
        await page.close()


async def loaded(page: Page, watch: Watch) -> None:
    await page.goto(f"{watch.world.url}/livez")
    await page.evaluate(SCRIPT)


async def test_three_restarts_in_a_row(browser):
    async with talking(browser) as (watch, page):
        before = await until_heard(watch, page)
        for _ in range(3):
            assert (await page.evaluate("restart()"))["status"] == 200
            # Events go on at once, over the path before or the new one.
            assert await page.evaluate("ask()") < 1000
            now = await until_heard(watch, page)
            assert (now["state"], now["dtls"]) == ("connected", "connected")
            assert now["certificate"] == before["certificate"]
            assert now["ufrag"] != before["ufrag"]
        assert now["pairs"] > before["pairs"]
        assert now["lost"] == 0
        # The credentials of the last restart alone are left.
        assert len(watch.world.relay.registry._host._plane.endpoint._by_ufrag) == 1
        [counted] = watch.world.relay.registry.live.counters().values()
        assert counted.downstream.packets_lost == 0
        assert await page.evaluate("events.filter(event => event.type === 'session.created').length") == 1
        one_call(watch)
        assert await page.evaluate("hangUp()") == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == ("client_hung_up", 0)


async def test_a_reload(browser):
    async with talking(browser) as (watch, page):
        await until_heard(watch, page)
        for _ in range(2):
            await page.reload()
            await page.evaluate(SCRIPT)
            assert await page.evaluate("comeBack()") == 200
            await page.wait_for_function("events.length > 0")
            created = (await page.evaluate("events"))[0]
            assert created["type"] == "session.created"
            no_secret_in(str(created))
            assert await page.evaluate("ask()") < 1000
            await until_heard(watch, page)
        one_call(watch)
        assert await page.evaluate("hangUp()") == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == ("client_hung_up", 2)
        await watch.hung_up()
