"""A stand-in of an OpenID Connect provider: two endpoints, the code flow with PKCE, tokens signed by nobody."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

CLIENT_ID = "relay-console"


class FakeProvider:
    """Sends whoever comes straight back with a code. `nonce` and `state`, if set, take the place of what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.nonce: str | None = None
        self.state: str | None = None
        self.error: str | None = None
        self.tokens: list[str] = []
        self._codes: dict[str, Any] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve on loopback."""
        app = web.Application()
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def sign_in(self) -> dict[str, str]:
        """What the admin API tells the console of it."""
        return {"issuer": self.url, "client_id": CLIENT_ID, "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token"}  # fmt: skip

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        state = self.state or asked["state"]
        answer = (
            {"error": self.error, "state": state} if self.error else {"code": code, "state": state, "iss": self.url}
        )
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        headers = {"access-control-allow-origin": request.headers.get("origin", "")}
        asked = self._codes.pop(str(form["code"]), None)
        if (
            asked is None
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge(str(form["code_verifier"])) != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400, headers=headers)
        claims = {"iss": self.url, "aud": CLIENT_ID, "nonce": self.nonce or asked["nonce"]}
        token = f"{part({'alg': 'none'})}.{part(claims)}.{secrets.token_hex(8)}"
        self.tokens.append(token)
        return web.json_response({"id_token": token, "token_type": "Bearer"}, headers=headers)


def challenge(verifier: str) -> str:
    """RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def part(value: dict[str, Any]) -> str:
    """One part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
