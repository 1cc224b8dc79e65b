"""The console on a real relay with real sessions: what is pressed here happens there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from playwright.async_api import Browser, expect
from support.administrators import ADMIN_KEY, Office, admin_settings
from support.client import Client
from support.console import Console, Served, console
from support.service import CLIENT_KEY, Bench, bench
from support.sessions import end_notice

from relay.config import DecisionLogSettings, PolicySettings, QuotaSettings, Secret, StoreSettings

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]

FILE = "house.yaml"
HOUSE = """\
apiVersion: relay/v1
kind: SessionPolicy
metadata: {name: house, owner: tests}
spec:
  match: {default: true}
  instructions:
    text: |
      FIRST-TEXT. Be brief.
  limits: {sessionSeconds: 1800}
  apply: live
"""
# The first check starts the process that loads documents.
PATIENT_MS = 20_000
SECOND, THIRD = HOUSE.replace("FIRST-TEXT", "SECOND-TEXT"), HOUSE.replace("FIRST-TEXT", "THIRD-TEXT")


@asynccontextmanager
async def governed(tmp_path: Path) -> AsyncIterator[tuple[Bench, Office]]:
    """A relay whose policies are in its store, with the stand-in for the service behind it."""
    documents, decisions = tmp_path / "policies", tmp_path / "decisions"
    documents.mkdir()
    decisions.mkdir()
    (documents / FILE).write_text(HOUSE)
    async with (
        bench(
            admin=admin_settings(),
            policy=PolicySettings(documents=str(documents), managed=True),
            decision_log=DecisionLogSettings(directory=str(decisions)),
            store=StoreSettings(url=Secret(f"sqlite:///{tmp_path / 'relay.db'}")),
            quotas=QuotaSettings(user_sessions=3, tenant_minutes_a_day=60),
        ) as world,
        ClientSession() as http,
    ):
        yield world, Office(world.relay.operations_url, http)


@asynccontextmanager
async def owner_of(browser: Browser, office: Office, **context: object) -> AsyncIterator[Console]:
    """The console of a relay with its owner signed in."""
    async with console(browser, Served(office.url, {"owner": ADMIN_KEY}), **context) as opened:
        await opened.sign_in()
        yield opened


@asynccontextmanager
async def talking(world: Bench) -> AsyncIterator[Client]:
    """Somebody who talks through this relay."""
    async with Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        await client.event("session.created")
        yield client


async def instructed(world: Bench, word: str) -> None:
    """Wait until the service's newest session is told this."""
    await world.simulator.until(lambda state: word in state["sessions"][-1]["session"]["instructions"], 10)


async def write(opened: Console, text: str) -> None:
    await opened.open(f"policies/{FILE}")
    await opened.page.locator("#policy-text").fill(text)


async def publish(opened: Console, note: str = "") -> None:
    await opened.page.locator("#publish").click()
    await opened.confirm(note=note)


@pytest.mark.smoke
async def test_a_policy_published_in_the_console_reaches_a_live_session(browser, tmp_path):
    async with governed(tmp_path) as (world, office), owner_of(browser, office) as opened, talking(world):
        page = opened.page
        await instructed(world, "FIRST-TEXT")

        await write(opened, HOUSE.replace("1800", "often"))
        problem = page.locator("#problems [data-severity=error]")
        await expect(problem).to_contain_text("limits.sessionSeconds", timeout=PATIENT_MS)
        await expect(problem).to_have_attribute("data-line", "9")
        await page.locator("#publish").click()
        await page.locator("dialog button[type=submit]").click()
        await expect(page.locator("dialog [role=alert]").last).to_contain_text("cannot be put in force")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        assert (await office.ask("GET", f"/policies/files/{FILE}")).text == HOUSE

        await write(opened, SECOND)
        await expect(page.locator("#check-state")).to_have_attribute("data-outcome", re.compile("sound|doubtful"))
        await page.locator("#tab-dry-run").click()
        await expect(page.locator("#panel-dry-run tbody tr")).to_contain_text("At once")
        await publish(opened, "Another text")
        await expect(page.locator("#revision")).to_have_text("Revision 2")
        await instructed(world, "SECOND-TEXT")

        await write(opened, THIRD)
        seen = (await office.ask("GET", "/policies")).headers["ETag"]
        headers = {"If-Match": seen, "Content-Type": "text/plain"}
        theirs = SECOND.replace("1800", "900")
        sent = await office.ask("PUT", f"/policies/files/{FILE}?note=Meanwhile", headers=headers, data=theirs)
        assert sent.status == 200
        await page.locator("#publish").click()
        await page.locator("dialog button[type=submit]").click()
        await expect(page.locator("#stale")).to_contain_text("Meanwhile")
        assert (await office.ask("GET", f"/policies/files/{FILE}")).text == theirs
        await page.locator("#stale-keep").click()
        await publish(opened)
        await expect(page.locator("#revision")).to_have_text("Revision 4")
        await instructed(world, "THIRD-TEXT")

        shown = await opened.open("revisions?from=1&to=4")
        await expect(page.locator("#comparison tbody tr").first).to_contain_text("instructions")
        await shown.locator("[data-revision='1'] button").click()
        await opened.confirm(note="Back")
        await expect(shown.locator("[data-revision='5']")).to_contain_text("current")
        await instructed(world, "FIRST-TEXT")


async def test_what_is_stopped_in_the_console_ends_at_both_legs_and_the_client_hears_why(browser, tmp_path):
    async with governed(tmp_path) as (world, office), owner_of(browser, office) as opened:
        page = opened.page
        await opened.open("sessions")
        async with talking(world) as client:
            row = page.locator("#sessions tbody tr")
            await expect(row).to_contain_text("house")
            session = await row.get_attribute("data-session")
            await opened.open(f"session/{session}")
            await expect(page.locator(".waterfall li").first).to_be_visible()
            await expect(page.locator("#timeline [data-kind=stage]").first).to_be_visible()
            await page.locator("#end").click()
            await opened.confirm(note="Asked for")
            await end_notice(client, "operator_ended")
            await world.simulator.until(lambda state: state["calls"][-1]["hung_up"])
            await expect(page.locator("#session-state")).to_contain_text("operator_ended")
        async with talking(world) as client:
            await opened.open("controls")
            await page.locator("#kill-everybody button").click()
            await opened.confirm(note="A drill", word="STOP")
            await end_notice(client, "policy_killed")
            await world.simulator.until(lambda state: state["calls"][-1]["hung_up"])
            await expect(page.locator("#banners")).to_contain_text("kill switch", ignore_case=True)
            await page.locator("#kill-everybody button").click()
            await opened.confirm()
            await expect(page.locator("#kill-everybody")).to_have_attribute("data-on", "false")

        await opened.open("usage")
        await expect(page.locator("#limits li[data-scope=tenant]")).to_contain_text("default")
        shown = await opened.open("audit")
        await expect(shown.locator("tbody tr").first).to_have_attribute("data-action", "kill_switch")
        await expect(shown.locator("tr[data-action='session.end']")).to_contain_text(session)
        await page.locator("#verify").click()
        await expect(page.locator("#chain .badge")).to_have_attribute("data-tone", "good")
