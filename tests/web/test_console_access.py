"""For everybody: by keyboard alone, on narrow screens, light and dark, and by the rules of axe-core."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest
from playwright.async_api import Page, expect
from support.console import console

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]

PLACES = (
    "overview", "sessions", "session/{session}", "ended?reason=policy_idle", "upstreams", "policies",
    "policies/contact-centre.yaml", "revisions?from=1&to=2", "revisions/2", "controls", "usage", "usage?by=tenant",
    "decisions?verdict=strip", "audit", "keys", "nothing",
)  # fmt: skip
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
# In the dark the same elements have other colours, and nothing else is another.
RULES_OF_COLOUR = ("color-contrast", "link-in-text-block")
RUN = "async (rules) => (await axe.run(document, { runOnly: rules, resultTypes: ['violations'] })).violations"


async def breaches(page: Page, rules: tuple[str, ...] = RULES) -> list[str]:
    """What axe-core finds: the rule and the elements."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE)
    found = await page.evaluate(RUN, list(rules))
    return [f"{each['id']}: {json.dumps([node['html'][:160] for node in each['nodes'][:3]])}" for each in found]


@pytest.mark.parametrize(("scheme", "rules"), [("light", RULES), ("dark", RULES_OF_COLOUR)], ids=["light", "dark"])
async def test_every_page_keeps_the_rules_and_misses_no_text(browser, admin, served, scheme, rules):
    async with console(browser, served, color_scheme=scheme, viewport={"width": 1280, "height": 900}) as opened:
        await opened.picture(f"sign-in-{scheme}")
        assert await breaches(opened.page, rules) == []
        await opened.sign_in("owner")
        for place in PLACES:
            name = place.format(session=admin.sessions[0]["id"])
            await opened.page.evaluate("place => { location.hash = `#/${place}`; }", name)
            await expect(opened.page.locator(".page h1")).to_be_visible()
            await expect(opened.page.locator(".page .loading")).to_have_count(0)
            words = await opened.page.locator("body").inner_text()
            assert not [bad for bad in ("undefined", "[object", "NaN", "null") if bad in words], name
            assert await breaches(opened.page, rules) == [], name
            assert await opened.page.evaluate("document.scrollingElement.scrollWidth") <= 1280, name
            await opened.picture(f"{place.split('?')[0].replace('/', '-').format(session='one')}-{scheme}")


async def test_dialogs_and_checks_keep_the_rules(owner):
    page = owner.page
    await owner.open("policies/contact-centre.yaml")
    await page.locator("#policy-text").press("Control+End")
    await page.keyboard.type("nonsense: 1")
    await expect(page.locator("#problems [data-severity=error]").first).to_be_visible()
    assert await breaches(page) == []
    await owner.picture("problems")
    await owner.open("controls")
    await page.locator("#kill-everybody button").click()
    assert await breaches(page) == []
    await owner.picture("question")


async def test_no_page_scrolls_sideways_on_a_narrow_screen(browser, admin, served):
    async with console(browser, served, viewport={"width": 320, "height": 800}) as opened:
        await opened.sign_in("owner")
        for place in PLACES:
            await opened.page.evaluate(
                "place => { location.hash = `#/${place}`; }", place.format(session=admin.sessions[0]["id"])
            )
            await expect(opened.page.locator(".page .loading")).to_have_count(0)
            assert await opened.page.evaluate("document.scrollingElement.scrollWidth") <= 320, place
            await opened.picture(f"narrow-{place.split('?')[0].replace('/', '-').format(session='one')}")


async def test_narrow_screens_have_a_menu(browser, served):
    async with console(browser, served, viewport={"width": 320, "height": 700}) as opened:
        await opened.sign_in("owner")
        page = opened.page
        await expect(page.locator("#nav")).to_be_hidden()
        await page.locator("#menu").click()
        await page.locator("#nav a[data-page=sessions]").click()
        await expect(page.locator(".page[data-page=sessions]")).to_be_visible()
        await expect(page.locator("#nav")).to_be_hidden()


async def test_the_main_tasks_by_keyboard_alone(visitor, admin, served):
    page, keys = visitor.page, visitor.page.keyboard
    await expect(page.locator("#key")).to_be_focused()
    await keys.type(served.keys["owner"])
    await keys.press("Enter")
    await expect(page.locator("#feed")).to_have_attribute("data-feed", "live")

    await visitor.tab_to(page.locator("#nav a[data-page=sessions]"))
    await keys.press("Enter")
    await expect(page.locator("#page")).to_be_focused()
    victim = admin.sessions[0]["id"]
    await visitor.tab_to(page.locator(f"tr[data-session={victim}] button"))
    await keys.press("Enter")
    await expect(page.locator("dialog .note-field")).to_be_focused()
    await keys.type("By keyboard")
    await keys.press("Enter")
    await expect(page.locator(f"tr[data-session={victim}]")).to_have_count(0)

    await visitor.tab_to(page.locator("#nav a[data-page=policies]"), "Shift+Tab")
    await keys.press("Enter")
    await expect(page.locator(".page[data-page=policies]")).to_be_visible()
    await visitor.tab_to(page.locator("a[data-file='contact-centre.yaml']"))
    await keys.press("Enter")
    await visitor.tab_to(page.locator("#policy-text"))
    await keys.press("Control+End")
    await keys.type("x: 1")
    await expect(page.locator("#check-state")).to_contain_text("error")
    for _ in range(4):
        await keys.press("Backspace")
    await keys.press("Tab")
    await expect(page.locator("#policy-text")).to_be_focused()
    await expect(page.locator("#policy-text")).to_have_value(f"{admin.files['contact-centre.yaml']}  ")
    await keys.press("Escape")
    await keys.press("Tab")
    await expect(page.locator("#tab-problems")).to_be_focused()
    await keys.press("ArrowRight")
    await expect(page.locator("#panel-changes")).to_contain_text("mean the same")
    await visitor.tab_to(page.locator("#publish"), "Shift+Tab")
    await keys.press("Enter")
    await expect(page.locator("dialog .note-field")).to_be_focused()
    await keys.press("Enter")
    await expect(page.locator("#revision")).to_have_text("Revision 3")


async def test_moving_on_is_heard(owner):
    await owner.page.locator("#nav a[data-page=audit]").click()
    await expect(owner.page.locator("#announcer")).to_have_text("Audit log")
    await expect(owner.page).to_have_title(re.compile("^Audit log . Relay console$"))
    await expect(owner.page.locator("#nav a[aria-current=page]")).to_have_text("Audit log")
    await owner.page.locator("#skip").focus()
    await owner.page.keyboard.press("Enter")
    await expect(owner.page.locator("#page")).to_be_focused()
