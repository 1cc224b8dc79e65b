"""The kill switch, draining, keys and the audit log. These ask nothing of the server but the admin API."""

from __future__ import annotations

import re

import pytest
from aiohttp import ClientSession
from playwright.async_api import expect

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]


async def kill_switch(served):
    headers = {"authorization": f"Bearer {served.keys['owner']}"}
    async with ClientSession(headers=headers) as http, http.get(f"{served.url}/admin/v1/kill-switch") as answer:
        return await answer.json()


async def test_everybody_is_stopped_by_the_word_alone_and_let_in_again(owner, served):
    page = owner.page
    await owner.open("controls")
    card = page.locator("#kill-everybody")
    await card.locator("button").click()
    confirm = page.locator("dialog button[type=submit]")
    await expect(confirm).to_be_disabled()
    await page.locator("dialog .word-field").fill("stop")
    await expect(confirm).to_be_disabled()
    await owner.confirm(note="Incident 7", word="STOP")
    await expect(card).to_have_attribute("data-on", "true")
    await expect(page.locator("#banners")).to_contain_text("for everybody")
    assert (await kill_switch(served))["everybody"] is True
    await card.locator("button").click()
    await owner.confirm()
    await expect(card).to_have_attribute("data-on", "false")
    await expect(page.locator("#banners p")).to_have_count(0)


async def test_a_name_is_stopped_beside_what_others_stopped_meanwhile(owner, served):
    page = owner.page
    await owner.open("controls")
    headers = {"authorization": f"Bearer {served.keys['operator']}"}
    other = {"everybody": False, "tenants": ["kiosk"], "policies": []}
    async with (
        ClientSession(headers=headers) as http,
        http.put(f"{served.url}/admin/v1/kill-switch", json=other) as answer,
    ):
        assert answer.status == 200
    card = page.locator("#kill-names")
    await card.get_by_label("Kind").select_option("policy")
    await card.get_by_label("Name").fill("company-base")
    await card.get_by_role("button", name="Stop…").click()
    await owner.confirm(note="Bad prompt")
    await expect(card.locator("li")).to_have_count(2)
    assert await kill_switch(served) == {"everybody": False, "tenants": ["kiosk"], "policies": ["company-base"]}
    await card.get_by_role("button", name="Lift for tenant kiosk").click()
    await owner.confirm()
    await expect(card.locator("li")).to_have_count(1)
    assert await kill_switch(served) == {"everybody": False, "tenants": [], "policies": ["company-base"]}


async def test_a_tenant_is_ended_and_the_relay_drained(owner):
    page = owner.page
    await owner.open("controls")
    await page.locator("#end-tenant").get_by_label("Tenant").fill("sales")
    await page.locator("#end-tenant button").click()
    await owner.confirm()
    await expect(page.locator("#toasts")).to_contain_text("ended")
    await page.locator("#drain button").click()
    await owner.confirm(word="DRAIN")
    await expect(page.locator("#drain")).to_contain_text("Draining")
    await expect(page.locator("#drain button")).to_be_disabled()


async def test_a_key_is_shown_once_rotated_and_revoked(owner):
    page = owner.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown = await owner.open("keys?kind=admin")
    await expect(shown.locator(".empty")).to_be_visible()
    await page.locator("#new-key").click()
    await page.locator("dialog button[type=submit]").click()
    await expect(page.locator("dialog [role=alert]")).to_contain_text("name")
    await page.locator("dialog").get_by_label("Name").fill("night watch")
    await page.locator("dialog").get_by_label("Role").select_option("operator")
    await page.locator("dialog button[type=submit]").click()
    made = page.locator("#made-key")
    key = await made.input_value()
    assert key.startswith("rk_")
    await page.locator("#copy-key").click()
    await expect(page.locator("dialog")).to_contain_text("Copied.")
    assert await page.evaluate("navigator.clipboard.readText()") == key
    await page.get_by_role("button", name="Done").click()
    await expect(page.locator("dialog")).to_have_count(0)
    assert key not in await page.content()
    assert key not in await page.evaluate("JSON.stringify(sessionStorage)")
    row = shown.locator("tbody tr")
    await expect(row).to_contain_text("Operator")

    await row.get_by_role("button", name="Rotate key night watch").click()
    await page.locator("dialog button[type=submit]").click()
    assert await made.input_value() != key
    await page.get_by_role("button", name="Done").click()
    await expect(row).to_have_count(2)
    await expect(row.last).to_contain_text("Until")
    await row.last.get_by_role("button", name="Revoke").click()
    await owner.confirm(word="REVOKE")
    await expect(row.last).to_contain_text("Revoked")
    await expect(row.last.locator("button")).to_have_count(0)


async def test_what_was_done_stands_in_the_audit_log(owner):
    page = owner.page
    await owner.open("controls")
    await page.locator("#kill-everybody button").click()
    await owner.confirm(note="A drill", word="STOP")
    shown = await owner.open("audit")
    row = shown.locator("tbody tr").first
    await expect(row).to_have_attribute("data-action", "kill_switch")
    await row.locator("summary").click()
    await expect(row.locator("pre")).to_contain_text('"everybody": true')
    await page.locator("#verify").click()
    await expect(page.locator("#chain")).to_have_text(re.compile(r"whole: \d+ rows? checked"))


async def test_a_broken_chain_names_the_row(owner, admin):
    await owner.open("audit")
    admin.first_bad = 7
    await owner.page.locator("#verify").click()
    await expect(owner.page.locator("#chain")).to_contain_text("broken at row 7")
