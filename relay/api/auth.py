"""Who may use a door: client keys, the shape of credentials, and one answer for every failure."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.api.client_address import Network, client_address
from relay.api.telemetry_port import AuthMethod, DoorTelemetry
from relay.core.ephemeral_keys import PREFIX, Grant, Held
from relay.core.policy_resolve import Identity
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from relay.api.failure_limit import FailureLimit
    from relay.config import Secret

_CREDENTIAL_MAX = 512
# Names under which keys are put into URLs, where proxies and browsers keep them: always refused, right or wrong.
_QUERY_KEYS = frozenset(
    {"api-key", "api_key", "apikey", "access_token", "access-token", "authorization", "client_secret", "key",
     "subscription-key", "token"}
)  # fmt: skip


class ClientKeys:
    """The configured keys, as hashes. An owner id is part of such a hash: it names a key and cannot be turned back."""

    def __init__(self, keys: Iterable[Secret]) -> None:
        self._digests = tuple(hashlib.sha256(key.reveal().encode()).digest() for key in keys)

    def owner_of(self, credential: str) -> str | None:
        """The owner id if this is one of the keys; takes the same time whichever it is, or none."""
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        found = None
        for known in self._digests:
            if hmac.compare_digest(known, digest):
                found = known
        return None if found is None else found.hex()[:32]


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Reads credentials, knows client keys, and counts failures per address."""

    client_keys: ClientKeys
    failures: FailureLimit
    telemetry: DoorTelemetry
    trusted_proxies: tuple[Network, ...]
    clock: Callable[[], float]

    def credential(self, request: web.Request) -> str:
        """The key a request carries: a bearer, else the `api-key` header. Raises ApiError 401, 429."""
        if any(name.lower() in _QUERY_KEYS for name in request.query):
            raise self.refusal(request, AuthMethod.QUERY)
        authorization = request.headers.getall("Authorization", [])
        api_keys = request.headers.getall("api-key", [])
        if len(authorization) > 1 or len(api_keys) > 1:
            raise self.refusal(request, AuthMethod.MISSING)
        scheme, _, bearer = (authorization[0] if authorization else "").strip().partition(" ")
        found = bearer.strip() if scheme.lower() == "bearer" else ""
        found = found or (api_keys[0].strip() if api_keys else "")
        if not 0 < len(found) <= _CREDENTIAL_MAX:
            raise self.refusal(request, AuthMethod.MISSING)
        return found

    def owner(self, request: web.Request, credential: str) -> str | None:
        """The owner id behind a client key; None if it is not a client key. Raises ApiError 429.

        An address that failed too often is not even listened to: client keys are chosen by people and could be
        guessed. The relay's own keys cannot, so one broken page locks nobody else behind its address out of a session.
        """
        if credential.startswith(PREFIX):
            return None
        wait = self.failures.blocked_for(self._address(request), self.clock())
        if wait > 0:
            raise _too_many(wait)
        return self.client_keys.owner_of(credential)

    def identity(self, request: web.Request, owner: str) -> Identity:
        """Who asks, for choosing a policy. A client key proves only itself; the origin is the browser's word."""
        return Identity(subject_hash=owner, origin=request.headers.get("Origin"))

    def bound_elsewhere(self, request: web.Request, key: Grant | Held) -> bool:
        """Whether a minted key is used by somebody else than it was minted for, as far as the request shows.

        A key minted by a page is for pages of that origin; and who shows a client key beside it must be its owner.
        """
        minted_at, used_at = key.identity.origin, request.headers.get("Origin")
        if minted_at is not None and used_at is not None and minted_at != used_at:
            return True
        shown = request.headers.get("api-key")
        if shown is None or shown.startswith(PREFIX):
            return False
        owner = self.client_keys.owner_of(shown)
        return owner is not None and not hmac.compare_digest(owner, key.owner)

    def refusal(self, request: web.Request, method: AuthMethod) -> ApiError:
        """The one answer to every failed proof of identity, once it is counted; 429 when there were too many."""
        now, address = self.clock(), self._address(request)
        self.telemetry.auth_failed(method)
        wait = self.failures.blocked_for(address, now)
        if wait > 0:
            return _too_many(wait)
        self.failures.count(address, now)
        return ApiError(
            401, ErrorCode.INVALID_API_KEY, "Incorrect API key provided.", headers={"WWW-Authenticate": "Bearer"}
        )

    def _address(self, request: web.Request) -> str:
        return client_address(request.remote, request.headers.getall("X-Forwarded-For", []), self.trusted_proxies)


def _too_many(wait: float) -> ApiError:
    return ApiError(
        429,
        ErrorCode.RATE_LIMIT_EXCEEDED,
        "Too many failed attempts from this address. Try again later.",
        headers={"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000))},
    )
