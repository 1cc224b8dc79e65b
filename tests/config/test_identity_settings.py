"""Settings of tokens: what is refused, with words that say what to do."""

from __future__ import annotations

import pytest

from relay.config import ConfigError, load_settings

ISSUER = "https://login.example.com/"
USERS = {"RELAY_OIDC_ISSUER": ISSUER, "RELAY_OIDC_AUDIENCES": "api://relay"}
ADMINS = {
    "RELAY_ADMIN_OIDC_ISSUER": ISSUER,
    "RELAY_ADMIN_OIDC_AUDIENCES": "api://admin",
    "RELAY_ADMIN_OIDC_OWNERS": "Owner",
}


def test_an_issuer_is_kept_to_the_letter():
    settings = load_settings(None, USERS | ADMINS)
    assert settings.oidc.issuer == settings.admin_oidc.issuer == ISSUER
    assert [each.value for each in settings.oidc.algorithms] == ["RS256", "ES256"]


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1:8000", "http://localhost/realms/main", "https://sso.example:8443/a"]
)
def test_issuers_that_can_be_used(issuer):
    assert load_settings(None, USERS | {"RELAY_OIDC_ISSUER": issuer}).oidc.issuer == issuer


WRONG = {
    "plain http": ({"RELAY_OIDC_ISSUER": "http://login.example.com"}, "is not https"),
    "a query": ({"RELAY_OIDC_ISSUER": f"{ISSUER}?x=1"}, "no user, query, fragment"),
    "a password": ({"RELAY_OIDC_ISSUER": "https://u:canary@login.example.com"}, "no user, query, fragment"),
    "no host": ({"RELAY_OIDC_ISSUER": "https:///x"}, "no user, query, fragment"),
    "the document's address": (
        {"RELAY_OIDC_ISSUER": f"{ISSUER}.well-known/openid-configuration"}, "leave out /.well-known/"),
    "an issuer for any audience": ({"RELAY_OIDC_AUDIENCES": ""}, "oidc.issuer needs oidc.audiences"),
    "no signature": ({"RELAY_OIDC_ALGORITHMS": "none"}, "'none' is not one of: RS256"),
    "a shared secret": ({"RELAY_OIDC_ALGORITHMS": "RS256,HS256"}, "'HS256' is not one of: RS256"),
    "two tenants": ({"RELAY_OIDC_TENANT": "a", "RELAY_OIDC_TENANT_CLAIM": "tid"}, "keep one"),
    "a tenant that is none": ({"RELAY_OIDC_TENANT": "*"}, "is not a tenant"),
    "no issuer": ({"RELAY_OIDC_ISSUER": "", "RELAY_OIDC_TENANT": "a"}, "oidc.tenant is for oidc.issuer"),
    "nobody with a role": ({"RELAY_ADMIN_OIDC_OWNERS": ""}, "nobody has a role"),
    "one value for two roles": ({"RELAY_ADMIN_OIDC_VIEWERS": "Owner"}, "gives 'Owner' more than one role"),
    "a key that looks like a tenant's": ({"RELAY_CLIENT_KEYS": "rk_0123456789abcdef"}, "starts with ek_, rk_ or eyJ"),
    "a key that looks like a token": ({"RELAY_CLIENT_KEYS": "eyJhbGciOiJub25lIn0.a.b"}, "starts with ek_, rk_ or eyJ"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_it_is_said_what_is_wrong_with(what):
    changed, words = WRONG[what]
    with pytest.raises(ConfigError, match=words.replace(".", r"\.").replace("*", r"\*")) as caught:
        load_settings(None, USERS | ADMINS | changed)
    assert "canary" not in str(caught.value)


def test_with_tokens_no_client_key_is_needed(tmp_path):
    rest = {
        "RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:9", "RELAY_UPSTREAM_DEPLOYMENT": "d",
        "RELAY_UPSTREAM_API_KEY": "resource-key", "RELAY_INSTRUCTIONS": "Be brief.",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"clients\.keys is not set"):
        load_settings(None, rest).require_servable()
    load_settings(None, rest | USERS).require_servable()
    kept = load_settings(None, rest | {"RELAY_STATE_DIRECTORY": str(tmp_path)})
    kept.require_servable()
    assert any("only tenant keys" in warning for warning in kept.warnings)
