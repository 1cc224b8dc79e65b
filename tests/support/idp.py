"""A stand-in for an identity provider: real HTTP on loopback, keys made here, rotation, and the ways it fails."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

_ALGORITHMS = get_default_algorithms()
AUDIENCE = "api://relay"
SUBJECT = "user-7c1e"


def b64(data: bytes) -> str:
    """Base64url without padding, as JOSE has it (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: Any) -> str:
    """One part of a token: JSON of a value, or the bytes or text that are given instead."""
    if isinstance(value, str):
        value = value.encode()
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


@dataclass(frozen=True)
class SigningKey:
    """A private key with its name and the one algorithm it is for."""

    kid: str
    algorithm: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public half as a JWKS lists it."""
        public = type(_ALGORITHMS[self.algorithm]).to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, data: bytes) -> bytes:
        return _ALGORITHMS[self.algorithm].sign(data, self.private)

    def token(self, claims: Any, **header: Any) -> str:
        """A token signed with it; a header of None is left out."""
        whole = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **header}
        whole = {name: value for name, value in whole.items() if value is not None}
        return self.signed(segment(whole), segment(claims))

    def signed(self, header: str, payload: str) -> str:
        """A token of two parts as they are."""
        return f"{header}.{payload}.{b64(self.sign(f'{header}.{payload}'.encode()))}"


def rsa_key(kid: str, algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, algorithm, rsa.generate_private_key(65537, bits))


def ec_key(kid: str, algorithm: str = "ES256") -> SigningKey:
    curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
    return SigningKey(kid, algorithm, ec.generate_private_key(curve()))


def ed_key(kid: str) -> SigningKey:
    return SigningKey(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


@functools.cache
def _own_key(number: int) -> SigningKey:
    # Making an RSA key takes longer than most tests; those of different numbers are different keys.
    return rsa_key(f"rsa-{number}")


class IdentityProvider:
    """`async with IdentityProvider() as idp`: `idp.issuer` is its URL, `idp.token(…)` what it signs.

    Its faults are attributes: `status` of every answer, `body` in place of the JWKS, `discovery` laid over that
    document, `held` (an asyncio.Event that every answer waits for). `fetches` counts requests by path; each sets
    `asked`.
    """

    def __init__(self) -> None:
        self.number = 1
        self.rsa = _own_key(self.number)
        self.ec = ec_key("ec-1")
        self.listed: list[dict[str, Any]] = [self.rsa.jwk, self.ec.jwk]
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.discovery: dict[str, Any] = {}
        self.held: asyncio.Event | None = None
        self.fetches: Counter[str] = Counter()
        self.asked = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good token; a change to None leaves one out."""
        now = int(time.time())
        whole = {"iss": self.issuer, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "nbf": now, "exp": now + 600}
        return {name: value for name, value in (whole | changed).items() if value is not None}

    def token(self, **changed: Any) -> str:
        """A good token with these claims."""
        return self.rsa.token(self.claims(**changed))

    def rotate(self) -> None:
        """Sign with new keys and list no others."""
        self.number += 1
        self.rsa, self.ec = _own_key(self.number), ec_key(f"ec-{self.number}")
        self.listed = [self.rsa.jwk, self.ec.jwk]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await self.start()
        return self

    async def start(self) -> None:
        """Listen, on the same port if it listened before."""
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def go_away(self) -> None:
        """Refuse connections until `start`."""
        for site in list(self._runner.sites):
            await site.stop()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _discovery(self, request: web.Request) -> web.Response:
        document = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
        }
        return await self._answer(request, json.dumps(document | self.discovery).encode())

    async def _keys(self, request: web.Request) -> web.Response:
        return await self._answer(request, self.body or json.dumps({"keys": self.listed}).encode())

    async def _answer(self, request: web.Request, body: bytes) -> web.Response:
        self.fetches[request.path] += 1
        self.asked.set()
        if self.held is not None:
            await self.held.wait()
        return web.Response(status=self.status, body=body, content_type="application/json", headers=self.headers)
