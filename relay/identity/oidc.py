"""Tokens that an issuer signed: read strictly, judged by the settings alone, verified with the issuer's keys.

JSON Web Signature, RFC 7515, in its compact form; best practices of RFC 8725. What a token says of itself chooses
among the configured algorithms and the issuer's published keys, and nothing else: `jwk`, `jku`, `x5c` and `x5u` in a
header are not looked at.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from relay.core.claims import Claims, TokenRefusal, TokenRules, judged, strict_object
from relay.identity.jwks import KeysAwayError, PublicKey

# What fits a header field beside its name and scheme, as the listener bounds it.
TOKEN_MOST_BYTES = 8_000
# How base64url of `{"` begins.
TOKEN_BEGIN = "eyJ"  # noqa: S105 - no secret
_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\Z")
# Tokens for other ends may be signed with the same keys: logout, security events (RFC 8725 section 3.11).
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_KEY_NAME_MOST = 256


class Keys(Protocol):
    """The issuer's keys."""

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key of this name for this algorithm. Raises KeysAwayError."""
        ...


@dataclass(frozen=True, slots=True)
class _Parts:
    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def looks_like_token(credential: str) -> bool:
    """Whether a credential has the form of a signed token, whose header is a JSON object; no key of the relay's has."""
    is_short = len(credential) <= TOKEN_MOST_BYTES
    return is_short and credential.startswith(TOKEN_BEGIN) and _SHAPE.match(credential) is not None


class TokenVerifier:
    """Verifies tokens by one set of rules; `refused` is told why one was not taken."""

    def __init__(
        self, rules: TokenRules, keys: Keys, refused: Callable[[TokenRefusal], None] = lambda _reason: None
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._refused = refused

    async def verify(self, token: str, now: float) -> Claims | None:
        """The claims of a good token, None for any other; `now` in Unix seconds. Raises KeysAwayError."""
        try:
            found = await self._verified(token, now)
        except KeysAwayError:
            self._refused(TokenRefusal.KEYS_AWAY)
            raise
        if isinstance(found, TokenRefusal):
            self._refused(found)
            return None
        return found

    def refuse(self, reason: TokenRefusal) -> None:
        """Count a token that is good and of no use."""
        self._refused(reason)

    async def _verified(self, token: str, now: float) -> Claims | TokenRefusal:
        parts = _read(token, self._rules.algorithms)
        if isinstance(parts, TokenRefusal):
            return parts
        # Before any key: a token that is of no use asks nothing of the issuer, and costs no signature.
        claims = judged(parts.claims, self._rules, now)
        if isinstance(claims, TokenRefusal):
            return claims
        key = await self._keys.find(parts.kid, parts.algorithm)
        if key is None:
            return TokenRefusal.KEY
        return claims if key.verifies(parts.algorithm, parts.signed, parts.signature) else TokenRefusal.SIGNATURE


def _read(token: str, algorithms: frozenset[str]) -> _Parts | TokenRefusal:
    shape = _SHAPE.match(token) if len(token) <= TOKEN_MOST_BYTES else None
    if shape is None:
        return TokenRefusal.MALFORMED
    head, body, signature = (_decoded(part) for part in shape.groups())
    header, claims = strict_object(head or b""), strict_object(body or b"")
    if header is None or claims is None or signature is None:
        return TokenRefusal.MALFORMED
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        return TokenRefusal.ALGORITHM
    if not _is_plain(header) or not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= _KEY_NAME_MOST)):
        return TokenRefusal.HEADER
    return _Parts(algorithm, kid, claims, token.rpartition(".")[0].encode(), signature)


def _is_plain(header: dict[str, Any]) -> bool:
    """Whether this is an ordinary token, of which nothing more must be understood (RFC 7515 section 4.1.11)."""
    kind = header.get("typ", "JWT")
    return "crit" not in header and "b64" not in header and isinstance(kind, str) and kind.lower() in _TYPES


def _decoded(segment: str) -> bytes | None:
    if len(segment) % 4 == 1:
        return None
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    # One text for one value: the bits left over must be zero (RFC 4648 section 3.5).
    return decoded if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment else None
