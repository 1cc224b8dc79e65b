"""What was decided, what administrators did, what was used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer, narrowed
from relay.api.admin.route import Route, query_of
from relay.api.admin.schemas import (
    DAY,
    DEFAULT_LIMIT,
    LIMIT,
    NAME,
    NUMBER,
    SINCE,
    TEXT,
    TRUTH,
    UNIX,
    WHOLE,
    by_name,
    listing,
    maybe,
    obj,
    one_of,
)
from relay.core.access import Permission
from relay.core.stored import UsageBy
from relay.core.verdicts import Verdict
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.admin.ports import Ports
    from relay.core.access import Administrator
    from relay.core.stored import UsageRow

_NUMBER_BEFORE: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 10**15, "description": "rows below this"}
_TOP = 100
_DECISION = obj(
    {
        "number": WHOLE, "at": UNIX, "session": TEXT, "tenant": TEXT, "subject": TEXT, "policy": TEXT,
        "revision": TEXT, "leg": TEXT, "event_type": TEXT, "verdict": TEXT, "rule": TEXT, "mode": TEXT,
        "would_be": maybe(TEXT), "content_sha256": maybe(TEXT),
    }
)  # fmt: skip
_AUDIT = obj(
    {
        "number": WHOLE, "at": UNIX, "actor": TEXT, "role": TEXT, "action": TEXT, "tenant": TEXT, "target": TEXT,
        "accepted": TRUTH, "body": {"type": "object"}, "previous": TEXT, "hash": TEXT,
    }
)  # fmt: skip
_USED = {"sessions": WHOLE, "seconds": NUMBER, "tokens": WHOLE, "dollars": NUMBER}
_USAGE = obj(_USED, {"day": TEXT, "tenant": TEXT, "subject": TEXT})


@dataclass(frozen=True, slots=True)
class Records:
    """The handlers."""

    ports: Ports

    async def decisions(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Decisions, the newest first."""
        query = query_of(request)
        before, limit = query.pop("before", None), query.pop("limit", DEFAULT_LIMIT)
        wanted = narrowed(query, administrator)
        rows = [] if wanted is None else await self.ports.decisions.search(wanted, before, limit)
        shown = []
        for row in rows:
            fields = row.record.fields()
            subject = fields.pop("subject_hash")
            shown.append({"number": row.number, "at": row.record.at, "subject": subject, **fields})
        return answer({"decisions": shown, "next": _next(rows, limit)})

    async def audit(self, request: web.Request, administrator: Administrator) -> web.Response:
        """The audit log, the newest rows first."""
        query = query_of(request)
        before, limit = query.pop("before", None), query.pop("limit", DEFAULT_LIMIT)
        wanted = narrowed(query, administrator)
        rows = [] if wanted is None else await self.ports.audit.search(wanted, before, limit)
        shown = [
            {
                "number": row.number, "at": row.at, "actor": row.note.actor, "role": row.note.role,
                "action": row.note.action, "tenant": row.note.tenant, "target": row.note.target,
                "accepted": row.note.accepted, "body": dict(row.note.body), "previous": row.previous, "hash": row.hash,
            }
            for row in rows
        ]  # fmt: skip
        return answer({"audit": shown, "next": _next(rows, limit)})

    async def verify(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        """Whether the audit log is whole."""
        verdict = await self.ports.audit.verify()
        return answer({"ok": verdict.ok, "rows": verdict.rows, "first_bad": verdict.first_bad})

    async def usage(self, request: web.Request, administrator: Administrator) -> web.Response:
        """What was used, by day, tenant or subject."""
        query, today = query_of(request), _today()
        by = UsageBy(query.get("by", UsageBy.DAY))
        wanted = narrowed({"tenant": query["tenant"]} if "tenant" in query else {}, administrator)
        rows: Sequence[UsageRow] = ()
        if wanted is not None:
            since, until = _day(query, "since", today), _day(query, "until", today)
            rows = await self.ports.usage.report(since, until, wanted.get("tenant"), by)
        return answer({"rows": [_used(row) for row in rows]})

    async def limits(self, _request: web.Request, administrator: Administrator) -> web.Response:
        """The configured quotas, and what was used of them today by those who used most."""
        today, tenant = _today(), administrator.tenant
        used: dict[str, Any] = {"day": today}
        await self.ports.usage.settle()
        for name, by in (("tenants", UsageBy.TENANT), ("subjects", UsageBy.SUBJECT)):
            rows = await self.ports.usage.report(today, today, tenant, by)
            most = sorted(rows, key=lambda row: (row.tokens, row.seconds), reverse=True)[:_TOP]
            used[name] = [_used(row) for row in most]
        return answer({"limits": dict(self.ports.relay.limits), "today": used})


def _day(query: dict[str, Any], name: str, otherwise: str) -> str:
    """A day that exists. Raises ApiError 400."""
    try:
        return date.fromisoformat(query.get(name, otherwise)).isoformat()
    except ValueError:
        raise ApiError(400, ErrorCode.INVALID_VALUE, f"{name} is no day.", param=name) from None


def _next(rows: Sequence[Any], limit: int) -> int | None:
    """What to ask with for the rows after these; None when there were fewer than asked for."""
    return rows[-1].number if len(rows) == limit and rows[-1].number > 1 else None


def _used(row: UsageRow) -> dict[str, Any]:
    of = {"day": row.day, "tenant": row.tenant, "subject": row.subject}
    figures = {"sessions": row.sessions, "seconds": round(row.seconds, 3), "tokens": row.tokens,
               "dollars": round(row.dollars, 6)}  # fmt: skip
    return {name: value for name, value in of.items() if value is not None} | figures


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def record_routes(ports: Ports) -> list[Route]:
    """The routes of this module."""
    handlers = Records(ports)
    page = {"since": SINCE, "until": SINCE, "before": _NUMBER_BEFORE, "limit": LIMIT}
    return [
        Route("GET", "/usage", Permission.READ, handlers.usage, "What was used by day, tenant or subject",
              answer_schema=obj({"rows": listing(_USAGE)}), tenant_bound=True,
              query={"since": DAY, "until": DAY, "tenant": NAME, "by": one_of(UsageBy)}),
        Route("GET", "/limits", Permission.READ, handlers.limits, "The quotas, and what was used of them today",
              answer_schema=obj({"limits": by_name({}), "today": obj(
                  {"day": TEXT, "tenants": listing(_USAGE), "subjects": listing(_USAGE)})}), tenant_bound=True),
        Route("GET", "/decisions", Permission.READ, handlers.decisions, "What policies decided",
              answer_schema=obj({"decisions": listing(_DECISION), "next": maybe(WHOLE)}), tenant_bound=True,
              query={"session": NAME, "tenant": NAME, "policy": NAME, "verdict": one_of(Verdict), "rule": NAME,
                     **page}),
        Route("GET", "/audit", Permission.READ, handlers.audit, "What administrators did and tried",
              answer_schema=obj({"audit": listing(_AUDIT), "next": maybe(WHOLE)}), tenant_bound=True,
              query={"tenant": NAME, "actor": NAME, "action": NAME, "target": NAME,
                     "accepted": TRUTH, **page}),
        Route("GET", "/audit/verify", Permission.READ, handlers.verify, "Whether the audit log is whole",
              answer_schema=obj({"ok": TRUTH, "rows": WHOLE, "first_bad": maybe(WHOLE)})),
    ]  # fmt: skip
