"""The keys of one issuer: found by discovery, kept, fetched anew, and never faster than the issuer should be asked.

OpenID Connect Discovery 1.0 section 4; JSON Web Key, RFC 7517.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from relay.config_values import is_loopback
from relay.core.claims import strict_object
from relay.identity.fetch import Fetch, FetchError

# An unknown key name may be a key made since the last fetch, or a forgery: the issuer is asked once in so long.
ASK_AGAIN_SECONDS = 10.0
# For how long beyond `jwks_seconds` keys are used that could not be fetched anew.
KEEP_SECONDS = 86_400.0
_RETRY_SECONDS = 30.0
_MOST_KEYS = 100
_KEY_NAME_MOST = 256
_RSA_BITS = range(2048, 8193)
# Of RSA's public exponent: a huge one makes each check slow.
_EXPONENT_MOST = 2**32
_CURVES = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS: Mapping[str, Algorithm] = {
    name: found for name, found in get_default_algorithms().items()
    if name in {*_RSA, *(each for names in _CURVES.values() for each in names)}
}  # fmt: skip


class KeysAwayError(Exception):
    """The issuer's keys are not known, and cannot be had now."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of the issuer; `algorithms` are those that its type and its own words allow."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any

    def verifies(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        return ALGORITHMS[algorithm].verify(data, self.key, signature)


@dataclass(frozen=True, slots=True)
class Issuer:
    """What an issuer tells of itself; the two addresses are where people sign in, None where it names none."""

    keys: tuple[PublicKey, ...]
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None


class KeySet:
    """The issuer's keys. `heard` is told of each fetch: None for a good one, else what was wrong."""

    def __init__(
        self,
        issuer: str,
        fetch: Fetch,
        seconds: float,
        heard: Callable[[str | None], None] = lambda _wrong: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._seconds = seconds
        self._heard = heard
        self._clock = clock
        self._known = Issuer(())
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self._made_at = clock()

    @property
    def age(self) -> float:
        """Seconds since the keys were last fetched; since the beginning, if they never were."""
        return self._clock() - (self._made_at if self._fetched_at is None else self._fetched_at)

    @property
    def known(self) -> Issuer:
        """What the issuer told last; without keys, if it never did."""
        return self._known

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key of this name for this algorithm; without a name, the only one there is. Raises KeysAwayError."""
        found = self._choose(kid, algorithm)
        if (found is None or self._are_lost) and (asking := self._ask()) is not None:
            # Whoever waits may go away; the others and the next ones still want the answer.
            await asyncio.shield(asking)
            found = self._choose(kid, algorithm)
        if self._are_lost:
            raise KeysAwayError
        return found

    async def watch(self) -> NoReturn:
        """Fetch the keys now and every `seconds`, sooner after a failure."""
        while True:
            if (asking := self._ask()) is not None:
                await asyncio.shield(asking)
            fresh = self._fetched_at is not None and self.age < self._seconds
            await asyncio.sleep(self._seconds - self.age if fresh else _RETRY_SECONDS)

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    @property
    def _are_lost(self) -> bool:
        return self._fetched_at is None or self.age > self._seconds + KEEP_SECONDS

    def _choose(self, kid: str | None, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._known.keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 else None

    def _ask(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None when the last began too short a time ago."""
        if self._asking is not None and not self._asking.done():
            return self._asking
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < ASK_AGAIN_SECONDS:
            return None
        self._asked_at = now
        self._asking = asyncio.create_task(self._take(), name="issuer-keys")
        return self._asking

    async def _take(self) -> None:
        try:
            self._known = await asked(self._issuer, self._fetch)
        except FetchError as error:
            # The last keys stay: an issuer that is away for a while locks nobody out.
            self._heard(str(error))
            return
        self._fetched_at = self._clock()
        self._heard(None)


async def asked(issuer: str, fetch: Fetch) -> Issuer:
    """What an issuer tells now: the keys it signs with, at least one. Raises FetchError."""
    where = await _document(fetch, f"{issuer.rstrip('/')}/.well-known/openid-configuration", "discovery")
    if where.get("issuer") != issuer:
        # A document of another issuer would let that one speak for ours (Discovery section 4.3).
        raise FetchError("discovery: the document is of another issuer than the setting names")
    place = where.get("jwks_uri")
    if not isinstance(place, str) or not _may_ask(place, issuer):
        raise FetchError("discovery: jwks_uri is no https URL")
    listed = (await _document(fetch, place, "keys")).get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise FetchError(f"keys: the document is no list of at most {_MOST_KEYS} keys")
    keys = tuple(key for key in map(public_key, listed) if key is not None)
    if not keys:
        raise FetchError("keys: there is none that can be used")
    places = [where.get(name) for name in ("authorization_endpoint", "token_endpoint")]
    return Issuer(keys, *(place if isinstance(place, str) and _may_ask(place, issuer) else None for place in places))


def public_key(jwk: object) -> PublicKey | None:
    """A key that verifies signatures, None for every other: symmetric, private, weak, for encryption, unknown."""
    # `d` is the private half: an issuer that publishes it has lost it.
    if not isinstance(jwk, dict) or "d" in jwk or jwk.get("use", "sig") != "sig":
        return None
    kid, operations, named = jwk.get("kid"), jwk.get("key_ops", ["verify"]), jwk.get("alg")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= _KEY_NAME_MOST):
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    possible = _RSA if jwk.get("kty") == "RSA" else _CURVES.get((str(jwk.get("kty")), str(jwk.get("crv"))), ())
    algorithms = frozenset(possible) if named is None else frozenset(possible) & {str(named)}
    if not algorithms:
        return None
    key = None
    with contextlib.suppress(InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError):
        key = ALGORITHMS[min(algorithms)].from_jwk(jwk)
    if key is None or (jwk.get("kty") == "RSA" and not _is_sound(key)):
        return None
    return PublicKey(kid, algorithms, key)


def _is_sound(key: Any) -> bool:
    return key.key_size in _RSA_BITS and key.public_numbers().e < _EXPONENT_MOST


async def _document(fetch: Fetch, url: str, what: str) -> dict[str, Any]:
    try:
        body = await fetch(url)
    except FetchError as error:
        raise FetchError(f"{what}: {error}") from None
    document = strict_object(body)
    if document is None:
        raise FetchError(f"{what}: the answer is no JSON object")
    return document


def _may_ask(url: str, issuer: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment or port == 0:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url) and is_loopback(issuer))
