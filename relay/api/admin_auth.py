"""Who may use the admin API: administrators with a bearer, never a page of another origin, never a guesser.

Nothing a browser sends by itself proves anybody here, so no other page can act in an administrator's name; what pages
of other origins send is refused all the same, and so is what reaches this listener under a name it is not known by: a
name that an attacker's server gives this address (DNS rebinding) would make the attacker's page one of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from relay.api.auth import not_known_now, too_many
from relay.api.client_address import Network, client_address
from relay.api.cors import Origins
from relay.api.failure_limit import FailureLimit
from relay.api.telemetry_port import AuthMethod, DoorTelemetry
from relay.core.access import Administrator, Permission
from relay.core.quota import TokenBucket
from relay.errors import ApiError, ErrorCode
from relay.identity.admins import Admins, NoRoleError
from relay.identity.jwks import KeysAwayError
from relay.identity.keys import KeysUnreadError
from relay.identity.oidc import looks_like_token

ADMINISTRATOR = web.RequestKey("administrator", Administrator)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_CREDENTIAL_MOST = 512
# Browsers say where a request comes from and pages cannot (Fetch Metadata, W3C); `none` is the address bar.
_OWN_SITES = frozenset({"same-origin", "none"})
# One bucket for all addresses together: nobody guesses faster by having many.
_EVERYBODY = "everybody"
# Failed sign-ins that are told for the audit log, which is kept for ever: one in so many seconds, and a few at once.
_TOLD_EVERY_SECONDS = 600.0
_TOLD_AT_ONCE = 10


class SignInProblem(StrEnum):
    """Why somebody was not let in; for the audit log, never told to who asked."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    NO_ROLE = "no_role"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class FailedSignIn:
    """Somebody was not let in; `left_out` such events before this one were not told, to keep the audit log bounded."""

    at: float
    address: str
    problem: SignInProblem
    left_out: int


class AdminGate:
    """Finds the administrator behind a request. `hosts` are the names of the listener, empty: any name will do.

    `on_failed` hears of failed sign-ins, as far as the audit log has room for them.
    """

    def __init__(
        self,
        admins: Admins,
        telemetry: DoorTelemetry,
        clock: Callable[[], float],
        *,
        hosts: frozenset[str] = LOOPBACK_NAMES,
        trusted_proxies: tuple[Network, ...] = (),
        on_failed: Callable[[FailedSignIn], None] = lambda _failed: None,
    ) -> None:
        self._admins = admins
        self._telemetry = telemetry
        self._clock = clock
        self._hosts = frozenset(host.lower() for host in hosts)
        self._trusted = trusted_proxies
        self._own = Origins((), trusted_proxies)
        self._on_failed = on_failed
        self._of_address = FailureLimit(burst=10, seconds_each=6.0)
        self._of_all = FailureLimit(burst=100, seconds_each=1.0, capacity=1)
        self._told = TokenBucket(1 / _TOLD_EVERY_SECONDS, _TOLD_AT_ONCE, clock())
        self._left_out = 0

    def refuse_foreign(self, request: web.Request) -> None:
        """Refuse pages of other origins, and names that are not this listener's. Raises ApiError 403.

        Enough for what anybody may read; `administrator` and `require` ask it themselves.
        """
        if self._hosts and _name_of(request.host) not in self._hosts:
            message = "This listener is not known by that name: see admin.hosts."
            raise ApiError(403, ErrorCode.ORIGIN_NOT_ALLOWED, message)
        sites = request.headers.getall("Sec-Fetch-Site", [])
        if len(request.headers.getall("Origin", [])) > 1 or not _OWN_SITES.issuperset(sites):
            raise _foreign()
        if not self._own.admits(request):
            raise _foreign()

    async def administrator(self, request: web.Request) -> Administrator:
        """Who asks. Raises ApiError: 401, the same for every wrong credential; 403, 429, 503."""
        self.refuse_foreign(request)
        now, address = self._clock(), self._address(request)
        if not self._admins.anybody(now):
            message = "The admin API has no administrator: set admin.key, make an admin key, or set admin_oidc.issuer."
            raise ApiError(403, ErrorCode.FORBIDDEN, message)
        credential = _bearer(request)
        if credential is None:
            raise self._refusal(address, SignInProblem.MISSING, now)
        wait = self._wait(address, now)
        if wait > 0 and not self._admins.free_to_try(credential):
            self._tell(address, SignInProblem.LIMITED, now)
            raise too_many(wait)
        try:
            found = await self._admins.administrator(credential, now)
        except NoRoleError:
            self._tell(address, SignInProblem.NO_ROLE, now)
            raise _forbidden() from None
        except (KeysAwayError, KeysUnreadError):
            raise not_known_now() from None
        if found is None:
            raise self._refusal(address, SignInProblem.UNKNOWN, now)
        request[ADMINISTRATOR] = found
        return found

    async def require(self, request: web.Request, permission: Permission) -> Administrator:
        """Who asks, if they may do this. Raises ApiError as `administrator` does, and 403."""
        found = await self.administrator(request)
        if not found.may(permission):
            raise _forbidden()
        return found

    def _refusal(self, address: str, problem: SignInProblem, now: float) -> ApiError:
        self._telemetry.auth_failed(AuthMethod.ADMIN)
        self._tell(address, problem, now)
        wait = self._wait(address, now)
        if wait > 0:
            return too_many(wait)
        self._of_address.count(address, now)
        self._of_all.count(_EVERYBODY, now)
        return ApiError(
            401, ErrorCode.INVALID_API_KEY, "Incorrect API key provided.", headers={"WWW-Authenticate": "Bearer"}
        )

    def _wait(self, address: str, now: float) -> float:
        return max(self._of_address.blocked_for(address, now), self._of_all.blocked_for(_EVERYBODY, now))

    def _tell(self, address: str, problem: SignInProblem, now: float) -> None:
        if not self._told.take(now):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._on_failed(FailedSignIn(now, address, problem, left_out))

    def _address(self, request: web.Request) -> str:
        return client_address(request.remote, request.headers.getall("X-Forwarded-For", []), self._trusted)


def known_hosts(configured: tuple[str, ...], bound: str, *, is_local: bool) -> frozenset[str]:
    """The names of the listener: those configured; else, on loopback, this machine's own; else any."""
    if configured:
        return frozenset(_bracketed(host) for host in configured)
    return LOOPBACK_NAMES | {_bracketed(bound)} if is_local else frozenset()


def _bearer(request: web.Request) -> str | None:
    shown = request.headers.getall("Authorization", [])
    if len(shown) != 1:
        return None
    scheme, _, credential = shown[0].strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        return None
    return credential if len(credential) <= _CREDENTIAL_MOST or looks_like_token(credential) else None


def _name_of(host: str) -> str:
    """A `Host` without its port, as `hosts` spells names."""
    name, colon, port = host.lower().rpartition(":")
    return (name if colon and port.isdigit() and not name.endswith(":") else host.lower()).removesuffix(".")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host.lower().removesuffix(".")


def _foreign() -> ApiError:
    return ApiError(403, ErrorCode.ORIGIN_NOT_ALLOWED, "Pages of other origins may not use the admin API.")


def _forbidden() -> ApiError:
    return ApiError(403, ErrorCode.FORBIDDEN, "You may not do this.")
