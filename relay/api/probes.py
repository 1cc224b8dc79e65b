"""Health for load balancers and orchestrators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from relay.core.doors import Sessions


@dataclass(frozen=True, slots=True)
class Probes:
    """`/livez`, `/startupz` and `/readyz`; with `details` they and every reason are told, else the checks are named.

    `started` tells whether the relay has come up.
    """

    sessions: Sessions
    details: Mapping[str, object] | None = None
    started: Callable[[], bool] = lambda: True

    async def live(self, _request: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"status": "alive"})

    async def start_up(self, _request: web.Request) -> web.Response:
        """200 once the relay has come up, for good; 503 until then."""
        up = self.started()
        return web.json_response({"status": "started" if up else "starting"}, status=200 if up else 503)

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
        """All probes."""
        return [
            web.get("/livez", self.live),
            web.get("/startupz", self.start_up),
            web.get("/readyz", self.ready),
        ]
