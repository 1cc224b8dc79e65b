"""Who may use a door: the shape of credentials, whom they prove, and one answer for every failure."""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.api.client_address import Network, client_address
from relay.api.telemetry_port import AuthMethod, DoorTelemetry
from relay.core.ephemeral_keys import PREFIX, EphemeralKeys, Held
from relay.errors import ApiError, ErrorCode
from relay.identity.callers import Caller, Callers
from relay.identity.jwks import KeysAwayError
from relay.identity.keys import PREFIX as TENANT_PREFIX
from relay.identity.keys import KeysUnreadError
from relay.identity.oidc import looks_like_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from relay.api.failure_limit import FailureLimit

_RETRY_SECONDS = 10
_CREDENTIAL_MAX = 512
# Names under which keys are put into URLs, where proxies and browsers keep them: always refused, right or wrong.
_QUERY_KEYS = frozenset(
    {"api-key", "api_key", "apikey", "access_token", "access-token", "authorization", "client_secret", "key",
     "subscription-key", "token"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Reads credentials, asks whom they prove, and counts failures per address."""

    callers: Callers
    keys: EphemeralKeys
    failures: FailureLimit
    telemetry: DoorTelemetry
    trusted_proxies: tuple[Network, ...]
    clock: Callable[[], float]

    def credential(self, request: web.Request) -> str:
        """The key or token a request carries: a bearer, else the `api-key` header. Raises ApiError 401, 429."""
        if any(name.lower() in _QUERY_KEYS for name in request.query):
            raise self.refusal(request, AuthMethod.QUERY)
        authorization = request.headers.getall("Authorization", [])
        api_keys = request.headers.getall("api-key", [])
        if len(authorization) > 1 or len(api_keys) > 1:
            raise self.refusal(request, AuthMethod.MISSING)
        scheme, _, bearer = (authorization[0] if authorization else "").strip().partition(" ")
        found = bearer.strip() if scheme.lower() == "bearer" else ""
        found = found or (api_keys[0].strip() if api_keys else "")
        if not found or (len(found) > _CREDENTIAL_MAX and not looks_like_token(found)):
            raise self.refusal(request, AuthMethod.MISSING)
        return found

    async def caller(self, request: web.Request, credential: str) -> Caller | None:
        """Who shows this credential; None for nobody, and for an ephemeral key. Raises ApiError 429, 503.

        An address that failed too often is not even listened to where a credential could be guessed: client keys are
        chosen by people. The relay's own keys and signed tokens cannot, so one broken page locks nobody else behind
        its address out.
        """
        if credential.startswith(PREFIX):
            return None
        now = self.clock()
        wait = self.failures.blocked_for(self._address(request), now)
        if wait > 0 and not self.callers.free_to_try(credential):
            raise too_many(wait)
        try:
            return await self.callers.caller(credential, request.headers.get("Origin"), now)
        except (KeysAwayError, KeysUnreadError):
            raise not_known_now() from None

    async def holder(self, request: web.Request, *, bound: bool = True) -> tuple[str, Caller | Held]:
        """The credential of a request, and who or what it proves: a caller, or what an ephemeral key was minted for.

        A `bound` key is good for nobody else than it was minted for. Raises ApiError 401, 429, 503.
        """
        credential = self.credential(request)
        caller = await self.caller(request, credential)
        if caller is not None:
            return credential, caller
        held = self.keys.holder(credential, self.clock())
        if held is None or (bound and await self._is_strangers(request, held)):
            raise self.refusal(request, AuthMethod.EPHEMERAL_KEY)
        return credential, held

    async def _is_strangers(self, request: web.Request, key: Held) -> bool:
        """Whether a minted key is of no use here: shown by somebody else than it was minted for, or fallen.

        A key minted by a page is for pages of that origin; who shows another credential beside it must be its owner;
        and one that has not opened its session yet falls with the tenant key that it was minted with.
        """
        minted_at, used_at = key.identity.origin, request.headers.get("Origin")
        if minted_at is not None and used_at is not None and minted_at != used_at:
            return True
        if key.session_id is None and not self.callers.still_good(key.key_id, self.clock()):
            return True
        shown = request.headers.get("api-key")
        if shown is None or shown.startswith(PREFIX):
            return False
        caller = await self.caller(request, shown)
        return caller is not None and not hmac.compare_digest(caller.owner, key.owner)

    def refusal(self, request: web.Request, method: AuthMethod) -> ApiError:
        """The one answer to every failed proof of identity, once it is counted; 429 when there were too many."""
        now, address = self.clock(), self._address(request)
        self.telemetry.auth_failed(method)
        wait = self.failures.blocked_for(address, now)
        if wait > 0:
            return too_many(wait)
        self.failures.count(address, now)
        return ApiError(
            401, ErrorCode.INVALID_API_KEY, "Incorrect API key provided.", headers={"WWW-Authenticate": "Bearer"}
        )

    def _address(self, request: web.Request) -> str:
        return client_address(request.remote, request.headers.getall("X-Forwarded-For", []), self.trusted_proxies)


def method_of(credential: str) -> AuthMethod:
    """What a credential that proved nobody was meant to be, by its form."""
    if looks_like_token(credential):
        return AuthMethod.TOKEN
    return AuthMethod.TENANT_KEY if credential.startswith(TENANT_PREFIX) else AuthMethod.CLIENT_KEY


def not_known_now() -> ApiError:
    """Who asks cannot be found out: the store or the issuer is away. Says nothing about the credential."""
    retry = {"retry-after": str(_RETRY_SECONDS), "retry-after-ms": str(_RETRY_SECONDS * 1000)}
    message = "Who you are cannot be checked at this moment. Try again later."
    return ApiError(503, ErrorCode.IDENTITY_UNAVAILABLE, message, headers=retry)


def too_many(wait: float) -> ApiError:
    """The answer to an address that failed too often."""
    return ApiError(
        429,
        ErrorCode.RATE_LIMIT_EXCEEDED,
        "Too many failed attempts from this address. Try again later.",
        headers={"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000))},
    )
