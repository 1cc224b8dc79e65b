"""The talk page itself comes back: from a change of network, and from a reload, with the conversation as it was."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page

from network.browser import chromium_on
from network.lab import Lab
from network.programs import CLIENT_KEY
from network.shapes import SHAPES, World, world
from network.test_changes import GAP_SECONDS, NEW_ADDRESS, heard_again

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]

OFFLINE_SECONDS = 1.5


async def test_the_network_under_the_page_changes_and_the_page_is_reloaded(lab: Lab):
    try:
        there = await world(lab, SHAPES["direct"])
        async with chromium_on(there.client, lab.directory, trusted=there.relay.url) as browser:
            page = await browser.new_page()
            await page.goto(f"{there.relay.url}/#key={CLIENT_KEY}")
            await page.click("#start")
            await live(there, page)
            session = there.service.session()["id"]

            there.client.leave()
            await asyncio.sleep(OFFLINE_SECONDS)
            there.client.move(NEW_ADDRESS)
            await heard_again(there, 20)
            await live(there, page)
            assert await at(page, "page.reconnected") - await at(page, "page.reconnecting") < GAP_SECONDS

            await page.reload()
            await live(there, page)
            state = there.service.state()
            assert [each["id"] for each in state["sessions"] if each["state"] == "open"] == [session]
            assert len(state["calls"]) == 1
            assert await page.locator("body").get_attribute("data-failure") is None
    except Exception as error:
        error.add_note(lab.logs())
        raise


async def at(page: Page, kind: str) -> float:
    """When a row of the page's event log was first written, in seconds since the start."""
    row = page.locator(f"[data-type='{kind}'] summary > :first-child")
    return float(await row.first.text_content() or "")


async def live(there: World, page: Page) -> None:
    """The page says so, and sound passes both ways."""
    await page.wait_for_selector("body[data-state=live]", timeout=20_000)
    await heard_again(there)
