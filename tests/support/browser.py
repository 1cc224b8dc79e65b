"""A real Chromium with a microphone that plays a file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from support import needs

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def require_chromium() -> str:
    """Chromium's path; without one the test is skipped."""
    return needs.program("chromium")


@contextlib.asynccontextmanager
async def chromium(speech: Path, *flags: str) -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile; its microphone plays `speech` again and again."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=require_chromium(),
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={speech}", *flags],
        )
        try:
            yield browser
        finally:
            await browser.close()
