"""Checks of the issuers whose tokens are taken: discovery and keys, fetched as the relay fetches them."""

from __future__ import annotations

from relay.config import AdminOidcSettings, OidcSettings, Settings
from relay.doctor.checks import Check, CheckName, Status
from relay.identity.fetch import FetchError, IssuerHttp
from relay.identity.jwks import asked
from relay.upstream.http import environment_proxy


async def issuers(settings: Settings, seconds: float) -> list[Check]:
    """Each issuer of the settings."""
    fetch = IssuerHttp(environment_proxy, seconds)
    return [
        await _issuer("oidc", settings.oidc, fetch),
        await _issuer("admin_oidc", settings.admin_oidc, fetch),
    ]


async def _issuer(section: str, settings: OidcSettings | AdminOidcSettings, fetch: IssuerHttp) -> Check:
    name, issuer = CheckName.ISSUER, settings.issuer
    if issuer is None:
        return Check(name, Status.SKIP, f"{section}.issuer is not set: no tokens are taken", subject=section)
    try:
        found = await asked(issuer, fetch)
    except FetchError as error:
        advice = (
            f"compare {section}.issuer with the issuer in its /.well-known/openid-configuration, to the letter, and "
            "let this machine reach it and its keys (HTTPS_PROXY counts)"
        )
        return Check(name, Status.FAIL, f"{issuer}: {error}", advice, section)
    wanted = {each.value for each in settings.algorithms}
    fitting = [key for key in found.keys if key.algorithms & wanted]
    if not fitting:
        told = ", ".join(sorted({name for key in found.keys for name in key.algorithms}))
        advice = f"set {section}.algorithms to what the issuer signs with"
        return Check(name, Status.FAIL, f"{issuer}: none of its keys is for {', '.join(sorted(wanted))}; they are for "
                     f"{told}", advice, section)  # fmt: skip
    return Check(name, Status.OK, f"{issuer}: {len(fitting)} keys that can be used", subject=section)
