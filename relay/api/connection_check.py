"""The door behind which a browser finds out which ways to the relay's media ports are open to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from relay.api.auth import Gatekeeper
from relay.api.bodies import SDP_MAX_BYTES, media_type, offer_text, read_body
from relay.core.sdp import SdpError
from relay.errors import ApiError, ErrorCode
from relay.identity.callers import Caller

_SDP = "application/sdp"
_RETRY_SECONDS = 10


class ConnectionChecks(Protocol):
    """What answers the offers."""

    def open(self, offer: str, asker: str) -> str | None:
        """The answer to an offer; None when too many began just now, of this asker or in all. Raises SdpError."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionCheckDoor:
    """Handler of the door: an offer in, an answer out; no session, and the service is not asked."""

    gate: Gatekeeper
    checks: ConnectionChecks
    body_seconds: float

    async def answer(self, request: web.Request) -> web.Response:
        """For an ephemeral key, used or not, or a client key. Raises ApiError 400, 401, 413, 415, 429."""
        credential, who = await self.gate.holder(request)
        media_type(request, (_SDP,))
        offer = offer_text(await read_body(request, SDP_MAX_BYTES, self.body_seconds))
        asker = (
            who.owner
            if isinstance(who, Caller)
            else hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()
        )
        try:
            answer = self.checks.open(offer, asker)
        except SdpError as error:
            raise ApiError(400, ErrorCode.INVALID_OFFER, str(error)) from None
        if answer is None:
            message = "Too many connection checks at this moment. Try again later."
            retry = {"retry-after": str(_RETRY_SECONDS)}
            raise ApiError(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, headers=retry)
        return web.Response(body=answer.encode(), headers={"Content-Type": _SDP, "Cache-Control": "no-store"})
