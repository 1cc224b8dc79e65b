"""Coming in, staying in and going out; and what each role sees of the console."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from support.console import console
from support.fake_admin import KEYS
from support.fake_provider import FakeProvider

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]


async def nav_of(page: Page) -> list[str]:
    return await page.locator("#nav a").evaluate_all("links => links.map(({ dataset }) => dataset.page)")


@pytest.mark.parametrize("key", ["", "not-a-key", "clé"])
async def test_a_wrong_key_is_refused_in_words_and_kept_nowhere(visitor, key):
    page = visitor.page
    await page.locator("#key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in-failure")).to_contain_text("key")
    await expect(page.locator("#key")).to_be_focused()
    await expect(page.locator("body")).to_have_attribute("data-state", "out")
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_the_key_lives_in_this_tab_until_signing_out(owner, served):
    page = owner.page
    await page.reload()
    await expect(page.locator("body")).to_have_attribute("data-state", "in")
    assert served.keys["owner"] not in await page.content()
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    await page.locator("#sign-out").click()
    await expect(page.locator("#key")).to_be_focused()
    assert await page.evaluate("sessionStorage.length") == 0
    await page.reload()
    await expect(page.locator("#key")).to_be_visible()


async def test_a_revoked_key_leads_back_to_where_one_was(owner, admin, served):
    page = owner.page
    await owner.open("audit")
    admin.administrators.pop(served.keys["owner"])
    await page.evaluate("location.hash = '#/decisions'")
    await expect(page.locator("#sign-in-failure")).to_contain_text("has ended")
    admin.administrators[served.keys["owner"]] = KEYS[served.keys["owner"]]
    await owner.sign_in("owner")
    await expect(page.locator(".page[data-page=decisions]")).to_be_visible()


async def test_the_relay_being_away_is_said_and_tried_again(owner, admin):
    port = int(admin.url.rsplit(":", 1)[1])
    await admin.close()
    await owner.page.evaluate("location.hash = '#/decisions'")
    await expect(owner.page.locator(".page .notice")).to_contain_text("does not answer")
    await expect(owner.page.locator("#feed")).to_have_attribute("data-feed", "lost")
    await admin.start(port)
    await owner.page.locator(".page .notice button").click()
    await expect(owner.page.locator(".page tbody tr").first).to_be_visible()
    await expect(owner.page.locator("#feed")).to_have_attribute("data-feed", "live", timeout=15_000)


async def test_a_viewer_looks_and_changes_nothing(visitor, admin):
    page = visitor.page
    await visitor.sign_in("viewer")
    assert "keys" not in await nav_of(page)
    await visitor.open("sessions")
    await expect(page.locator("#sessions tbody tr")).to_have_count(5)
    for place in ("sessions", f"session/{admin.sessions[0]['id']}", "controls", "revisions"):
        shown = await visitor.open(place)
        await expect(shown.locator("button:is(.danger, .danger-quiet, .primary)")).to_have_count(0)
    shown = await visitor.open("policies")
    await expect(shown).to_contain_text("does not read policy documents")
    await visitor.open("keys")
    await expect(page.locator(".page")).to_contain_text("does not allow")
    assert ("GET", "/keys") not in admin.requests


async def test_an_administrator_of_one_tenant_sees_that_tenant_only(visitor, admin):
    await visitor.sign_in("tenant")
    assert await nav_of(visitor.page) == ["overview", "sessions", "ended", "usage", "decisions", "audit"]
    shown = await visitor.open("sessions")
    await expect(shown.locator("tbody tr")).to_have_count(2)
    for place in ("overview", "ended", "usage", "decisions", "audit"):
        await visitor.open(place)
    assert not {"/audit/verify", "/policies", "/kill-switch", "/upstreams"} & {path for _, path in admin.requests}


@pytest_asyncio.fixture(loop_scope="session")
async def provider(admin):
    provider = FakeProvider()
    await provider.start()
    admin.oidc = provider.sign_in
    yield provider
    await provider.close()


class Tokens(dict):
    """Administrators by key or by any token that the provider gave."""

    def __init__(self, provider: FakeProvider) -> None:
        super().__init__(KEYS)
        self.provider = provider

    def get(self, key: str, default: object = None) -> object:
        return KEYS["governor-key-1"] if key in self.provider.tokens else super().get(key, default)


async def test_sign_in_with_a_provider_comes_back_to_the_page(browser, admin, provider):
    admin.administrators = Tokens(provider)
    async with console(browser, admin.served) as opened:
        page = opened.page
        await page.evaluate("location.hash = '#/audit'")
        await page.locator("#provider").click()
        await expect(page.locator("body")).to_have_attribute("data-state", "in")
        await expect(page.locator(".page[data-page=audit]")).to_be_visible()
        assert page.url == f"{admin.url}/console/#/audit"
        await expect(page.locator("#who-name")).to_have_text("gwen@contoso.example")
        assert await page.evaluate("Object.keys(sessionStorage)") == ["relay.console.credential"]


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ({"state": "another"}, "does not belong"),
        ({"nonce": "another"}, "does not belong"),
        ({"error": "access_denied"}, "access_denied"),
    ],
)
async def test_a_spoiled_return_from_the_provider_signs_nobody_in(browser, admin, provider, spoiled, words):
    for name, value in spoiled.items():
        setattr(provider, name, value)
    async with console(browser, admin.served) as opened:
        await opened.page.locator("#provider").click()
        await expect(opened.page.locator("#sign-in-failure")).to_contain_text(words)
        await expect(opened.page.locator("body")).to_have_attribute("data-state", "out")
        assert await opened.page.evaluate("sessionStorage.length") == 0
