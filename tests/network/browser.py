"""A real Chromium on a host, and the call that a page in it makes."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright
from support.browser import FLAGS, require_chromium

from network.lab import TESTS, Host
from network.programs import CLIENT_KEY
from network.shapes import World

SPEECH = TESTS / "end_to_end" / "speech.wav"
_SCRIPT = (Path(__file__).parent / "caller.js").read_text()
_FLAGS = ("--autoplay-policy=no-user-gesture-required", f"--use-file-for-fake-audio-capture={SPEECH}")


@contextlib.asynccontextmanager
async def chromium_on(host: Host, directory: Path, *flags: str, trusted: str) -> AsyncIterator[Browser]:
    """Run Chromium in a host's namespace. `trusted` is the plain HTTP origin that may use the microphone."""
    # Playwright talks to it through pipes, which no namespace parts.
    launcher = directory / "chromium"
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(host.command(require_chromium()))} "$@"\n')
    launcher.chmod(stat.S_IRWXU)
    trust = f"--unsafely-treat-insecure-origin-as-secure={trusted}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(launcher), args=[*FLAGS, *_FLAGS, trust, *flags])
        try:
            yield browser
        finally:
            await browser.close()


class Call:
    """One page's call. Times are seconds."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    async def open(self) -> None:
        """Open the page, or open it anew: nothing of the one before is left."""
        await self.page.goto(self._url)
        await self.page.evaluate(_SCRIPT)

    async def start(self, configuration: dict[str, Any] | None = None, seconds: float = 20.0) -> None:
        """Mint, call, and wait for the open channel and `session.created`."""
        await self.page.evaluate("([key, wanted]) => call.start(key, wanted)", [CLIENT_KEY, configuration or {}])
        await self.event("session.created", seconds)

    async def event(self, kind: str, seconds: float = 10.0) -> dict[str, Any]:
        """The newest event of a type, now or later."""
        find = f"() => call.events.findLast((each) => each.type === '{kind}')"
        handle = await self.page.wait_for_function(find, timeout=seconds * 1000, polling=50)
        found: dict[str, Any] = await handle.json_value()
        return found

    async def stats(self) -> dict[str, Any]:
        """States, RTP counts and the selected pair of candidates."""
        found: dict[str, Any] = await self.page.evaluate("() => call.stats()")
        return found

    async def answer(self) -> str:
        """The relay's SDP in force."""
        return str(await self.page.evaluate("call.peer.currentRemoteDescription.sdp"))

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event."""
        await self.page.evaluate("(event) => call.send(event)", event)

    async def answered(self, seconds: float = 15.0) -> None:
        """Send an event that the service answers, and wait for the answer."""
        before = len(await self.page.evaluate("call.events"))
        await self.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio"]}})
        find = "(from) => call.events.slice(from).some((each) => each.type === 'session.updated')"
        await self.page.wait_for_function(find, arg=before, timeout=seconds * 1000, polling=50)

    async def flowing(self, packets: int = 50, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until sound has gone both ways for a while; the statistics then."""
        begun = await self.stats()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            now = await self.stats()
            if all(_count(now, way) >= _count(begun, way) + packets for way in ("inbound", "outbound")):
                return now
            assert loop.time() < deadline, f"no sound both ways within {seconds:g} s: {begun} … {now}"
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def calling(there: World, *flags: str) -> AsyncIterator[Call]:
    """Chromium on the client, at the relay's page, ready to call."""
    async with chromium_on(there.client, there.lab.directory, *flags, trusted=there.relay.url) as browser:
        call = Call(await browser.new_page(), there.relay.url)
        await call.open()
        yield call


def _count(stats: dict[str, Any], way: str) -> int:
    found = stats[way]
    return 0 if found is None else int(found["packetsReceived" if way == "inbound" else "packetsSent"])
