"""What the relay shows the service to be let in: an API key, or a token of Entra ID."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Protocol

from relay.upstream.service import ServiceRefusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.config import Secret

# Seconds of life left at which a new token is fetched beside the old one, and below which the old one is not used.
REFRESH_SECONDS = 300
UNUSABLE_SECONDS = 30

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_ENTRA_CODE = re.compile(r"AADSTS\d{1,10}")


class CredentialError(Exception):
    """No credential to show; `detail` tells an operator what to look at and holds no secret."""

    def __init__(self, refusal: ServiceRefusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail


class Credential(Protocol):
    """The relay's own credential at the service."""

    @property
    def expires_at(self) -> float | None:
        """When what is shown ends, Unix seconds; None without an end or before the first use."""
        ...

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate one request. Raises CredentialError."""
        ...

    async def close(self) -> None:
        """Give back what the credential holds; may be called twice."""
        ...


class AccessToken(Protocol):
    """A token and its end, in seconds since the epoch."""

    @property
    def token(self) -> str: ...  # noqa: D102 - named by azure-core

    @property
    def expires_on(self) -> int: ...  # noqa: D102 - named by azure-core


class TokenSource(Protocol):
    """What is used of an azure-identity credential."""

    async def get_token(self, *scopes: str) -> AccessToken: ...  # noqa: D102 - named by azure-core

    async def close(self) -> None: ...  # noqa: D102 - named by azure-core


class AzureKey:
    """An Azure resource key in the `api-key` header."""

    expires_at: float | None = None

    def __init__(self, key: Secret) -> None:
        self._key = key

    async def headers(self) -> dict[str, str]:
        """Return the key's header."""
        return {"api-key": self._key.reveal()}

    async def close(self) -> None:
        """Nothing is held."""


class BearerKey:
    """An OpenAI API key as a bearer."""

    expires_at: float | None = None

    def __init__(self, key: Secret) -> None:
        self._key = key

    async def headers(self) -> dict[str, str]:
        """Return the bearer's header."""
        return {"Authorization": f"Bearer {self._key.reveal()}"}

    async def close(self) -> None:
        """Nothing is held."""


class EntraCredential:
    """A token of Entra ID, kept until shortly before its end; however many requests wait, one fetch runs."""

    def __init__(
        self,
        source: TokenSource,
        scope: str,
        timeout_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._scope = scope
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._token: AccessToken | None = None
        self._fetching: asyncio.Task[CredentialError | None] | None = None
        self._closed = False

    @property
    def expires_at(self) -> float | None:
        """When the token in use ends."""
        return None if self._token is None else self._token.expires_on

    async def headers(self) -> dict[str, str]:
        """Return the token's header; wait only if no usable token is at hand."""
        if self._closed:
            raise CredentialError(ServiceRefusal.UNREACHABLE, "the relay is stopping")
        life = self._life()
        if life < REFRESH_SECONDS:
            fetching = self._fetch()
            if life < UNUSABLE_SECONDS:
                # A caller that goes away must not cancel the fetch others wait for: wait() leaves it alone.
                await asyncio.wait({fetching})
                if fetching.cancelled():
                    raise CredentialError(ServiceRefusal.UNREACHABLE, "the relay is stopping")
                if (failure := fetching.result()) is not None:
                    raise CredentialError(failure.refusal, failure.detail)
        token = self._token
        if token is None:
            raise CredentialError(ServiceRefusal.UNAUTHORIZED, "no Entra token")
        return {"Authorization": f"Bearer {token.token}"}

    async def close(self) -> None:
        """Stop fetching and close the source."""
        self._closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        await self._source.close()

    def _life(self) -> float:
        return self._token.expires_on - self._now() if self._token is not None else 0.0

    def _fetch(self) -> asyncio.Task[CredentialError | None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._replace_token(), name="entra-token")
        return self._fetching

    async def _replace_token(self) -> CredentialError | None:
        """Fetch once; a failure is returned, because a refresh beside a usable token has nobody to raise to."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                token = await self._source.get_token(self._scope)
        except TimeoutError:
            return CredentialError(ServiceRefusal.TIMEOUT, f"no Entra token within {self._timeout_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - a foreign library: whatever it raises, there is no token
            return _no_token(error, self._scope)
        if _TOKEN.fullmatch(token.token) is None:
            return CredentialError(ServiceRefusal.UNAUTHORIZED, "Entra gave a token that fits no header")
        self._token = token
        return None


def entra_credential(scope: str, timeout_seconds: float) -> EntraCredential:
    """Find the relay's identity as azure-identity does: environment, workload, managed identity, developer login."""
    # Imported here: with a key the heavy tree behind it is never loaded.
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    return EntraCredential(DefaultAzureCredential(), scope, timeout_seconds)


def _no_token(error: Exception, scope: str) -> CredentialError:
    # The library's message quotes tenants and endpoints at length; the code alone names the cause.
    codes = ", ".join(dict.fromkeys(_ENTRA_CODE.findall(str(error))))
    cause = f"{type(error).__name__}{', ' + codes if codes else ''}"
    return CredentialError(
        ServiceRefusal.UNAUTHORIZED,
        f"no Entra token for {scope} ({cause}); check the managed identity or the AZURE_… variables of the relay",
    )
