"""The doctor at the issuers of tokens."""

from __future__ import annotations

from dataclasses import replace

from support.idp import AUDIENCE, IdentityProvider

from relay.config import AdminOidcSettings, OidcSettings, TokenAlgorithm
from relay.doctor.checks import Status
from relay.doctor.issuers import issuers


async def test_issuers_that_are_well_wrong_and_not_there(settings):
    async with IdentityProvider() as idp:
        users = OidcSettings(idp.issuer, (AUDIENCE,))
        (first, second) = await issuers(replace(settings, oidc=users), 3.0)
        assert (first.status, first.subject) == (Status.OK, "oidc")
        assert "2 keys" in first.seen
        assert (second.status, second.subject) == (Status.SKIP, "admin_oidc")

        other = AdminOidcSettings(f"{idp.issuer}/", (AUDIENCE,))
        (first, second) = await issuers(
            replace(settings, oidc=replace(users, algorithms=(TokenAlgorithm.EDDSA,)), admin_oidc=other), 3.0
        )
        assert first.status is second.status is Status.FAIL
        assert "none of its keys is for EdDSA; they are for ES256, RS256" in first.seen
        assert "another issuer" in second.seen
        assert "to the letter" in second.advice

        idp.status = 500
        (first, _) = await issuers(replace(settings, oidc=users), 3.0)
        assert first.status is Status.FAIL
        assert "the answer is 500" in first.seen
