from __future__ import annotations

import pytest
from support.idp import AUDIENCE, IdentityProvider

from relay.core.claims import TokenRules
from relay.identity.fetch import IssuerHttp
from relay.identity.jwks import KeySet
from relay.identity.oidc import TokenVerifier


@pytest.fixture
async def idp():
    async with IdentityProvider() as provider:
        yield provider


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[str | None]:
    """What was told of fetches: None for a good one."""
    return []


@pytest.fixture
async def keys(idp, clock, heard):
    found = KeySet(idp.issuer, IssuerHttp(seconds=1.0), 3600.0, heard.append, clock)
    yield found
    await found.close()


@pytest.fixture
def refused() -> list[str]:
    return []


@pytest.fixture
def rules(idp) -> TokenRules:
    return TokenRules(idp.issuer, frozenset({AUDIENCE}), frozenset({"RS256", "ES256"}))


@pytest.fixture
def verifier(rules, keys, refused) -> TokenVerifier:
    return TokenVerifier(rules, keys, refused.append)
