"""The admin console in a real browser, and what its tests may hold against it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

PICTURES = "CONSOLE_PICTURES"
# What a browser says of any answer of 400 and above: refusals are part of the tests.
_REFUSAL = "Failed to load resource"
_MOST_TABS = 60


@dataclass(frozen=True, slots=True)
class Served:
    """Where a console is served, and keys of the admin API behind it by role."""

    url: str
    keys: dict[str, str]


class Console:
    """One page with the console in it."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self.served = served

    async def sign_in(self, role: str = "owner") -> None:
        """Come in with the key of a role, and wait for the first figures."""
        await self.page.locator("#key").fill(self.served.keys[role])
        await self.page.keyboard.press("Enter")
        await expect(self.page.locator("body")).to_have_attribute("data-state", "in")
        await expect(self.page.locator("#feed")).to_have_attribute("data-feed", "live")

    async def open(self, place: str) -> Locator:
        """Go to a page by its fragment and return it when it holds what it fetches."""
        await self.page.evaluate("place => { location.hash = `#/${place}`; }", place)
        shown = self.page.locator(f".page[data-page={re.split('[/?]', place, maxsplit=1)[0]}]")
        await expect(shown).to_be_visible()
        await expect(shown.locator(".loading")).to_have_count(0)
        return shown

    async def tab_to(self, target: Locator, key: str = "Tab") -> None:
        """Press Tab until this has the focus."""
        await expect(target).to_be_visible()
        for _ in range(_MOST_TABS):
            await self.page.keyboard.press(key)
            if await target.evaluate("node => node === document.activeElement"):
                return
        message = f"Tab does not reach {target}"
        raise AssertionError(message)

    async def confirm(self, *, note: str = "", word: str = "") -> None:
        """Answer the question that stands open, and wait until it is gone."""
        dialog = self.page.locator("dialog")
        if note:
            await dialog.locator(".note-field").fill(note)
        if word:
            await dialog.locator(".word-field").fill(word)
        await dialog.locator("button[type=submit]").click()
        await expect(dialog).to_have_count(0)

    async def picture(self, name: str) -> None:
        """Keep a picture where CONSOLE_PICTURES says, if it says so."""
        directory = os.environ.get(PICTURES)
        if directory:
            await self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True, animations="disabled")


@contextlib.asynccontextmanager
async def console(browser: Browser, served: Served, **context: Any) -> AsyncIterator[Console]:
    """The console before anybody has signed in. A script error, a breach of its policy, a warning: the test fails."""
    opened = await browser.new_context(**context)
    page = await opened.new_page()
    complaints: list[str] = []

    def hear(line: ConsoleMessage) -> None:
        if line.type in {"error", "warning"} and not line.text.startswith(_REFUSAL):
            complaints.append(line.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", hear)
    await page.goto(f"{served.url}/console/")
    await expect(page.locator("#key")).to_be_visible()
    try:
        yield Console(page, served)
    finally:
        await opened.close()
    assert complaints == [], complaints
