"""The talk page in a real browser: a conversation, every failure in clear words, keyboard and narrow screens."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import BrowserContext, Page, expect

from relay.core.client_stats import client_stats
from relay.errors import EndReason

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]

SOME_LEVEL = re.compile(r"^(0\.[3-9]\d*|1\.000)$")  # above 42 dB below full scale
KEY = "talk-page-test-key"
ERROR = '{"error": {"message": "%s", "type": "t", "param": null, "code": "%s"}}'


async def start(page: Page, state: str = "live") -> None:
    await page.locator("#start").click()
    await expect(page.locator("body")).to_have_attribute("data-state", state, timeout=20_000)


async def start_and_be_greeted(page: Page) -> None:
    """A session is open at the page before the other side knows it; its first event says that both do."""
    await start(page)
    await expect(page.locator("#event-rows [data-type='session.created']")).to_have_count(1)


async def expect_failure(page: Page, code: str, words: str) -> None:
    await expect(page.locator("body")).to_have_attribute("data-failure", code, timeout=20_000)
    await expect(page.locator("#notice")).to_be_visible()
    await expect(page.locator("#notice")).to_contain_text(words)
    await expect(page.locator("#alarm")).to_contain_text(words)


async def test_key_of_the_link_is_taken_and_leaves_the_address_bar(page, stage):
    await expect(page.locator("#key")).to_have_value(KEY)
    assert page.url == f"{stage.url}/"
    assert await page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


@pytest.mark.smoke
async def test_conversation_from_start_to_stop(page, stage):
    await start(page)
    assert stage.mints == ['{"session":{"type":"realtime"}}']

    await expect(page.locator("#meter-you")).to_have_attribute("data-level", SOME_LEVEL, timeout=10_000)
    await expect(page.locator("#meter-model")).to_have_attribute("data-level", SOME_LEVEL, timeout=10_000)
    await expect(page.locator("[data-speaker=you]").first).to_contain_text("seconds of speech", timeout=10_000)
    # On a busy machine a pause in what is heard may interrupt the first answer.
    theirs = page.locator("[data-speaker=model]", has_text="You spoke for").first
    await expect(theirs).to_be_visible(timeout=30_000)
    await expect(page.locator("[data-stat=roundTrip]")).to_have_text(re.compile(r"^\d+ ms$"))
    await expect(page.locator("[data-stat=lossIn]")).to_have_text(re.compile(r"^0\.0 % \(0 in all\)$"))
    await expect(page.locator("[data-stat=jitterIn]")).to_have_text(re.compile(r"^\d+\.\d ms$"))
    for direction, kind in (
        ("received", "session.created"),
        ("sent", "session.update"),
        ("received", "session.updated"),
    ):
        row = page.locator(f"#event-rows [data-direction={direction}][data-type='{kind}']")
        await expect(row).to_have_count(1)

    await start(page, "ended")  # the same button stops
    await expect(page.locator("#start")).to_have_text("Start again")
    await expect(page.locator("[data-pending]")).to_have_count(0)
    state = await stage.simulator.until(lambda seen: seen["calls"][0]["hung_up"])
    assert len(state["calls"]) == 1
    # What the page measured came before the hang-up: a session that is over takes no report.
    stats = client_stats(stage.reports[-1])
    assert stats is not None
    assert stats.rtt_seconds is not None
    assert stats.buffer_seconds is not None


async def test_a_second_conversation_after_the_first(page):
    await start_and_be_greeted(page)
    await start(page, "ended")
    await start(page)
    await expect(page.locator("#event-rows [data-type='session.created']")).to_have_count(1)


async def test_leaving_the_page_leaves_the_session_to_a_reload(page, stage):
    await start(page)
    await page.goto("about:blank")
    state = await stage.simulator.until(lambda seen: seen["sessions"][0]["state"] == "closed")
    assert not state["calls"][0]["hung_up"]


async def test_leaving_the_page_while_it_connects_hangs_up(page, stage):
    stage.dead_media = True
    await page.locator("#start").click()
    await expect(page.locator("#status")).to_have_text("Connecting…")
    await page.goto("about:blank")
    await stage.simulator.until(lambda seen: seen["calls"][0]["hung_up"])


KEEP_TRACK = """() => {
    const devices = navigator.mediaDevices;
    const open = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        window.microphoneTrack = stream.getAudioTracks()[0];
        return stream;
    };
}"""


async def test_mute_silences_the_microphone_and_says_so(page):
    await page.evaluate(KEEP_TRACK)
    await start(page)
    assert await page.evaluate("microphoneTrack.enabled") is True
    await page.locator("#mute").click()
    await expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#status")).to_have_text("Live, muted")
    assert await page.evaluate("microphoneTrack.enabled") is False
    await expect(page.locator("#meter-you")).to_have_attribute("data-level", "0.000")
    await page.locator("#mute").click()
    await expect(page.locator("#meter-you")).to_have_attribute("data-level", SOME_LEVEL, timeout=10_000)
    await start(page, "ended")
    assert await page.evaluate("microphoneTrack.readyState") == "ended"  # the browser's recording sign goes out


async def test_another_microphone_during_the_conversation(page, stage):
    await start(page)
    names = await page.locator("#microphone option").all_inner_texts()
    assert len(names) > 1
    await page.locator("#microphone").select_option(index=len(names) - 1)
    await expect(page.locator("#meter-you")).to_have_attribute("data-level", SOME_LEVEL, timeout=10_000)
    await expect(page.locator("body")).to_have_attribute("data-state", "live")
    assert len(stage.simulator.state()["calls"]) == 1


REFUSALS = {
    "key": (
        "client_secrets",
        401,
        ERROR % ("Incorrect API key.", "invalid_api_key"),
        {},
        "key_refused",
        "key was refused",
    ),
    "service key": (
        "calls",
        401,
        ERROR % ("The relay's own.", "service_unauthorized"),
        {},
        "request_refused",
        "The relay's own.",
    ),
    "origin": (
        "client_secrets",
        403,
        ERROR % ("x", "origin_not_allowed"),
        {},
        "origin_refused",
        "add http://127.0.0.1:",
    ),
    "rate": (
        "client_secrets",
        429,
        ERROR % ("x", "rate_limit_exceeded"),
        {"retry-after": "7"},
        "rate_limited",
        "Try again in 7 seconds.",
    ),
    "draining": (
        "calls",
        503,
        ERROR % ("Off.", "draining"),
        {"retry-after-ms": "900"},
        "relay_busy",
        "again in 1 second.",
    ),
    "service": ("calls", 502, ERROR % ("It failed.", "service_failed"), {}, "request_refused", "It failed."),
    "proxy": ("calls", 502, "<html>Bad gateway</html>", {}, "answer_unexpected", "status 502"),
    "portal": ("client_secrets", 200, "<html>Sign in</html>", {}, "answer_unexpected", "sign-in page"),
    "answer": ("calls", 201, "v=0\r\nnot an answer\r\n", {}, "answer_unexpected", "status 201"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_refusals_in_clear_words(shared_page, shared_stage, case):
    door, status, body, headers, code, words = REFUSALS[case]
    await shared_page.locator("#key").fill(KEY)
    shared_stage.refuse(door, status, body, headers)
    await start(shared_page, "failed")
    await expect_failure(shared_page, code, words)
    await expect(shared_page.locator("#start")).to_be_enabled()


async def test_refused_key_takes_the_focus_and_the_next_start_works(page, stage):
    stage.refuse("client_secrets", 401, ERROR % ("x", "invalid_api_key"))
    await start(page, "failed")
    await expect(page.locator("#key")).to_be_focused()
    await expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
    await start(page)
    await expect(page.locator("#notice")).to_be_hidden()
    await expect(page.locator("body")).not_to_have_attribute("data-failure", re.compile(".*"))


@pytest.mark.parametrize(("key", "code"), [("  ", "key_missing"), ("clé", "key_refused")])
async def test_keys_that_cannot_be_sent(shared_page, shared_stage, key, code):
    minted = len(shared_stage.mints)
    await shared_page.locator("#key").fill(key)
    await start(shared_page, "failed")
    await expect_failure(shared_page, code, "key")
    assert len(shared_stage.mints) == minted


async def test_relay_unreachable(page, stage):
    await stage.stop_answering()
    await start(page, "failed")
    await expect_failure(page, "relay_unreachable", "does not answer")


async def test_blocked_network_names_the_port(page, stage):
    stage.dead_media = True
    await page.clock.install()
    await page.locator("#start").click()
    await expect(page.locator("#status")).to_have_text("Connecting…")
    await page.clock.run_for(21_000)
    await expect_failure(page, "network_blocked", "UDP to 127.0.0.1:9;")


async def test_cancel_while_the_relay_is_asked(page, stage):
    stage.simulator.fault(mint_delay_ms=60_000)
    await page.locator("#start").click()
    await expect(page.locator("#status")).to_have_text("Checking the key…")
    await expect(page.locator("#start")).to_have_text("Cancel")
    await start(page, "ended")
    await expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("NotAllowedError", "microphone_refused", "was not allowed"),
        ("NotFoundError", "microphone_missing", "No microphone was found"),
        ("NotReadableError", "microphone_busy", "Another program"),
    ],
)
async def test_no_microphone(shared_page, shared_stage, name, code, words):
    minted = len(shared_stage.mints)
    await shared_page.locator("#key").fill(KEY)
    await shared_page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }; }", name
    )
    try:
        await start(shared_page, "failed")
        await expect_failure(shared_page, code, words)
    finally:
        await shared_page.evaluate("delete navigator.mediaDevices.getUserMedia")
    assert len(shared_stage.mints) == minted  # no key is spent on a conversation that cannot be


async def test_insecure_origin_is_said_before_anything_is_tried(context: BrowserContext, stage):
    page = await context.new_page()
    await page.goto(stage.url.replace("127.0.0.1", "relay.example"))
    await expect_failure(page, "insecure_origin", "gives no microphone")
    await expect(page.locator("#notice")).to_contain_text("https://")
    await expect(page.locator("#start")).to_be_disabled()


async def test_announced_end_counts_down_then_the_reason_stands(page, stage):
    await start_and_be_greeted(page)
    notice = {"type": "relay.session.ending", "event_id": "event_1", "reason": "relay_draining", "seconds_left": 30}
    await stage.simulator.say(notice)
    await expect(page.locator("#notice-title")).to_have_text(re.compile("^This conversation ends in [23]. seconds$"))
    await expect(page.locator("#notice-title")).to_have_text(re.compile("^This conversation ends in 2. seconds$"))
    await expect(page.locator("#alarm")).to_contain_text("30 seconds")  # heard once, not every second

    error = {"type": "server_error", "code": "relay_draining", "message": "m", "param": None, "event_id": None}
    await stage.simulator.say({"type": "error", "event_id": "event_2", "error": error})
    await expect(page.locator("body")).to_have_attribute("data-state", "ended")
    await expect(page.locator("body")).to_have_attribute("data-reason", "relay_draining")
    await expect_failure(page, "session_ended", "about to restart")


async def test_an_ordinary_error_event_ends_nothing(page, stage):
    await start_and_be_greeted(page)
    error = {"type": "invalid_request_error", "code": "policy_violation", "message": "m", "param": None}
    await stage.simulator.say({"type": "error", "event_id": "event_1", "error": error})
    await expect(page.locator("#event-rows [data-type=error]")).to_have_count(1)
    await stage.simulator.say({"type": "marker", "event_id": "event_2"})
    await expect(page.locator("#event-rows [data-type=marker]")).to_have_count(1)
    await expect(page.locator("body")).to_have_attribute("data-state", "live")


async def test_a_close_without_a_reason_of_a_session_that_is_gone(page, stage):
    await start_and_be_greeted(page)
    stage.simulator.fault(channel_closes_after=0.01, live=True)
    await expect_failure(page, "session_over", "conversation is over")
    await expect(page.locator("body")).to_have_attribute("data-state", "ended")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_event_log_is_filtered_and_bounded(page, stage):
    await start_and_be_greeted(page)
    await page.locator("#tab-events").click()
    rows = page.locator("#event-rows li")
    await page.locator("#event-direction").select_option("sent")
    await expect(rows.locator("visible=true")).to_have_count(1)
    await page.locator("#event-direction").select_option("all")
    for number in range(520):
        await stage.simulator.say({"type": "flood", "event_id": f"event_{number}"})
    await page.locator("#event-filter").fill("EVENT_519")
    await expect(rows.locator("visible=true")).to_have_count(1)
    await expect(rows).to_have_count(500)
    await expect(page.locator("#event-count")).to_have_text("1 of 500 events")
    await page.locator("#event-clear").click()
    await page.locator("#event-filter").fill("")
    await expect(page.locator("#event-rows [data-type=flood]")).to_have_count(0)


async def test_keyboard_alone(page):
    await page.locator("#key").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=20_000)
    await page.locator("#microphone").focus()
    for target in ("#start", "#mute", "#transcript", "#tab-connection"):
        await page.keyboard.press("Tab")
        await expect(page.locator(target)).to_be_focused()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#tab-events")).to_be_focused()
    await expect(page.locator("#panel-events")).to_be_visible()
    await expect(page.locator("#panel-connection")).to_be_hidden()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#panel-check")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#panel-connection")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_narrow_screen_needs_no_sideways_scrolling(page, scheme):
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.emulate_media(color_scheme=scheme)
    await start_and_be_greeted(page)
    await page.locator("#tab-events").click()
    await page.locator("#event-rows [data-type='session.updated'] summary").click()
    assert await page.evaluate("document.scrollingElement.scrollWidth") == 360


async def test_every_end_reason_has_words(shared_page):
    reasons = await shared_page.evaluate("import('/texts.js').then(({ texts }) => Object.keys(texts.reasons))")
    assert set(reasons) == {reason.value for reason in EndReason}


async def test_every_control_has_a_name(shared_page):
    for role in ("textbox", "combobox", "button", "tab", "meter", "searchbox"):
        for control in await shared_page.get_by_role(role, include_hidden=True).all():
            name = await control.evaluate(
                "node => (node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? '') + node.textContent"
                " + (document.getElementById(node.getAttribute('aria-labelledby'))?.textContent ?? '')"
            )
            assert name.strip(), f"a {role} has no name"
