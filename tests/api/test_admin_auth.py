"""Who is let in at the admin API: keys, tokens with roles, browsers of other origins, guessers."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from support.idp import AUDIENCE, IdentityProvider, rsa_key
from support.stored_keys import KeysInMemory

from relay.api import Listener
from relay.api.admin_auth import ADMINISTRATOR, AdminGate, known_hosts
from relay.api.middleware import common_headers, errors
from relay.config import Secret
from relay.core.access import Permission, Role
from relay.core.claims import AdminRules, TokenRules
from relay.core.stored import KeyKind
from relay.identity.admins import Admins, AdminTokens
from relay.identity.fetch import IssuerHttp
from relay.identity.jwks import KeySet
from relay.identity.keys import ConfiguredKeys, KeyRing, digest_of, new_key
from relay.identity.oidc import TokenVerifier

KEY = "owners-key-0000-0001"
ROLES = {"Relay.Owner": Role.OWNER, "Relay.Operator": Role.OPERATOR, "Relay.Viewer": Role.VIEWER}


class Admin:
    """An operations listener with one route, and what it was told."""

    def __init__(self) -> None:
        self.now = time.time()
        self.stored = KeysInMemory()
        self.failed = []
        self.base = ""
        self.http: aiohttp.ClientSession

    async def get(self, key=None, path="/read", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with self.http.get(self.base + path, headers=headers) as answer:
            body = await answer.json()
            return answer.status, body if answer.status == 200 else body["error"]["code"]


@pytest.fixture
async def idp():
    async with IdentityProvider() as provider:
        yield provider


@pytest.fixture
def configured():
    return [Secret(KEY)]


@pytest.fixture
async def tokens(idp):
    keys = KeySet(idp.issuer, IssuerHttp(), 3600)
    rules = TokenRules(idp.issuer, frozenset({AUDIENCE}), frozenset({"RS256"}))
    yield AdminTokens(TokenVerifier(rules, keys), AdminRules("roles", "name", ROLES, "tenant"))
    await keys.close()


@pytest.fixture
async def admin(facts, configured, tokens):
    found = Admin()
    admins = Admins(ConfiguredKeys(configured), KeyRing(found.stored), tokens)
    await admins.ring.refresh()
    proxies = (ipaddress.ip_network("127.0.0.0/8"),)
    gate = AdminGate(admins, facts, lambda: found.now, trusted_proxies=proxies, on_failed=found.failed.append)

    async def show(request: web.Request) -> web.Response:
        who = await gate.require(request, Permission(request.match_info["permission"]))
        assert request[ADMINISTRATOR] is who
        return web.json_response({"name": who.name, "role": who.role, "tenant": who.tenant})

    app = web.Application(middlewares=[common_headers(), errors(facts)])
    app.router.add_get("/{permission}", show)
    listener = Listener(app, host="127.0.0.1", port=0, telemetry=facts, grace_seconds=0.1)
    await listener.start()
    found.base = f"http://127.0.0.1:{listener.port}"
    async with aiohttp.ClientSession() as found.http:
        yield found
    await listener.stop()


async def test_the_key_of_the_settings_is_an_owner(admin):
    assert await admin.get(KEY, "/own") == (200, {"name": "admin.key", "role": "owner", "tenant": None})


async def test_a_key_of_the_store_has_its_role_and_its_tenant(admin):
    key = admin.stored.add("night shift", "sales", kind=KeyKind.ADMIN, role="operator")
    assert await admin.get(key, "/operate") == (
        200, {"name": "key night shift of sales", "role": "operator", "tenant": "sales"})  # fmt: skip
    assert await admin.get(key, "/govern") == (403, "forbidden")


async def test_who_is_confined_makes_no_key_that_is_called_like_another(admin):
    names = set()
    for tenant in (None, "sales", "support"):
        key = admin.stored.add("boss", tenant, kind=KeyKind.ADMIN, role="owner")
        names.add((await admin.get(key))[1]["name"])
    assert names == {"key boss", "key boss of sales", "key boss of support"}


async def test_a_tenants_key_is_nobody_here(admin):
    assert await admin.get(admin.stored.add("backend", "sales")) == (401, "invalid_api_key")


async def test_the_highest_role_of_a_token_counts(admin, idp):
    status, body = await admin.get(idp.token(roles=["Relay.Viewer", "Relay.Operator", "x"], name="Ann", tenant="*"))
    assert (status, body["role"], body["tenant"]) == (200, "operator", None)
    assert body["name"].startswith("Ann (oidc ")


@pytest.mark.parametrize("name", [None, "", "admin.key", 7, "a\nb", "n" * 5000])
async def test_nobody_takes_anothers_name_in_the_audit_log(admin, idp, name):
    _, body = await admin.get(idp.token(roles="Relay.Viewer", tenant="*", name=name))
    assert body["name"] != "admin.key"
    assert body["name"].isprintable()
    assert len(body["name"]) < 130


@pytest.mark.parametrize("roles", [None, [], "", ["relay.owner"], "Relay.Owner Relay.Viewer", [["Relay.Owner"]], 7])
async def test_a_token_without_a_role_is_forbidden_and_not_told_the_roles(admin, idp, roles):
    async with admin.http.get(
        f"{admin.base}/read", headers={"Authorization": f"Bearer {idp.token(roles=roles, tenant='*')}"}
    ) as answer:
        text = await answer.text()
    assert answer.status == 403
    assert "Relay." not in text
    assert "role" not in text
    assert [each.problem for each in admin.failed] == ["no_role"]


async def test_a_token_that_names_its_tenant_is_confined_to_it(admin, idp):
    _, body = await admin.get(idp.token(roles="Relay.Owner", tenant="sales"))
    assert body["tenant"] == "sales"


@pytest.mark.parametrize("tenant", [None, "", "a b", ["sales"], "t" * 200])
async def test_a_token_without_its_tenant_is_nobody(admin, idp, tenant):
    assert await admin.get(idp.token(roles="Relay.Owner", tenant=tenant)) == (403, "forbidden")


async def test_every_wrong_credential_gets_the_same_answer(admin, idp):
    good = {"roles": "Relay.Owner", "tenant": "*"}
    revoked = admin.stored.add("old", None, kind=KeyKind.ADMIN, role="owner")
    row = admin.stored.rows[digest_of(revoked)]
    admin.stored.rows[digest_of(revoked)] = replace(row, revoked_at=1.0)
    wrong = [
        None, "wrong", KEY + "x", new_key(), revoked, "é" * 20, "x" * 600,
        idp.token(**good, exp=1), idp.token(**good, aud="api://other"), idp.token(**good, iss="https://login.example"),
        rsa_key("other").token(idp.claims(**good)), idp.rsa.token(idp.claims(**good), alg="none"),
    ]  # fmt: skip
    answers = set()
    for credential in wrong:
        admin.now += 60
        headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        async with admin.http.get(f"{admin.base}/read", headers=headers) as answer:
            text = await answer.text()
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            answers.add((answer.status, text))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


async def test_no_other_header_and_no_cookie_proves_anybody(admin):
    for headers in ({"api_key": KEY}, {"Cookie": f"key={KEY}"}, {"Authorization": f"Basic {KEY}"}):
        assert (await admin.get(**headers))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8081", "Origin": "http://evil.example:8081", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
async def test_pages_of_others_are_refused_even_with_a_good_key(admin, headers):
    assert await admin.get(KEY, **headers) == (403, "origin_not_allowed")
    assert admin.failed == []


async def test_pages_of_its_own_and_programs_are_let_in(admin):
    for headers in ({}, {"Origin": admin.base}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"},
                    {"Host": "localhost:99", "Origin": "http://localhost:99"}):  # fmt: skip
        assert (await admin.get(KEY, **headers))[0] == 200


async def test_who_guesses_is_stopped_and_locks_no_key_out_that_cannot_be_guessed(admin, idp):
    strong = admin.stored.add("console", None, kind=KeyKind.ADMIN, role="owner")
    assert (await admin.get(strong))[0] == 200
    for _ in range(10):
        assert (await admin.get("guess"))[0] == 401
    assert await admin.get("guess") == (429, "rate_limit_exceeded")
    assert await admin.get(KEY) == (429, "rate_limit_exceeded")
    assert (await admin.get(strong))[0] == 200
    assert (await admin.get(idp.token(roles="Relay.Owner", tenant="*")))[0] == 200
    admin.now += 6
    assert (await admin.get(KEY))[0] == 200


async def test_many_addresses_guess_no_faster_than_one_could(admin):
    for n in range(100):
        assert (await admin.get("guess", X_Forwarded_For=f"192.0.2.{n}"))[0] == 401
    assert (await admin.get(KEY, X_Forwarded_For="198.51.100.1")) == (429, "rate_limit_exceeded")
    admin.now += 1
    assert (await admin.get(KEY, X_Forwarded_For="198.51.100.1"))[0] == 200


async def test_what_the_audit_log_hears_of_failures_is_bounded_and_says_what_it_left_out(admin):
    for _ in range(15):
        await admin.get("guess")
    assert len(admin.failed) == 10
    assert {each.address for each in admin.failed} == {"127.0.0.1"}
    # Whoever goes on for ever writes no more than a row in ten minutes.
    for seconds in (300, 301):
        admin.now += seconds
        await admin.get("guess")
    assert [each.left_out for each in admin.failed[10:]] == [6]
    assert "guess" not in repr(admin.failed)


async def test_an_issuer_or_a_store_that_is_away_is_no_wrong_credential(admin, idp):
    await idp.go_away()
    assert await admin.get(idp.token(roles="Relay.Owner", tenant="*")) == (503, "identity_unavailable")
    admin.stored.away = True
    assert await admin.get(new_key()) == (503, "identity_unavailable")
    assert (await admin.get(KEY))[0] == 200
    assert admin.failed == []


class TestWithNobody:
    @pytest.fixture
    def configured(self):
        return []

    @pytest.fixture
    def tokens(self):
        return None

    async def test_it_says_how_there_could_be_somebody(self, admin):
        assert await admin.get("whatever") == (403, "forbidden")


def test_the_names_of_the_listener():
    assert known_hosts((), "127.0.0.1", is_local=True) == {"127.0.0.1", "localhost", "[::1]"}
    assert known_hosts((), "::1", is_local=True) == {"127.0.0.1", "localhost", "[::1]"}
    assert known_hosts((), "0.0.0.0", is_local=False) == frozenset()
    assert known_hosts(("Relay.Example", "::1"), "127.0.0.1", is_local=True) == {"relay.example", "[::1]"}
