"""Sessions as they run: the list, one session, the overview, fed by the stream."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from support.fake_admin_data import leg, live_session

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]


async def test_the_list_follows_the_stream_and_keeps_the_focus(owner, admin):
    page = owner.page
    await owner.open("sessions")
    rows = page.locator("#sessions tbody tr")
    await expect(rows).to_have_count(5)
    first = admin.sessions[0]
    row = page.locator(f"tr[data-session={first['id']}]")
    await row.locator("button").focus()
    await row.evaluate("node => { node.marked = true; }")

    newcomer = live_session(77, "sales", "eve", 1)
    first["quality"] = {**first["quality"], "downstream": leg(0.09, 80, 500, 9)}
    first["tokens"] = 99_999
    admin.sessions = [newcomer, *admin.sessions]
    admin.tell()
    await expect(rows).to_have_count(6)
    await expect(row.locator("[data-column=downstream]")).to_contain_text("Poor9.0 % · 80 ms · 500 ms")
    await expect(row.locator("[data-column=tokens]")).to_contain_text("99,999")
    await expect(row.locator("button")).to_be_focused()
    assert await row.evaluate("node => node.marked")

    admin.sessions = [newcomer]
    admin.tell()
    await expect(rows).to_have_count(1)
    admin.sessions = []
    admin.tell()
    await expect(page.locator("#sessions .empty")).to_contain_text("No sessions are running")


async def test_the_list_is_filtered_and_sorted(owner):
    page = owner.page
    await owner.open("sessions")
    rows = page.locator("#sessions tbody tr")
    await page.locator("#session-filter").fill("SALES")
    await expect(rows).to_have_count(2)
    await expect(page.locator("#session-count")).to_have_text("2 of 5 sessions")
    await page.locator("#session-filter").fill("")
    await page.locator("#session-quality").select_option("poor")
    await expect(rows).to_have_count(1)
    await page.locator("#session-quality").select_option("")
    await page.locator("#session-filter").fill("nobody")
    await expect(page.locator("#sessions .empty")).to_contain_text("No session matches")
    await page.locator("#session-filter").fill("")
    await page.get_by_role("button", name="Tokens").click()
    await expect(page.locator("th[aria-sort=descending]")).to_contain_text("Tokens")
    tokens = await rows.locator("[data-column=tokens] span span:first-child").all_inner_texts()
    figures = [int(text.replace(",", "")) for text in tokens]
    assert figures == sorted(figures, reverse=True)


async def test_a_session_is_ended_with_a_note(owner, admin):
    page = owner.page
    await owner.open("sessions")
    victim = admin.sessions[1]
    row = page.locator(f"tr[data-session={victim['id']}]")
    await row.locator("button").click()
    await expect(page.locator("dialog")).to_contain_text(victim["id"])
    await page.keyboard.press("Escape")
    assert ("POST", f"/sessions/{victim['id']}/end") not in admin.requests
    await row.locator("button").click()
    await owner.confirm(note="Caller asked for it")
    await expect(row).to_have_count(0)
    assert admin.audit[-1]["body"] == {"note": "Caller asked for it"}
    await expect(page.locator("#toasts")).to_contain_text(victim["id"])


async def test_a_refused_end_says_why_and_can_be_tried_again(owner, admin):
    await owner.open("sessions")
    victim = admin.sessions[0]["id"]
    admin.refuse(f"/sessions/{victim}/end", 503, "store_unavailable", "The store does not answer.")
    await owner.page.locator(f"tr[data-session={victim}] button").click()
    await owner.page.locator("dialog button[type=submit]").click()
    await expect(owner.page.locator("dialog [role=alert]")).to_contain_text("The store does not answer.")
    await owner.confirm()
    await expect(owner.page.locator(f"tr[data-session={victim}]")).to_have_count(0)


async def test_one_session_from_set_up_to_its_end(owner, admin):
    page = owner.page
    session = admin.sessions[0]
    await owner.open(f"session/{session['id']}")
    await expect(page.locator(".waterfall li")).to_have_count(10)
    await expect(page.locator(".waterfall [data-leg=upstream][data-stage=call] .figures")).to_have_text("241 ms")
    await expect(page.locator("#timeline li")).to_have_count(20)
    await page.get_by_label("Set-up", exact=True).uncheck()
    await expect(page.locator("#timeline li")).to_have_count(10)
    await expect(page.locator("#timeline [data-kind=decision]")).to_contain_text("session.instructions")
    session["quality"]["upstream"] = leg(0.5, 1, 1, 5)
    admin.tell()
    await expect(page.locator("section[data-leg=upstream]")).to_contain_text("50.0 %")
    await page.locator("#end").click()
    await owner.confirm()
    await expect(page.locator("#session-state")).to_contain_text("over")
    await expect(page.locator("#end")).to_have_count(0)


async def test_an_unknown_session_is_said_to_be_gone(owner):
    shown = await owner.open("session/rs_nothing")
    await expect(shown.locator(".notice")).to_contain_text("does not exist")


async def test_ended_sessions_are_searched_page_by_page(owner):
    page = owner.page
    shown = await owner.open("ended")
    await expect(shown.locator("tbody tr")).to_have_count(50)
    await shown.get_by_role("button", name="Load more").click()
    await expect(shown.locator("tbody tr")).to_have_count(100)
    await shown.get_by_label("Tenant").fill("sales")
    await shown.get_by_label("End reason").select_option("client_left")
    await shown.get_by_role("button", name="Search").click()
    await expect(page).to_have_url(f"{owner.served.url}/console/#/ended?tenant=sales&reason=client_left")
    await expect(shown.locator("tbody tr")).to_have_count(30)
    await shown.get_by_label("Tenant").fill("nobody")
    await page.keyboard.press("Enter")
    await expect(shown.locator(".empty")).to_contain_text("No ended session matches")
    await page.go_back()
    await expect(shown.locator("tbody tr")).to_have_count(30)
    await shown.locator("tbody a").first.click()
    await expect(page.locator("#session-state")).to_contain_text("client_left")


async def test_the_overview_tells_state_and_counts(owner, admin):
    page = owner.page
    shown = await owner.open("overview")
    await expect(shown.locator("[data-tile=sessions] .tile-value")).to_have_text("5")
    await expect(shown.locator("[data-resource=cpu]")).to_contain_text("38 %")
    await expect(shown.locator("tbody tr")).to_have_count(1)
    await expect(shown.locator("[data-tile=sessions] polyline")).to_have_count(1)
    await expect(shown.locator(".facts [data-tone=warn]")).to_have_text("1 of 3 ready")
    admin.kill_switch = {"everybody": True, "tenants": [], "policies": []}
    admin.draining = True
    admin.tell()
    await expect(page.locator("#banners")).to_contain_text("kill switch is on for everybody")
    await expect(page.locator("#banners")).to_contain_text("draining")
    await expect(shown.locator(".facts")).to_contain_text("Not ready")


async def test_upstreams_usage_and_decisions(owner, admin):
    shown = await owner.open("upstreams")
    await expect(shown.locator("[data-member=france]")).to_contain_text("Cooling down")
    await expect(shown.locator("[data-member=east-us]")).to_contain_text("the connection was refused")
    shown = await owner.open("usage")
    await expect(shown.locator("[data-scope=tenant][data-name=sales]")).to_contain_text("of 600.0")
    await expect(shown.locator(".column")).to_have_count(30)
    await shown.get_by_label("By", exact=True).select_option("tenant")
    await shown.get_by_role("button", name="Search").click()
    await expect(shown.locator("tbody tr")).to_have_count(3)
    shown = await owner.open(f"decisions?session={admin.sessions[1]['id']}&verdict=refuse")
    await expect(shown.locator("tbody tr")).to_have_count(35)
    await expect(shown.locator("tbody tr").first).to_contain_text("items.role")
