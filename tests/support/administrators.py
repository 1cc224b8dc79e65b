"""A relay whose administrators come in by every way there is: its own key, keys of the store, an issuer's tokens."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

import relay.admin_side
from relay.api.failure_limit import FailureLimit
from relay.app import Running, running
from relay.config import AdminOidcSettings, AdminSettings, Secret
from relay.core.access import Role
from relay.core.claims import ALL_TENANTS
from support.idp import AUDIENCE, IdentityProvider, rsa_key, segment
from support.service import relay_settings

ADMIN_KEY = "canary-operations-key-0001"
TENANT = "acme"
FOREIGN = "umbrella"
CLAIMS = {role: f"relay.{role.value}" for role in Role}


@dataclass
class Answer:
    """An answer, read whole."""

    status: int
    text: str
    headers: Any = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def refusal(self) -> tuple[int, str]:
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        return self.status, error["code"]


class Office:
    """The admin API as its callers see it; `http` shows no credential by itself."""

    def __init__(self, url: str, http: aiohttp.ClientSession, idp: IdentityProvider | None = None) -> None:
        self.url = url
        self.http = http
        self.idp = idp

    async def ask(self, method: str, path: str, bearer: str | None = ADMIN_KEY, **options: Any) -> Answer:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        headers |= options.pop("headers", {})
        async with self.http.request(method, f"{self.url}/admin/v1{path}", headers=headers, **options) as response:
            return Answer(response.status, await response.text(), response.headers)

    def token(self, role: Role, tenant: str | None = None, **changed: Any) -> str:
        assert self.idp is not None
        name = f"{role.value} of {tenant or 'all'}"
        return self.idp.token(**{"roles": [CLAIMS[role]], "name": name, "tenant": tenant or ALL_TENANTS, **changed})

    def bad_tokens(self) -> dict[str, str]:
        """A token of an owner with one thing wrong, by what that is."""
        assert self.idp is not None
        idp, now = self.idp, int(time.time())
        good = idp.claims(roles=[CLAIMS[Role.OWNER]], name="mallory", tenant=ALL_TENANTS)
        stranger = rsa_key(idp.rsa.kid)
        return {
            "expired": idp.rsa.token({**good, "iat": now - 7200, "nbf": now - 7200, "exp": now - 3600}),
            "not yet": idp.rsa.token({**good, "nbf": now + 3600, "exp": now + 7200}),
            "wrong audience": idp.rsa.token({**good, "aud": "api://another"}),
            "wrong issuer": idp.rsa.token({**good, "iss": "http://127.0.0.1:1/evil"}),
            "alg none": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(good)}.",
            "unknown kid": idp.rsa.token(good, kid="rsa-99"),
            "key of another JWKS": stranger.token(good),
            "no signature": idp.rsa.token(good).rpartition(".")[0] + ".",
        }

    async def key(self, role: Role, name: str, tenant: str | None = None, **more: Any) -> dict[str, Any]:
        """Make an admin key."""
        body = {"kind": "admin", "name": name, "role": role.value, **({} if tenant is None else {"tenant": tenant})}
        made = await self.ask("POST", "/keys", json={**body, **more})
        assert made.status == 201, made.text
        return dict(made.json)


def oidc_settings(idp: IdentityProvider) -> AdminOidcSettings:
    return AdminOidcSettings(
        issuer=idp.issuer,
        audiences=(AUDIENCE,),
        client_id="relay-console",
        tenant_claim="tenant",
        owners=(CLAIMS[Role.OWNER],),
        governors=(CLAIMS[Role.GOVERNOR],),
        operators=(CLAIMS[Role.OPERATOR],),
        viewers=(CLAIMS[Role.VIEWER],),
    )


def admin_settings() -> AdminSettings:
    return AdminSettings(host="127.0.0.1", port=0, key=Secret(ADMIN_KEY))


def patient(patch: pytest.MonkeyPatch) -> None:
    """Lift the limits on guesses and on changes: what is tested here is who may do what, hundreds of times."""
    patch.setattr("relay.api.admin_auth.FailureLimit", lambda **_: FailureLimit(burst=1_000_000))
    unlimited = functools.partial(relay.admin_side.create_admin_app, changes_at_once=1_000_000)
    patch.setattr("relay.admin_side.create_admin_app", unlimited)


@contextlib.asynccontextmanager
async def office(**sections: Any) -> AsyncIterator[tuple[Office, Running]]:
    """A relay without a service behind it, an issuer beside it."""
    async with IdentityProvider() as idp, contextlib.AsyncExitStack() as stack:
        settings = relay_settings(
            "http://127.0.0.1:9", admin=admin_settings(), admin_oidc=oidc_settings(idp), **sections
        )
        world = await stack.enter_async_context(running(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Office(world.operations_url, http, idp), world
