"""Who stands behind a credential at the public doors: a key of the settings, a tenant's key, or a user's token."""

from __future__ import annotations

from dataclasses import dataclass

from relay.core.claims import TokenRefusal, UserRules, identity_of, subject_hash
from relay.core.policy_resolve import Identity
from relay.core.stored import KeyKind
from relay.identity.keys import ConfiguredKeys, KeyRing
from relay.identity.oidc import TokenVerifier, looks_like_token


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `owner` may hang up what is opened; `key_id` is the tenant key it was proved with, if it was one."""

    owner: str
    identity: Identity
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class UserTokens:
    """Tokens of users, and what becomes of their claims."""

    verifier: TokenVerifier
    rules: UserRules

    async def identity(self, token: str, origin: str | None, now: float) -> Identity | None:
        """Who the token is of; None for one that is not good. Raises KeysAwayError."""
        claims = await self.verifier.verify(token, now)
        if claims is None:
            return None
        identity = identity_of(claims, self.rules, origin)
        if isinstance(identity, TokenRefusal):
            self.verifier.refuse(identity)
            return None
        return identity


@dataclass(frozen=True, slots=True)
class Callers:
    """Everybody who may use the doors. A credential is of one kind by its form, so each is asked of one place."""

    configured: ConfiguredKeys
    ring: KeyRing
    tokens: UserTokens | None = None

    async def caller(self, credential: str, origin: str | None, now: float) -> Caller | None:
        """Who shows this, on a page of `origin`; None for nobody. Raises KeysAwayError, KeysUnreadError."""
        owner = self.configured.owner_of(credential)
        if owner is not None:
            return Caller(owner, Identity(subject_hash=owner, origin=origin))
        if self.tokens is not None and looks_like_token(credential):
            identity = await self.tokens.identity(credential, origin, now)
            return None if identity is None else Caller(identity.subject_hash, identity)
        row = await self.ring.find(credential, KeyKind.TENANT, now)
        if row is None or row.tenant is None:
            return None
        # By name: the key that takes another's place is the same principal.
        owner = subject_hash("key", row.tenant, row.name)
        return Caller(owner, Identity(row.tenant, owner, origin=origin), row.id)

    def still_good(self, key_id: str | None, now: float) -> bool:
        """Whether the tenant key that something was made with is; what was made with none stays good."""
        return key_id is None or self.ring.opens(key_id, now)

    def free_to_try(self, credential: str) -> bool:
        """Whether a stranger gains nothing by trying: signed tokens, and keys that were good before."""
        return looks_like_token(credential) or self.ring.knows(credential)
