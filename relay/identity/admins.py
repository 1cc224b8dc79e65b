"""Who stands behind a credential at the admin API: the key of the settings, an admin key, or a token with a role."""

from __future__ import annotations

from dataclasses import dataclass

from relay.core.access import Administrator, Role
from relay.core.claims import AdminRules, TokenRefusal, administrator_of
from relay.core.stored import KeyKind
from relay.identity.keys import ConfiguredKeys, KeyRing
from relay.identity.oidc import TokenVerifier, looks_like_token

SETTINGS_KEY_NAME = "admin.key"


class NoRoleError(Exception):
    """The token is good and its bearer is nobody here."""


@dataclass(frozen=True, slots=True)
class AdminTokens:
    """Tokens of administrators, and which role their claims give."""

    verifier: TokenVerifier
    rules: AdminRules

    async def administrator(self, token: str, now: float) -> Administrator | None:
        """Who the token is of; None for one that is not good. Raises KeysAwayError, NoRoleError."""
        claims = await self.verifier.verify(token, now)
        if claims is None:
            return None
        found = administrator_of(claims, self.rules)
        if isinstance(found, TokenRefusal):
            self.verifier.refuse(found)
            raise NoRoleError
        return found


@dataclass(frozen=True, slots=True)
class Admins:
    """Everybody who may use the admin API."""

    configured: ConfiguredKeys
    ring: KeyRing
    tokens: AdminTokens | None = None

    def anybody(self, now: float) -> bool:
        """Whether there is any administrator at all."""
        return bool(self.configured) or self.tokens is not None or self.ring.has(KeyKind.ADMIN, now)

    def free_to_try(self, credential: str) -> bool:
        """Whether a stranger gains nothing by trying: signed tokens, and keys that were good before."""
        return looks_like_token(credential) or self.ring.knows(credential)

    async def administrator(self, credential: str, now: float) -> Administrator | None:
        """Who shows this; None for nobody. Raises KeysAwayError, KeysUnreadError, NoRoleError."""
        if self.configured.owner_of(credential) is not None:
            return Administrator(SETTINGS_KEY_NAME, Role.OWNER)
        if self.tokens is not None and looks_like_token(credential):
            return await self.tokens.administrator(credential, now)
        row = await self.ring.find(credential, KeyKind.ADMIN, now)
        if row is None or row.role is None:
            return None
        # Who is confined chooses names for keys: none of them may be told, or limited, as a key of the whole relay.
        whose = "" if row.tenant is None else f" of {row.tenant}"
        return Administrator(f"key {row.name}{whose}", row.role, row.tenant)
