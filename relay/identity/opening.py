"""Identity as the settings describe it: the keys, the issuers, and the work that keeps both fresh."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from relay.config import AdminOidcSettings, OidcSettings, Settings
from relay.core.access import Role
from relay.core.claims import AdminRules, TokenRefusal, TokenRules, UserRules
from relay.identity.admins import Admins, AdminTokens
from relay.identity.callers import Callers, UserTokens
from relay.identity.fetch import IssuerHttp
from relay.identity.jwks import KeySet
from relay.identity.keys import ConfiguredKeys, KeyRing, StoredKeys
from relay.identity.oidc import TokenVerifier
from relay.telemetry import Telemetry
from relay.watches import lasting

_DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Identities:
    """Everybody: users and backends at the doors, administrators at the admin API. `ring.changed(id)` after changes."""

    callers: Callers
    admins: Admins
    ring: KeyRing
    admin_issuer: KeySet | None
    admin_settings: AdminOidcSettings

    async def sign_in(self) -> dict[str, str] | None:
        """What the console needs to sign people in; None where it cannot: not set, or the issuer was never there."""
        settings, issuer = self.admin_settings, self.admin_issuer
        if settings.issuer is None or settings.client_id is None or issuer is None:
            return None
        place, token_place = issuer.known.authorization_endpoint, issuer.known.token_endpoint
        if place is None or token_place is None:
            return None
        return {
            "issuer": settings.issuer,
            "client_id": settings.client_id,
            "authorization_endpoint": place,
            "token_endpoint": token_place,
        }


@contextlib.asynccontextmanager
async def open_identities(
    settings: Settings, telemetry: Telemetry, proxy_for: Callable[[str], str | None], stored: StoredKeys | None
) -> AsyncIterator[Identities]:
    """Read the keys, begin to fetch those of the issuers, and keep all of them fresh until left.

    An issuer that is away is no reason not to start: its tokens are refused until it is there.
    """
    ring = KeyRing(stored, telemetry.warn)
    telemetry.identity.watch_stored(lambda: ring.age)
    await ring.refresh()
    async with contextlib.AsyncExitStack() as stack:
        _keep(stack, [asyncio.create_task(lasting("stored-keys", ring.watch, telemetry), name="stored-keys")])
        fetch = IssuerHttp(proxy_for)
        users, admins, key = settings.oidc, settings.admin_oidc, settings.admin.key
        user_issuer = _issuer(stack, "oidc", users, fetch, telemetry)
        admin_issuer = _issuer(stack, "admin_oidc", admins, fetch, telemetry)
        user_tokens = admin_tokens = None
        if user_issuer is not None:
            verifier = _verifier("oidc", users, users.subject_claim, user_issuer, telemetry)
            user_tokens = UserTokens(verifier, user_rules(users))
        if admin_issuer is not None:
            verifier = _verifier("admin_oidc", admins, "sub", admin_issuer, telemetry)
            admin_tokens = AdminTokens(verifier, admin_rules(admins))
        yield Identities(
            Callers(ConfiguredKeys(settings.clients.keys), ring, user_tokens),
            Admins(ConfiguredKeys(() if key is None else (key,)), ring, admin_tokens),
            ring,
            admin_issuer,
            admins,
        )


def user_rules(settings: OidcSettings) -> UserRules:
    """How users' claims become an identity."""
    return UserRules(settings.tenant or _DEFAULT_TENANT, settings.tenant_claim, settings.claims)


def admin_rules(settings: AdminOidcSettings) -> AdminRules:
    """How administrators' claims become a role."""
    given = {
        Role.OWNER: settings.owners,
        Role.GOVERNOR: settings.governors,
        Role.OPERATOR: settings.operators,
        Role.VIEWER: settings.viewers,
    }
    roles = {value: role for role, values in given.items() for value in values}
    return AdminRules(settings.role_claim, settings.name_claim, roles, settings.tenant_claim)


def _issuer(
    stack: contextlib.AsyncExitStack,
    section: str,
    settings: OidcSettings | AdminOidcSettings,
    fetch: IssuerHttp,
    telemetry: Telemetry,
) -> KeySet | None:
    if settings.issuer is None:
        return None

    def heard(wrong: str | None) -> None:
        telemetry.identity.keys_asked(section, wrong)

    keys = KeySet(settings.issuer, fetch, settings.jwks_seconds, heard)
    telemetry.identity.watch_issuer(section, lambda: keys.age)
    stack.push_async_callback(keys.close)
    _keep(stack, [asyncio.create_task(lasting(f"{section}-keys", keys.watch, telemetry), name=f"{section}-keys")])
    return keys


def _verifier(
    section: str, settings: OidcSettings | AdminOidcSettings, subject_claim: str, keys: KeySet, telemetry: Telemetry
) -> TokenVerifier:
    def refused(reason: TokenRefusal) -> None:
        telemetry.identity.token_refused(section, reason)

    rules = TokenRules(
        settings.issuer or "",
        frozenset(settings.audiences),
        frozenset(each.value for each in settings.algorithms),
        subject_claim,
        settings.clock_skew_seconds,
    )
    return TokenVerifier(rules, keys, refused)


def _keep(stack: contextlib.AsyncExitStack, tasks: Iterable[asyncio.Task[None]]) -> None:
    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(stop)
