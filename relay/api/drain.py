"""Draining on an operator's word: the same that SIGTERM begins, without the end of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from relay.core.access import Permission
from relay.core.stored import AuditNote
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from relay.api.admin_auth import AdminGate
    from relay.core.access import Administrator
    from relay.core.doors import Sessions


@dataclass(frozen=True, slots=True)
class DrainDoor:
    """`POST /drain`. `begin` starts the drain, or finds it under way, and returns the number of sessions left.

    `gate` knows who may; with `open_to_all` whoever reaches the listener does. `write` keeps a row of the audit log,
    and never makes anybody wait: a relay whose store is away must be taken out of service all the same.
    """

    begin: Callable[[], int]
    sessions: Sessions
    seconds: float
    gate: AdminGate
    open_to_all: bool
    write: Callable[[AuditNote], None]

    async def post(self, request: web.Request) -> web.Response:
        """202 and what is left to drain; it cannot be taken back, for clients have been told that they end."""
        who = await self._admit(request)
        if not self.sessions.draining:
            name, role = ("", "") if who is None else (who.name, who.role.value)
            self.write(AuditNote(name, role, "drain", body={"note": "by POST /drain"}))
        return web.json_response({"status": "draining", "sessions": self.begin(), "seconds": self.seconds}, status=202)

    async def _admit(self, request: web.Request) -> Administrator | None:
        # A page that a browser on this machine shows can post here; browsers say so, and cannot leave it out.
        if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            raise ApiError(403, ErrorCode.ORIGIN_NOT_ALLOWED, "Pages may not drain the relay.")
        if self.open_to_all:
            return None
        found = await self.gate.require(request, Permission.OPERATE)
        if found.tenant is not None:
            message = "This concerns the whole relay, and you are confined to one tenant."
            raise ApiError(403, ErrorCode.FORBIDDEN, message)
        return found
