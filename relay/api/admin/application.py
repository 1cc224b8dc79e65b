"""The admin API as an application made from its table: who asks is proved and judged before any handler runs."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from relay.api.admin.openapi import plain_path
from relay.api.admin.reading import read_json, read_query, read_text
from relay.api.admin.route import ANONYMOUS, BODY, JSON_TYPE, QUERY, Route
from relay.core.quota import TokenBucket
from relay.core.stored import AuditNote, StoreError, UnfitText
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from relay.core.access import Administrator

# Changes asked for by one administrator: each leaves a row in the audit log, the refused ones too.
CHANGES_AT_ONCE = 60
CHANGES_A_SECOND = 2.0
_MOST_ADMINISTRATORS = 1_000
_TARGET_MOST = 200


class AdminGate(Protocol):
    """Knows who asks."""

    def refuse_foreign(self, request: web.Request) -> None:
        """Refuse what `administrator` refuses whoever asks. Raises ApiError 403."""
        ...

    async def administrator(self, request: web.Request) -> Administrator:
        """Who asks, proved. Raises ApiError 401, 403, 429."""
        ...


class AuditWriter(Protocol):
    """Takes rows of the audit log."""

    async def append(self, note: AuditNote) -> object:
        """Write a row; it is kept when this returns. Raises StoreError."""
        ...


class AdminTelemetry(Protocol):
    """Is told of what is asked."""

    def requested(self, route: str, status: int) -> None:
        """Hear of a request and its answer's status; `route` is the table's."""
        ...

    def refused_unwritten(self, action: str) -> None:
        """Hear that a refused change could not be written to the audit log."""
        ...


class _ChangeRates:
    """How often each administrator may ask for changes; whoever asked longest ago is forgotten first."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, name: str, now: float) -> bool:
        bucket = self._buckets.setdefault(name, TokenBucket(CHANGES_A_SECOND, self._at_once, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MOST_ADMINISTRATORS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


def create_admin_app(
    routes: Iterable[Route],
    gate: AdminGate,
    audit: AuditWriter,
    telemetry: AdminTelemetry,
    changes_at_once: int = CHANGES_AT_ONCE,
) -> web.Application:
    """Everything below `/admin/v1`. The listener's middlewares turn ApiError into the one error shape."""
    doorkeeper = _Doorkeeper(gate, audit, telemetry, _ChangeRates(changes_at_once))
    app = web.Application()
    for route in routes:
        app.router.add_route(route.method, route.path, doorkeeper.serving(route))
    app.on_cleanup.append(doorkeeper.close)
    return app


class _Doorkeeper:
    """What is done around each handler."""

    def __init__(self, gate: AdminGate, audit: AuditWriter, telemetry: AdminTelemetry, rates: _ChangeRates) -> None:
        self._gate = gate
        self._audit = audit
        self._telemetry = telemetry
        self._rates = rates
        self._changing: set[asyncio.Task[web.StreamResponse]] = set()

    async def close(self, _app: web.Application | None = None) -> None:
        """Wait for changes whose askers are gone."""
        await asyncio.gather(*self._changing, return_exceptions=True)

    def serving(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What aiohttp calls for a route."""
        name = f"{route.method} {plain_path(route.path)}"

        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                response = await self._answer(route, request)
            except ApiError as error:
                self._telemetry.requested(name, error.status)
                raise
            self._telemetry.requested(name, response.status)
            return response

        return serve

    async def _answer(self, route: Route, request: web.Request) -> web.StreamResponse:
        if route.permission is None:
            self._gate.refuse_foreign(request)
            request[QUERY], request[BODY] = read_query(request, route.query), {}
            return await route.handler(request, ANONYMOUS)
        administrator = await self._gate.administrator(request)
        if not route.action:
            return await self._admitted(route, request, administrator)
        if not self._rates.take(administrator.name, time.monotonic()):
            message = "Too many changes at a time."
            raise ApiError(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, headers={"retry-after": "1"})
        # Whoever hangs up leaves no change half done, and keeps no refusal out of the audit log.
        change = asyncio.create_task(self._change(route, request, administrator), name=route.action)
        self._changing.add(change)
        change.add_done_callback(self._changed)
        return await asyncio.shield(change)

    def _changed(self, change: asyncio.Task[web.StreamResponse]) -> None:
        self._changing.discard(change)
        if not change.cancelled():
            change.exception()  # whoever asked and is still there is told of it

    async def _change(self, route: Route, request: web.Request, administrator: Administrator) -> web.StreamResponse:
        try:
            return await self._admitted(route, request, administrator)
        except ApiError as refusal:
            await self._note_refusal(route, request, administrator, refusal)
            raise

    async def _admitted(self, route: Route, request: web.Request, administrator: Administrator) -> web.StreamResponse:
        require(route, administrator)
        request[QUERY] = read_query(request, route.query)
        if route.request_schema is not None:
            request[BODY] = await read_json(request, route.request_schema, route.body_bytes)
        elif route.request_type != JSON_TYPE:
            request[BODY] = await read_text(request, route.request_type, route.body_bytes)
        try:
            return await route.handler(request, administrator)
        except StoreError:
            # A transaction that outlived its time may still come through.
            message = "The store does not answer: look whether the change was made before you try again."
            raise ApiError(503, ErrorCode.STORE_UNAVAILABLE, message, headers={"retry-after": "5"}) from None
        except UnfitText as unfit:
            raise ApiError(400, ErrorCode.INVALID_VALUE, f"{unfit}.") from None

    async def _note_refusal(
        self, route: Route, request: web.Request, administrator: Administrator, refusal: ApiError
    ) -> None:
        note = AuditNote(
            actor=administrator.name,
            role=administrator.role.value,
            action=route.action,
            tenant=administrator.tenant or "",
            target=_printable("/".join(request.match_info.values()))[:_TARGET_MOST],
            accepted=False,
            body={"status": refusal.status, "code": refusal.code.value},
        )
        try:
            await self._audit.append(note)
        except (StoreError, UnfitText):
            # Nothing was changed: the refusal stands, whether or not it is written down.
            self._telemetry.refused_unwritten(route.action)


def _printable(target: str) -> str:
    """What an address named, without what moves a terminal's cursor or turns a line around."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in target)


def require(route: Route, administrator: Administrator) -> None:
    """Refuse who may not use a route. Raises ApiError 403."""
    if route.permission is not None and not administrator.may(route.permission):
        message = f"The role {administrator.role.value} does not grant this; it takes {route.permission.value}."
        raise ApiError(403, ErrorCode.FORBIDDEN, message)
    if administrator.tenant is not None and not route.tenant_bound:
        raise ApiError(403, ErrorCode.FORBIDDEN, "This concerns the whole relay, and you are confined to one tenant.")
