"""Policies in the console: checked while written, compared, published, overtaken by somebody else, taken back.

These ask nothing of the server but the admin API with the two documents of the stand-in.
"""

from __future__ import annotations

import re

import pytest
from aiohttp import ClientSession
from playwright.async_api import expect
from support.fake_admin_data import COMPANY, CONTACT_CENTRE

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]

FILE = "contact-centre.yaml"
LOOSER = CONTACT_CENTRE.replace("900", "1200")


async def write(console, text, file=FILE):
    await console.open(f"policies/{file}")
    await console.page.locator("#policy-text").fill(text)


async def text_in_force(served, file=FILE):
    headers = {"authorization": f"Bearer {served.keys['owner']}"}
    address = f"{served.url}/admin/v1/policies/files/{file}"
    async with ClientSession(headers=headers) as http, http.get(address) as answer:
        return await answer.text(), answer.headers["etag"]


async def publish_elsewhere(served, text, file=FILE):
    """What somebody else does meanwhile, over the API."""
    _, etag = await text_in_force(served, file)
    headers = {"authorization": f"Bearer {served.keys['governor']}", "if-match": etag, "content-type": "text/plain"}
    async with (
        ClientSession(headers=headers) as http,
        http.put(f"{served.url}/admin/v1/policies/files/{file}?note=Meanwhile", data=text) as answer,
    ):
        assert answer.status == 200


async def test_broken_text_shows_field_and_line_and_is_not_published(owner, served):
    page = owner.page
    await write(owner, CONTACT_CENTRE.replace("sessionSeconds: 900", "sessionSeconds: many"))
    await expect(page.locator("#check-state")).to_have_text(re.compile("^1 error"))
    problem = page.locator("#problems [data-severity=error]")
    await expect(problem).to_contain_text("limits.sessionSeconds")
    line = int(await problem.get_attribute("data-line"))
    assert CONTACT_CENTRE.splitlines()[line - 1].strip().startswith("limits")
    await expect(page.locator(f".code-gutter span:nth-child({line})")).to_have_attribute("data-severity", "error")
    await expect(page.locator("#policy-text")).to_have_attribute("aria-invalid", "true")
    await problem.locator("button").click()
    await expect(page.locator("#policy-text")).to_be_focused()
    assert "sessionSeconds: many" in await page.evaluate("getSelection().toString()")

    await page.locator("#tab-changes").click()
    await expect(page.locator("#panel-changes")).to_contain_text("Mend the errors first")
    await page.locator("#publish").click()
    await page.locator("dialog button[type=submit]").click()
    await expect(page.locator("dialog [role=alert]").last).to_contain_text("have problems")
    assert (await text_in_force(served))[0] == CONTACT_CENTRE


async def test_a_change_is_compared_tried_and_published(owner, served):
    page = owner.page
    await write(owner, LOOSER)
    await expect(page.locator("#check-state")).not_to_have_attribute("data-outcome", "broken")
    await expect(page.locator(f"[data-file='{FILE}']")).to_contain_text("changed")
    await page.locator("#tab-changes").click()
    row = page.locator("#panel-changes tbody tr")
    await expect(row).to_have_attribute("data-direction", "looser")
    await expect(row).to_contain_text("limits.sessionSeconds")
    await page.locator("#tab-text").click()
    await expect(page.locator("#panel-text [data-kind=added]")).to_contain_text("1200")
    await page.locator("#tab-dry-run").click()
    await expect(page.locator("#panel-dry-run h3").first).to_be_visible()

    await page.locator("#publish").click()
    await expect(page.locator("dialog")).to_contain_text("allows something that was not allowed before")
    await owner.confirm(note="Longer calls")
    await expect(page.locator("#toasts")).to_contain_text("Published as revision 3")
    await expect(page.locator("#revision")).to_have_text("Revision 3")
    await expect(page.locator("#publish")).to_be_disabled()
    assert (await text_in_force(served))[0] == LOOSER


async def test_changes_outlive_a_reload_and_a_renewed_sign_in_and_go_when_discarded(owner):
    page = owner.page
    await write(owner, LOOSER)
    await page.reload()
    await expect(page.locator("#policy-text")).to_have_value(LOOSER)
    await page.evaluate("sessionStorage.removeItem('relay.console.credential')")
    await page.reload()
    await owner.sign_in("owner")
    await expect(page.locator("#policy-text")).to_have_value(LOOSER)
    await page.locator("#discard").click()
    await owner.confirm()
    await expect(page.locator("#policy-text")).to_have_value(CONTACT_CENTRE)
    await expect(page.locator("#publish")).to_be_disabled()


async def test_signing_out_asks_before_changes_are_lost(owner):
    page = owner.page
    await write(owner, LOOSER)
    await page.locator("#sign-out").click()
    await owner.confirm()
    await expect(page.locator("#key")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_somebody_published_meanwhile(owner, served):
    page = owner.page
    await write(owner, LOOSER)
    await expect(page.locator("#publish")).to_be_enabled()
    theirs = CONTACT_CENTRE.replace("900", "600")
    await publish_elsewhere(served, theirs)
    await page.locator("#publish").click()
    await page.locator("dialog button[type=submit]").click()
    stale = page.locator("#stale")
    await expect(stale).to_contain_text("gwen@contoso.example")
    await expect(stale).to_contain_text("Meanwhile")
    await expect(stale.locator("[data-kind=removed]")).to_contain_text("600")
    await expect(stale.locator("[data-kind=added]")).to_contain_text("1200")
    assert (await text_in_force(served))[0] == theirs

    await page.locator("#stale-keep").click()
    await expect(page.locator("#policy-text")).to_have_value(LOOSER)
    await expect(page.locator("#publish")).to_be_enabled()
    await page.locator("#publish").click()
    await owner.confirm()
    await expect(page.locator("#revision")).to_have_text("Revision 4")
    assert (await text_in_force(served))[0] == LOOSER


async def test_their_text_is_taken_instead(owner, served):
    page = owner.page
    await write(owner, LOOSER)
    theirs = CONTACT_CENTRE.replace("900", "600")
    await publish_elsewhere(served, theirs)
    await page.locator("#publish").click()
    await page.locator("dialog button[type=submit]").click()
    await page.locator("#stale-take").click()
    await expect(page.locator("#policy-text")).to_have_value(theirs)
    await expect(page.locator("#publish")).to_be_disabled()


async def test_two_files_and_a_new_one_are_one_revision(owner, served):
    page = owner.page
    await write(owner, LOOSER)
    await write(owner, COMPANY.replace("2048", "1536"), "company-base.yaml")
    await page.locator("#new-file").click()
    await page.locator(".path-field").fill("../kiosk.yaml")
    await page.locator("dialog button[type=submit]").click()
    await expect(page.locator("dialog [role=alert]")).to_contain_text("cannot be used")
    await page.locator(".path-field").fill("kiosk.yaml")
    await owner.confirm()
    await expect(page.locator("#editor")).to_contain_text("kiosk.yaml")
    kiosk = CONTACT_CENTRE.replace("name: contact-centre", "name: kiosk").replace(
        "tenants: [contact-centre]", "tenants: [kiosk]"
    )
    await page.locator("#policy-text").fill(kiosk)
    await expect(page.locator("#check-state")).not_to_have_attribute("data-outcome", "broken")
    await page.locator("#publish").click()
    await owner.confirm()
    await expect(page.locator("#revision")).to_have_text("Revision 3")
    assert (await text_in_force(served, "kiosk.yaml"))[0] == kiosk
    assert (await text_in_force(served))[0] == LOOSER

    await page.locator("#delete-file").click()
    await expect(page.locator("[data-file='kiosk.yaml']")).to_contain_text("to be deleted")
    await page.locator("#publish").click()
    await owner.confirm()
    await expect(page.locator("#revision")).to_have_text("Revision 4")
    await expect(page.locator("[data-file='kiosk.yaml']")).to_have_count(0)


async def test_revisions_are_compared_and_rolled_back_to(owner, served):
    page = owner.page
    await publish_elsewhere(served, LOOSER)
    shown = await owner.open("revisions?from=2&to=3")
    await expect(page.locator("#comparison tbody tr")).to_contain_text("limits.sessionSeconds")
    await expect(shown.locator("[data-revision='3']")).to_contain_text("current")
    await shown.locator("[data-revision='2'] button").click()
    await owner.confirm(note="Back")
    await expect(shown.locator("[data-revision='4']")).to_contain_text("current")
    assert (await text_in_force(served))[0] == CONTACT_CENTRE
    await shown.locator("[data-revision='3'] a").click()
    await page.get_by_label("Files").select_option(FILE)
    await expect(page.locator("pre.source")).to_have_text(LOOSER)


async def test_policies_in_files_are_read_only(browser, visitor, admin):
    admin.managed = False
    await visitor.sign_in("owner")
    shown = await visitor.open(f"policies/{FILE}")
    await expect(shown).to_contain_text("reads its policies from files")
    await expect(shown.locator("#policy-text")).to_have_attribute("readonly", "")
    await expect(shown.locator("#publish, #delete-file, #new-file")).to_have_count(0)


async def test_what_documents_say_is_shown_as_text(owner):
    text = COMPANY + "# <img src=x onerror=alert(1)> {{claim.name}} \"quoted\" 'single' 12 true\n"
    await write(owner, text, "company-base.yaml")
    await expect(owner.page.locator(".code-colours")).to_contain_text("<img src=x onerror=alert(1)>")
    drawn = await owner.page.locator(".code-line").evaluate_all(
        "lines => lines.map((line) => line.textContent).join('\\n')"
    )
    assert drawn == text
    assert await owner.page.locator("main img").count() == 0
