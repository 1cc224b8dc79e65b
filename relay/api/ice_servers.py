"""Which STUN and TURN servers a client may use, and its short-lived credential for them."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from relay.api.auth import Gatekeeper
from relay.config import TurnSettings
from relay.core.turn_credentials import TurnCredential, turn_credential
from relay.identity.callers import Caller

_TAG_LENGTH = 16


@dataclass(frozen=True, slots=True)
class IceServers:
    """The configured servers, as JSON for a page and as `Link` headers; a STUN server never gets a credential."""

    settings: TurnSettings

    def body(self, value: str | None, now: float) -> dict[str, Any]:
        """`{"ice_servers", "ice_transport_policy", "expires_at"}`; `value` is the ephemeral key, None without one."""
        credential = self._credential(value, now)
        servers: list[dict[str, Any]] = []
        if stun := [str(each) for each in self.settings.urls if not each.is_turn]:
            servers.append({"urls": stun})
        if turn := [str(each) for each in self.settings.urls if each.is_turn]:
            servers.append({"urls": turn, **_proof(credential)})
        return {
            "ice_servers": servers,
            "ice_transport_policy": "relay" if self.settings.relay_only else "all",
            "expires_at": self._expires_at(now),
        }

    def links(self, value: str | None, now: float) -> list[tuple[str, str]]:
        """The same as headers of an SDP answer, one for each URL (RFC 9725 section 4.6); none without servers."""
        credential = self._credential(value, now)
        return [("Link", _link(str(each), _proof(credential) if each.is_turn else {})) for each in self.settings.urls]

    def _credential(self, value: str | None, now: float) -> TurnCredential | None:
        secret = self.settings.secret
        if secret is None or not any(each.is_turn for each in self.settings.urls):
            return None
        # An ephemeral key keeps one tag, so that the server's quota counts all its allocations together. A client key
        # may serve many people and is chosen by one: chance hides it, and gives each request its own quota.
        tag = secrets.token_hex(_TAG_LENGTH // 2) if value is None else _tag_of(value)
        return turn_credential(secret.reveal(), tag, self._expires_at(now))

    def _expires_at(self, now: float) -> int:
        return int(now) + self.settings.credential_seconds


@dataclass(frozen=True, slots=True)
class IceServersDoor:
    """Handler of the door; asking costs nothing but one HMAC and changes nothing, so a key may ask again."""

    gate: Gatekeeper
    servers: IceServers

    async def show(self, request: web.Request) -> web.Response:
        """The servers, for an ephemeral key, used or not, or a client key. Raises ApiError 401, 429."""
        # A page asks with its used key as well: before an ICE restart, when the first credential has expired.
        credential, who = await self.gate.holder(request)
        body = self.servers.body(None if isinstance(who, Caller) else credential, self.gate.clock())
        return web.json_response(body, headers={"Cache-Control": "no-store"})


def _tag_of(value: str) -> str:
    # The key is 32 random bytes: its hash names nobody and leads back to nothing.
    return hashlib.sha256(f"turn:{value}".encode("utf-8", "surrogatepass")).hexdigest()[:_TAG_LENGTH]


def _proof(credential: TurnCredential | None) -> dict[str, str]:
    if credential is None:
        return {}
    return {"username": credential.username, "credential": credential.password, "credential_type": "password"}


def _link(url: str, proof: dict[str, str]) -> str:
    # Nothing here needs escaping: URLs are parsed settings, user names `digits:tag`, credentials base64.
    parameters = "".join(f'; {name.replace("_", "-")}="{text}"' for name, text in proof.items())
    return f'<{url}>; rel="ice-server"{parameters}'
