"""Health for load balancers and orchestrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from relay.core.doors import Sessions


@dataclass(frozen=True, slots=True)
class Probes:
    """`/livez` and `/readyz`; with `details` they and every reason are told, without only the checks are named."""

    sessions: Sessions
    details: Mapping[str, object] | None = None

    async def live(self, _request: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"status": "alive"})

    async def ready(self, _request: web.Request) -> web.Response:
        """200 when a session could be opened now, else 503 with what stands against it."""
        reasons = dict(self.sessions.readiness())
        if self.sessions.draining:
            reasons.setdefault("draining", "the relay is about to stop")
        told = {} if self.details is None else {"details": dict(self.details)}
        if not reasons:
            return web.json_response({"status": "ready", **told})
        shown = sorted(reasons) if self.details is None else reasons
        return web.json_response({"status": "not ready", "reasons": shown, **told}, status=503)

    def routes(self) -> list[web.RouteDef]:
        """Both probes."""
        return [web.get("/livez", self.live), web.get("/readyz", self.ready)]
