"""The talk page's check of the connection: each way by a real attempt, and which side is blocked."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect
from support.browser import chromium
from support.coturn import coturn
from support.service import CLIENT_KEY, SECRETS, Bench, bench, bounds

from relay.config import IceSettings, Secret, TurnSettings
from relay.config_network import ice_server

SPEECH = Path(__file__).parent / "speech.wav"
WORKS = re.compile(r"^works, \d+ ms$")
DEAD_PORT = 9

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    # TURN's certificate is its own; a real one is signed by somebody the browser knows.
    async with chromium(SPEECH, "--ignore-certificate-errors") as running:
        yield running


@contextlib.asynccontextmanager
async def opened(browser: Browser, world: Bench) -> AsyncIterator[Page]:
    context = await browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"])
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{world.url}/#key={CLIENT_KEY}")
    yield page
    assert complaints == []
    await context.close()


async def check(page: Page) -> None:
    await page.click("#tab-check")
    await page.click("#check-run")


async def hurry(page: Page, *open_ways: str) -> None:
    """Once these ways are known to work, the others have had their time."""
    for way in open_ways:
        await expect(page.locator(f"[data-way={way}]")).to_have_attribute("data-outcome", "works", timeout=20_000)
    await page.clock.run_for(9_000)


async def outcomes(page: Page) -> dict[str, str]:
    """What every row says, once the check is done."""
    await expect(page.locator("#check-conclusion")).to_be_visible(timeout=30_000)
    rows = await page.locator("#check-ways li").all()
    return {await row.get_attribute("data-way"): await row.get_attribute("data-outcome") for row in rows}


def dead(line: str) -> str:
    words = line.split(" ")
    return " ".join([*words[:5], str(DEAD_PORT), *words[6:]])


async def spoil(page: Page, door: str, change: Callable[[str], str | None]) -> None:
    """Change the candidates of the relay's answers at a door, as a firewall would change what they are worth."""

    async def answer(route: Route) -> None:
        response = await route.fetch()
        lines = (await response.text()).split("\r\n")
        kept = [change(line) if line.startswith("a=candidate:") else line for line in lines]
        await route.fulfill(response=response, body="\r\n".join(line for line in kept if line is not None))

    await page.route(f"**/v1/realtime/{door}", answer)


def without_udp(line: str) -> str:
    return dead(line) if " udp " in line else line


async def test_everything_works_and_the_report_can_be_handed_on(browser):
    async with bench() as world, opened(browser, world) as page:
        await check(page)
        assert await outcomes(page) == {
            "signalling": "works", "udp": "works", "tcp": "works",
            "turn_udp": "not_offered", "turn_tcp": "not_offered", "turn_tls": "not_offered",
        }  # fmt: skip
        for way in ("signalling", "udp", "tcp"):
            await expect(page.locator(f"[data-way={way}] .outcome")).to_have_text(WORKS)
        conclusion = page.locator("#check-conclusion")
        await expect(conclusion).to_have_attribute("data-conclusion", "all_well")
        address = world.relay.media_addresses[0]
        await expect(conclusion).to_contain_text(f"UDP to {address.host}:{address.udp_port}")
        await expect(page.locator("#announcer")).to_have_text(await conclusion.inner_text())

        await page.click("#check-copy")
        await expect(page.locator("#check-copied")).to_have_text("Copied.")
        report = await page.evaluate("navigator.clipboard.readText()")
        assert f"TCP: works, {report.split('TCP: works, ')[1].split(' ms')[0]} ms" in report
        assert f"{address.host}:{address.tcp_port}" in report
        for secret in (*SECRETS, CLIENT_KEY, "ek_"):
            assert secret not in report, secret
        # No session was made, and nothing of it is left.
        state = world.simulator.state()
        assert (state["calls"], state["sessions"]) == ([], [])
        assert world.relay.registry.live.counters() == {}
        await page.wait_for_timeout(200)
        assert world.relay.registry._host._plane.endpoint._by_ufrag == {}


async def test_blocked_udp_is_named_and_tcp_works(browser):
    async with bench() as world, opened(browser, world) as page:
        await spoil(page, "connection_check", without_udp)
        await page.clock.install()
        await check(page)
        await hurry(page, "tcp")
        found = await outcomes(page)
        assert (found["udp"], found["tcp"]) == ("blocked", "works")
        conclusion = page.locator("#check-conclusion")
        await expect(conclusion).to_have_attribute("data-conclusion", "second_best")
        host, port = world.relay.media_addresses[0].host, world.relay.media_addresses[0].tcp_port
        await expect(conclusion).to_contain_text(
            f"does not let UDP to {host}:{DEAD_PORT} through; TCP to {host}:{port}"
        )


async def test_a_relay_without_tcp_offers_none(browser):
    ice = IceSettings(hosts=("127.0.0.1",), udp_port=0, tcp=False)
    async with bench(ice=ice) as world, opened(browser, world) as page:
        await check(page)
        found = await outcomes(page)
        assert (found["udp"], found["tcp"]) == ("works", "not_offered")


async def test_a_conversation_without_sound_is_followed_by_the_reason(browser):
    """Signalling works, no media passes: the page looks for itself and says what its network does not let through."""
    async with bench() as world, opened(browser, world) as page:
        await spoil(page, "calls", lambda line: dead(line) if " udp " in line else None)
        await spoil(page, "connection_check", without_udp)
        await page.clock.install()
        await page.click("#start")
        await expect(page.locator("#status")).to_have_text("Connecting…")
        await page.clock.run_for(21_000)
        await expect(page.locator("body")).to_have_attribute("data-failure", "network_blocked", timeout=20_000)
        await expect(page.locator("#notice")).to_contain_text(f"UDP to 127.0.0.1:{DEAD_PORT}")
        await expect(page.locator("#panel-check")).to_be_visible()
        await hurry(page, "tcp")
        finding = page.locator("#notice-finding")
        await expect(finding).to_contain_text(
            f"does not let UDP to 127.0.0.1:{DEAD_PORT} through; TCP to", timeout=20_000
        )
        report = await page.locator("#check-report-text").inner_text()
        assert re.search(r"^Last conversation: rs_\w+, network_blocked$", report, re.MULTILINE)


async def test_when_the_service_is_out_of_reach_the_page_is_not_to_blame(browser):
    async with bench(limits=bounds(ice_seconds=3)) as world, opened(browser, world) as page:
        world.simulator.fault(never_opens="ice")
        await page.click("#start")
        await expect(page.locator("body")).to_have_attribute("data-reason", "service_unreachable", timeout=20_000)
        await page.click("#notice-action")
        found = await outcomes(page)
        assert found["udp"] == "works"
        await expect(page.locator("#notice-finding")).to_contain_text("own way to the model")


@pytest.mark.parametrize("relay_only", [False, True])
async def test_each_way_over_turn(browser, tmp_path, relay_only):
    async with coturn(tmp_path) as server:
        servers = tuple(ice_server(url) for url in server.urls)
        turn = TurnSettings(servers, Secret(server.secret), 600, relay_only=relay_only)
        async with bench(turn=turn) as world, opened(browser, world) as page:
            await check(page)
            found = await outcomes(page)
            assert set(found.values()) == {"works"}
            wanted = "TURN over UDP to turn:" if relay_only else "UDP to 127"
            await expect(page.locator("#check-conclusion")).to_contain_text(f"it goes over {wanted}")
            report = await page.locator("#check-report-text").inner_text()
            assert server.url("tls") in report
            assert ":test" not in report
            assert server.secret not in report


async def test_why_a_way_over_turn_is_blocked(browser, tmp_path):
    async with coturn(tmp_path) as server:
        servers = (ice_server("turn:127.0.0.1:9?transport=tcp"), ice_server(server.url("udp")))
        turn = TurnSettings(servers, Secret("not-the-secret-of-the-server-0001"), 600)
        async with bench(turn=turn) as world, opened(browser, world) as page:
            await page.clock.install()
            await check(page)
            await hurry(page, "udp", "tcp")
            found = await outcomes(page)
            assert (found["turn_udp"], found["turn_tcp"]) == ("blocked", "blocked")
            await expect(page.locator("[data-way=turn_udp] .outcome")).to_have_text("refused by the server")
            await expect(page.locator("[data-way=turn_tcp] .outcome")).to_have_text("no answer from the server")


async def test_without_a_key_it_says_so(browser):
    async with bench() as world, opened(browser, world) as page:
        await page.fill("#key", "")
        await check(page)
        await expect(page.locator("#check-conclusion")).to_contain_text("The access key is missing")
        await page.fill("#key", "wrong-key")
        await page.click("#check-run")
        await expect(page.locator("#check-conclusion")).to_contain_text("The access key was refused")
        assert set((await outcomes(page)).values()) == {"blocked", "untried"}


async def test_a_running_conversation_is_not_disturbed(browser):
    async with bench() as world, opened(browser, world) as page:
        await page.click("#start")
        await page.wait_for_selector("#event-rows [data-type='session.created']", state="attached")
        await check(page)
        assert (await outcomes(page))["udp"] == "works"
        assert await page.locator("body").get_attribute("data-state") == "live"
        assert len(world.simulator.state()["calls"]) == 1
