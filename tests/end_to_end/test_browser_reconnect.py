"""The talk page on a network that changes: ICE restart, taking the session over, a reload, a second tab."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Request, Route, expect
from support.service import CLIENT_KEY, SECRETS, Bench, bench, bounds

from relay.config import Secret, TurnSettings
from relay.config_network import ice_server

SOUND = """async () => {
    const heard = [];
    for (const { packetsReceived } of (await Promise.all(window.peers.map(async (peer) =>
        [...(await peer.getStats()).values()].find(({ type }) => type === "inbound-rtp") ?? {}))))
        heard.push(packetsReceived ?? 0);
    return heard.at(-1);
}"""
# The page keeps its peer connections to itself; the test wants to count what they hear.
KEEP_PEERS = """window.peers = [];
    const Stock = RTCPeerConnection;
    window.RTCPeerConnection = class extends Stock {
        constructor(...options) { super(...options); window.peers.push(this); }
    };"""
NOT_GRANTED = """navigator.permissions.query = async () => ({ state: "prompt" });"""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(180)]


@dataclass
class Talk:
    """The talk page in a session; `offers` are the requests with which it came back."""

    world: Bench
    page: Page
    offers: list[Request]
    complaints: list[str]

    async def live(self) -> None:
        await expect(self.page.locator("body")).to_have_attribute("data-state", "live", timeout=20_000)
        await expect(self.rows("received", "session.created")).not_to_have_count(0)

    def rows(self, direction: str, kind: str):
        return self.page.locator(f"#event-rows [data-direction={direction}][data-type='{kind}']")

    async def came_back(self, way: str, times: int = 1) -> None:
        rows = self.rows("page", "page.reconnected").filter(has_text=f'"way": "{way}"')
        await expect(rows).to_have_count(times, timeout=30_000)
        await expect(self.page.locator("#status")).to_have_text("Live")

    async def hears(self) -> None:
        """More sound comes than did."""
        before = await self.page.evaluate(SOUND)
        await self.page.wait_for_function(f"async () => (await ({SOUND})()) > {before + 25}", timeout=10_000)

    async def is_answered(self) -> None:
        """Events pass both ways: speech is noticed anew."""
        count = await self.rows("received", "input_audio_buffer.speech_started").count()
        more = "count => document.querySelectorAll(\"[data-type='input_audio_buffer.speech_started']\").length > count"
        await self.page.wait_for_function(more, arg=count, timeout=20_000)

    def calls(self) -> list[dict]:
        return self.world.simulator.state()["calls"]

    async def stop(self) -> None:
        await self.page.locator("#start").click()
        await expect(self.page.locator("body")).to_have_attribute("data-state", "ended")
        await self.world.simulator.until(lambda state: all(call["hung_up"] for call in state["calls"]))
        assert await self.page.evaluate("sessionStorage.length") == 0


@contextlib.asynccontextmanager
async def talking(browser: Browser, world: Bench, *scripts: str) -> AsyncIterator[Talk]:
    context = await browser.new_context(permissions=["microphone"])
    page = await context.new_page()
    for script in (KEEP_PEERS, *scripts):
        await page.add_init_script(script)
    offers: list[Request] = []
    complaints: list[str] = []
    page.on("request", lambda request: offers.append(request) if is_offer(request) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{world.url}/#key={CLIENT_KEY}")
    await page.click("#start")
    talk = Talk(world, page, offers, complaints)
    await talk.live()
    yield talk
    assert talk.complaints == []
    await context.close()


def is_offer(request: Request) -> bool:
    return request.method == "POST" and "/calls/rs_" in request.url and not request.url.endswith("/hangup")


@pytest_asyncio.fixture(loop_scope="module")
async def world() -> AsyncIterator[Bench]:
    async with bench(limits=bounds(reattach_seconds=30)) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def talk(browser: Browser, world: Bench) -> AsyncIterator[Talk]:
    async with talking(browser, world) as talk:
        yield talk


async def test_back_online_restarts_ice_and_the_sound_goes_on(talk):
    context = talk.page.context
    for times in (1, 2, 3):
        await context.set_offline(True)
        await context.set_offline(False)
        await talk.came_back("restart", times)
        await talk.hears()
    await talk.is_answered()
    assert len(talk.offers) >= 3  # a request that was under way when the line went is made again
    assert await talk.page.evaluate("peers.length") == 1
    await expect(talk.rows("received", "session.created")).to_have_count(1)
    assert len(talk.calls()) == 1
    await talk.stop()


async def test_a_path_that_dies_is_replaced_by_a_restart_before_it_has_failed(talk):
    """Checks under the credentials in force are not answered any more: the browser sees its path go silent."""
    endpoint = talk.world.relay.registry._host._plane.endpoint
    [(ufrag, agent)] = endpoint._by_ufrag.items()
    endpoint.forget(ufrag)
    # The restart makes the relay listen under a new name; the old one stays unknown to it.
    await talk.came_back("restart")
    await expect(talk.rows("page", "page.reconnecting")).to_contain_text('"cause": "disconnected"')
    assert agent.credentials.ufrag != ufrag
    await talk.hears()
    assert await talk.page.evaluate("peers.length") == 1
    assert len(talk.calls()) == 1


async def test_a_restart_that_is_refused_becomes_a_new_peer_connection(talk):
    refused: list[str] = []

    async def refuse_once(route: Route) -> None:
        if refused:
            await route.continue_()
            return
        refused.append(route.request.url)
        body = '{"error": {"message": "m", "type": "invalid_request_error", "param": null, "code": "peer_gone"}}'
        await route.fulfill(status=409, body=body, content_type="application/json")

    await talk.page.route("**/calls/rs_*", refuse_once)
    await talk.page.evaluate("window.dispatchEvent(new Event('online'))")
    await talk.came_back("reattach")
    assert len(refused) == 1
    await talk.hears()
    await talk.is_answered()
    assert await talk.page.evaluate("peers.map(({ connectionState }) => connectionState)") == ["closed", "connected"]
    await expect(talk.rows("received", "session.created")).to_have_count(2)
    await expect(talk.rows("sent", "session.update")).to_have_count(1)  # the session has its transcription
    assert len(talk.calls()) == 1
    await talk.stop()


async def test_reconnecting_is_shown_calmly_and_the_transcript_stays(talk):
    page = talk.page
    await expect(page.locator("[data-speaker=model]").first).to_be_visible(timeout=20_000)
    said = await page.locator("[data-speaker=you]").first.inner_text()
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await page.route("**/calls/rs_*", hold)
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    await expect(page.locator("#status")).to_have_text("Reconnecting…")
    await expect(page.locator("#announcer")).to_have_text("The connection is interrupted. Reconnecting.")
    await expect(page.locator("body")).to_have_attribute("data-state", "live")
    await expect(page.locator("#notice")).to_be_hidden()
    await held.pop().continue_()
    await page.unroute("**/calls/rs_*")
    await talk.came_back("restart")
    await expect(page.locator("#announcer")).to_have_text("The connection is back.")
    assert await page.locator("[data-speaker=you]").first.inner_text() == said


async def test_a_reload_takes_the_session_up_again(talk):
    page = talk.page
    # Not the first: on a busy machine late packets split what is said, and the second half interrupts the first answer.
    whole = page.locator("[data-speaker=model]", has_text="You spoke for").first
    await expect(whole).to_be_visible(timeout=40_000)
    said = await page.locator("#transcript-lines p").first.inner_text()
    identity = await page.locator("[data-stat=session]").inner_text()
    await page.locator("#mute").click()
    kept = await page.evaluate("sessionStorage.getItem('relay.session')")
    assert CLIENT_KEY not in kept
    await page.reload()
    await talk.live()
    await expect(page.locator("#status")).to_have_text("Live, muted")  # a reload opens no microphone that was closed
    await expect(page.locator("[data-stat=session]")).to_have_text(identity)
    assert await page.locator("#transcript-lines p").first.inner_text() == said
    await page.locator("#mute").click()
    await talk.came_back("reattach")
    await talk.hears()
    await talk.is_answered()
    assert len(talk.calls()) == 1
    content = await page.content() + await page.evaluate("JSON.stringify(sessionStorage)")
    for secret in (*SECRETS, CLIENT_KEY):
        assert secret not in content, secret
    await talk.stop()


async def test_a_reload_without_the_permission_asks_first(browser, world):
    async with talking(browser, world, NOT_GRANTED) as talk:
        await talk.page.reload()
        button = talk.page.get_by_role("button", name="Continue the conversation")
        await expect(button).to_be_visible()
        await expect(talk.page.locator("body")).to_have_attribute("data-state", "idle")
        await button.click()
        await talk.live()
        await expect(talk.page.locator("#notice")).to_be_hidden()
        await talk.came_back("reattach")
        assert len(talk.calls()) == 1


async def test_starting_anew_after_a_reload_hangs_the_old_session_up(browser, world):
    async with talking(browser, world, NOT_GRANTED) as talk:
        await talk.page.reload()
        await expect(talk.page.get_by_role("button", name="Continue the conversation")).to_be_visible()
        await talk.page.fill("#key", CLIENT_KEY)
        await talk.page.click("#start")
        await talk.live()
        state = await world.simulator.until(lambda seen: seen["calls"][0]["hung_up"])
        assert [call["hung_up"] for call in state["calls"]] == [True, False]


async def test_a_reload_too_late_says_that_the_conversation_is_over(talk):
    page = talk.page
    await page.goto("about:blank")
    await talk.world.relay.registry.drain(0)
    await page.goto(talk.world.url)
    await expect(page.locator("body")).to_have_attribute("data-failure", "session_over", timeout=20_000)
    await expect(page.locator("#notice")).to_contain_text("The conversation is over")
    await expect(page.locator("body")).to_have_attribute("data-state", "ended")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_copy_of_the_tab_leaves_the_session_where_it_is(talk):
    async with talk.page.expect_popup() as opened:
        await talk.page.evaluate("void window.open(location.href)")  # with a copy of this tab's sessionStorage
    copy = await opened.value
    await copy.wait_for_function("() => document.body.dataset.state === 'idle' && sessionStorage.length === 0")
    await talk.hears()
    assert talk.offers == []
    await expect(talk.page.locator("#status")).to_have_text("Live")


async def test_servers_whose_credential_has_expired_are_asked_for_again(browser):
    turn = TurnSettings((ice_server("turn:127.0.0.1:9?transport=udp"),), Secret("shared-secret-of-nobody-0001"), 1)
    async with bench(turn=turn) as world, talking(browser, world) as talk:
        async with talk.page.expect_response("**/v1/realtime/ice_servers") as asked:
            await talk.page.evaluate("window.dispatchEvent(new Event('online'))")
        told = (await (await asked.value).json())["ice_servers"][0]
        await talk.came_back("restart")
        used = (await talk.page.evaluate("peers[0].getConfiguration()"))["iceServers"][0]
        assert (used["username"], used["credential"]) == (told["username"], told["credential"])


async def test_cancelling_a_way_back_hangs_up(talk):
    page = talk.page
    await page.route("**/calls/rs_*", lambda route: route.abort() if is_offer(route.request) else route.continue_())
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    await expect(page.locator("#status")).to_have_text("Reconnecting…")
    await talk.stop()
