"""Draining on an operator's word: the same that SIGTERM begins, without the end of the process."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from relay.config import Secret
from relay.errors import ApiError, ErrorCode


@dataclass(frozen=True, slots=True)
class DrainDoor:
    """`POST /drain`. `begin` starts the drain, or finds it under way, and returns the number of sessions left.

    `key` is what an operator has to show; None with `is_local` lets whoever reaches the listener, and nobody without.
    """

    begin: Callable[[], int]
    seconds: float
    key: Secret | None
    is_local: bool

    async def post(self, request: web.Request) -> web.Response:
        """202 and what is left to drain; it cannot be taken back, for clients have been told that they end."""
        self._admit(request)
        left = self.begin()
        return web.json_response({"status": "draining", "sessions": left, "seconds": self.seconds}, status=202)

    def _admit(self, request: web.Request) -> None:
        # A page that a browser on this machine shows can post here; browsers say so, and cannot leave it out.
        if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            raise ApiError(403, ErrorCode.ORIGIN_NOT_ALLOWED, "Pages may not drain the relay.")
        if self.key is None:
            if not self.is_local:
                message = "Set admin.key: this listener can be reached from other machines."
                raise ApiError(403, ErrorCode.INVALID_API_KEY, message)
            return
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(errors="surrogateescape"), self.key.reveal().encode()):
            raise ApiError(401, ErrorCode.INVALID_API_KEY, "The key is not the operations listener's.")
