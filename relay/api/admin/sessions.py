"""Sessions: those that run, those that are over, one in detail; and ending them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer, narrowed, note, nothing_there
from relay.api.admin.route import Route, body_of, query_of
from relay.api.admin.schemas import (
    DEFAULT_LIMIT,
    LIMIT,
    NAME,
    NOTE,
    NUMBER,
    SINCE,
    TEXT,
    UNIX,
    WHOLE,
    by_name,
    listing,
    maybe,
    obj,
    one_of,
)
from relay.core.access import Permission
from relay.core.claims import is_tenant
from relay.core.lifecycle import Dialect, LegName, Phase
from relay.core.stored import SessionPage
from relay.core.timeline import Moment
from relay.errors import EndReason

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.admin.ports import Ports
    from relay.core.access import Administrator

_ENDED_BY = "over the admin API"
_LEG = obj({"loss": maybe(NUMBER), "jitter_ms": maybe(NUMBER), "rtt_ms": maybe(NUMBER), "packets_in": WHOLE,
            "packets_out": WHOLE})  # fmt: skip
_LIVE: dict[str, Any] = {
    "id": TEXT, "tenant": TEXT, "subject": TEXT, "policy": TEXT, "revision": TEXT, "door": TEXT,
    "dialect": one_of(Dialect), "phase": one_of(Phase), "started_at": UNIX, "seconds": NUMBER, "deployment": TEXT,
    "member": TEXT, "transports": by_name(TEXT), "quality": obj({"downstream": _LEG, "upstream": _LEG}),
    "turns": by_name(WHOLE), "tokens": WHOLE, "dollars": NUMBER,
}  # fmt: skip
_OVER: dict[str, Any] = {
    "ended_at": UNIX, "reason": one_of(EndReason), "detail": TEXT, "stages": by_name(NUMBER),
    "request_ids": listing(TEXT), "trace_id": maybe(TEXT), "reattached": WHOLE,
}  # fmt: skip
_ENTRY = obj({"at": UNIX, "kind": one_of(Moment)}, {"leg": one_of(LegName), "text": TEXT, "seconds": NUMBER,
             "tokens": WHOLE})  # fmt: skip
LIVE_LIST = obj({"sessions": listing(obj(_LIVE)), "recorded": listing({"type": "object"}), "more": WHOLE})
_RECORDED = obj({"sessions": listing(obj({**_LIVE, **_OVER})), "next": maybe(TEXT)})
_DETAIL = obj({**_LIVE, "timeline": listing(_ENTRY), "timeline_dropped": WHOLE}, _OVER)
_WHY = obj({}, {"note": NOTE})


@dataclass(frozen=True, slots=True)
class SessionRoutes:
    """The handlers."""

    ports: Ports

    async def live(self, _request: web.Request, administrator: Administrator) -> web.Response:
        """The sessions that run in this process."""
        await self.ports.relay.refresh()
        return answer(self.listed(administrator.tenant))

    def listed(self, tenant: str | None) -> dict[str, Any]:
        """The list of one tenant's sessions, or of all."""
        shown, running = self.ports.live.views(tenant)
        return {"sessions": [each.as_json() for each in shown], "recorded": [], "more": running - len(shown)}

    async def recorded(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Sessions that are over, the last ended first."""
        query = query_of(request)
        before, limit = query.pop("before", None), query.pop("limit", DEFAULT_LIMIT)
        wanted = narrowed(query, administrator)
        page = SessionPage((), None) if wanted is None else await self.ports.archive.search(wanted, before, limit)
        bodies = [{name: value for name, value in row.body.items() if name != "timeline_dropped"} for row in page.rows]
        return answer({"sessions": bodies, "next": page.next})

    async def one(self, request: web.Request, administrator: Administrator) -> web.Response:
        """One session, live or recorded, with what happened in it."""
        session_id = request.match_info["id"]
        await self.ports.relay.refresh()
        found = self.ports.live.find(session_id)
        if found is not None and administrator.sees(found[0].tenant):
            live, timeline = found
            more = {"timeline": list(timeline.entries()), "timeline_dropped": timeline.dropped}
            return answer(live.as_json() | more)
        row = await self.ports.archive.get(session_id)
        if row is None or not administrator.sees(row.tenant):
            raise nothing_there()
        return answer({"timeline_dropped": 0, **row.body, "timeline": list(row.timeline or ())})

    async def end(self, request: web.Request, administrator: Administrator) -> web.Response:
        """End one session: both legs, and the client is told why."""
        session_id = request.match_info["id"]
        found = self.ports.live.find(session_id)
        if found is None or not administrator.sees(found[0].tenant):
            raise nothing_there()
        tenant = found[0].tenant
        await self.ports.audit.append(note(administrator, "session.end", session_id, tenant, **_said(request)))
        self.ports.live.end(session_id, EndReason.OPERATOR_ENDED, _ENDED_BY)
        return answer({"id": session_id, "status": "ending"}, status=202)

    async def end_tenant(self, request: web.Request, administrator: Administrator) -> web.Response:
        """End all sessions of a tenant."""
        tenant = request.match_info["tenant"]
        if not is_tenant(tenant) or not administrator.sees(tenant):
            raise nothing_there()
        await self.ports.audit.append(note(administrator, "tenant.end", tenant, tenant, **_said(request)))
        ended = self.ports.live.end_tenant(tenant, EndReason.OPERATOR_ENDED, _ENDED_BY)
        return answer({"ended": ended}, status=202)


def _said(request: web.Request) -> dict[str, str]:
    why = body_of(request).get("note", "")
    return {"note": why} if why else {}


def session_routes(handlers: SessionRoutes) -> list[Route]:
    """The routes of this module; `/sessions/recorded` comes before `/sessions/{id}`, which it would match."""
    period = {"since": SINCE, "until": SINCE}
    recorded_query = {"tenant": NAME, "subject": NAME, "reason": one_of(EndReason), **period, "before": NAME,
                      "limit": LIMIT}  # fmt: skip
    identifier = r"{id:[A-Za-z0-9_-]{1,64}}"
    return [
        Route("GET", "/sessions", Permission.READ, handlers.live, "The sessions that run on this node",
              answer_schema=LIVE_LIST, tenant_bound=True),
        Route("GET", "/sessions/recorded", Permission.READ, handlers.recorded, "Sessions that are over",
              answer_schema=_RECORDED, tenant_bound=True, query=recorded_query),
        Route("GET", f"/sessions/{identifier}", Permission.READ, handlers.one, "One session with its timeline",
              answer_schema=_DETAIL, tenant_bound=True),
        Route("POST", f"/sessions/{identifier}/end", Permission.OPERATE, handlers.end, "End a session at both legs",
              request_schema=_WHY, answer_schema=obj({"id": TEXT, "status": TEXT}), tenant_bound=True,
              action="session.end", status=202),
        Route("POST", "/tenants/{tenant}/end", Permission.OPERATE, handlers.end_tenant,
              "End all sessions of a tenant on this node", request_schema=_WHY, answer_schema=obj({"ended": WHOLE}),
              tenant_bound=True, action="tenant.end", status=202),
    ]  # fmt: skip
