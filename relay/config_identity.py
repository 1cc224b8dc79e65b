"""Settings of who may come in by a token: how their texts are read, and what does not go together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relay.config_values import is_loopback, quoted

if TYPE_CHECKING:
    from relay.config_sections import AdminOidcSettings

_CLAIM_MOST = 128
_TENANT = re.compile(r"[A-Za-z0-9._:@/-]{1,128}\Z")
# `admin_oidc.…`: the settings whose claim values give each role.
ROLE_KEYS = ("owners", "governors", "operators", "viewers")


class TokenAlgorithm(StrEnum):
    """How a token may be signed (RFC 7518 section 3.1, RFC 8037): with an issuer's private key, never a shared one."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"


def issuer(text: str) -> str:
    """Parse an issuer: a URL, kept to the letter, for tokens must name it so."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if (
        not parts.hostname
        or port == 0
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or re.search(r"\s", text)
    ):
        raise ValueError("must be the issuer's URL: no user, query, fragment or space")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(text)):
        raise ValueError(f"{quoted(text)} is not https: whoever is on the way could sign tokens")
    if parts.path.rstrip("/").endswith("/.well-known/openid-configuration"):
        raise ValueError("leave out /.well-known/openid-configuration: the relay adds it")
    return text


def claim(text: str) -> str:
    """Parse the name of a claim, its value, or an audience."""
    if not 0 < len(text) <= _CLAIM_MOST or not text.isprintable():
        raise ValueError(f"{quoted(text)} is not 1 to {_CLAIM_MOST} printable characters")
    return text


def tenant(text: str) -> str:
    """Parse the name of a tenant."""
    if _TENANT.match(text) is None:
        raise ValueError(f"{quoted(text)} is not a tenant (letters, digits, . _ : @ / -)")
    return text


def oidc_problems(given: Mapping[str, str]) -> list[str]:
    """What does not go together in both sections; `given` holds the settings that were written."""
    found: list[str] = []
    for section in ("oidc", "admin_oidc"):
        named = sorted(name for name in given if name.startswith(f"{section}.") and name != f"{section}.issuer")
        if f"{section}.issuer" not in given:
            found.extend(f"{name} is for {section}.issuer, which is not set" for name in named)
        elif f"{section}.audiences" not in given:
            found.append(
                f"{section}.issuer needs {section}.audiences: whom a token must be for, or one for any would do"
            )
    if {"oidc.tenant", "oidc.tenant_claim"} <= given.keys():
        found.append("oidc.tenant puts all users into one tenant, oidc.tenant_claim reads it from the token: keep one")
    return found


def role_problems(settings: AdminOidcSettings) -> list[str]:
    """What is wrong with the claim values that give roles."""
    values = [value for key in ROLE_KEYS for value in getattr(settings, key)]
    if settings.issuer is not None and not values:
        names = ", ".join(f"admin_oidc.{key}" for key in ROLE_KEYS)
        return [f"admin_oidc.issuer is set and nobody has a role: give claim values to one of {names}"]
    twice = sorted(value for value, number in Counter(values).items() if number > 1)
    return [f"admin_oidc gives {quoted(value)} more than one role" for value in twice]
