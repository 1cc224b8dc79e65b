"""The live list as server-sent events, for the console: each reader is sent what is now, and nothing waits for any.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from relay.api.admin.route import Route
from relay.api.admin.schemas import TEXT
from relay.api.middleware import REQUEST_ID, SECURITY_HEADERS
from relay.core.access import Permission
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from relay.api.admin.application import AdminGate
    from relay.api.admin.overview import Overview
    from relay.api.admin.sessions import SessionRoutes
    from relay.core.access import Administrator

EVENT_STREAM = "text/event-stream"
# What of the state moves all the time; a change of the rest is told at once.
_MOVING = frozenset({"capacity", "reasons", "sessions", "workers"})


@dataclass(frozen=True, slots=True)
class StreamPace:
    """How many streams there may be; how often lists and states are sent; how long a reader may take for one.

    `most_each` of them are one administrator's, or those of all who are confined to one tenant.
    """

    most: int = 20
    most_each: int = 8
    seconds: float = 1.0
    status_seconds: float = 5.0
    write_seconds: float = 10.0


class SessionStream:
    """Sends `sessions` when the list changed, `status` now and then and when something was switched or published.

    It ends when the reader goes or may not read any more. A reader that is slow is sent the newest list next, never
    those in between; one that takes nothing is dropped.
    """

    def __init__(
        self, sessions: SessionRoutes, overview: Overview, gate: AdminGate, pace: StreamPace | None = None
    ) -> None:
        self._sessions = sessions
        self._overview = overview
        self._gate = gate
        self._pace = pace or StreamPace()
        # By tenant and, of those who are confined to none, by name.
        self._open: Counter[tuple[str | None, str]] = Counter()
        self._closing = asyncio.Event()
        # By tenant: when it was made, and the event. Readers of the same list share it.
        self._made: dict[str | None, tuple[float, bytes]] = {}

    async def close(self, _app: web.Application | None = None) -> None:
        """End every stream: the listener stops."""
        self._closing.set()

    async def serve(self, request: web.Request, administrator: Administrator) -> web.StreamResponse:
        """Stream until the end. Raises ApiError 429."""
        tenant = administrator.tenant
        whose = (tenant, administrator.name if tenant is None else "")
        if self._open.total() >= self._pace.most or self._open[whose] >= self._pace.most_each:
            message = "There are too many streams already."
            raise ApiError(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, headers={"retry-after": "10"})
        self._open[whose] += 1
        try:
            response = web.StreamResponse(headers={**SECURITY_HEADERS, "Content-Type": EVENT_STREAM})
            response.headers["X-Request-Id"] = request[REQUEST_ID]
            await response.prepare(request)
            try:
                await self._follow(request, response, administrator)
            except (TimeoutError, ConnectionError):
                # Its buffers are full, or it is gone: an orderly end would wait for it.
                if request.transport is not None:
                    request.transport.abort()
            return response
        finally:
            self._open -= Counter({whose: 1})  # leaves out those of whom there are none
            if all(other != tenant for other, _ in self._open):
                self._made.pop(tenant, None)

    async def _follow(self, request: web.Request, response: web.StreamResponse, administrator: Administrator) -> None:
        loop = asyncio.get_running_loop()
        last, told_at = b"", None
        urgent: dict[str, Any] = {}
        while not self._closing.is_set():
            status = self._overview.status(administrator)
            is_due = told_at is None or loop.time() - told_at >= self._pace.status_seconds
            if is_due and told_at is not None and not await self._may_go_on(request, administrator):
                return
            if is_due or urgent != _urgent(status):
                urgent = _urgent(status)
                await self._write(response, _event("status", status))
            told_at = loop.time() if is_due else told_at
            event = await self._list_of(administrator.tenant)
            if event != last:
                await self._write(response, event)
                last = event
            await self._pause()

    async def _may_go_on(self, request: web.Request, administrator: Administrator) -> bool:
        """Whether the credential is still good, and for the same: keys are revoked, tokens end."""
        try:
            return await self._gate.administrator(request) == administrator
        except ApiError:
            return False

    async def _list_of(self, tenant: str | None) -> bytes:
        loop = asyncio.get_running_loop()
        made_at, event = self._made.get(tenant, (None, b""))
        if made_at is None or loop.time() - made_at >= self._pace.seconds * 0.9:
            await self._sessions.ports.relay.refresh()
            event = _event("sessions", self._sessions.listed(tenant))
            self._made[tenant] = (loop.time(), event)
        return event

    async def _write(self, response: web.StreamResponse, event: bytes) -> None:
        async with asyncio.timeout(self._pace.write_seconds):
            await response.write(event)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._pace.seconds):
                await self._closing.wait()
        except TimeoutError:
            return


def _urgent(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in _MOVING}


def _event(name: str, body: object) -> bytes:
    # JSON has no line ends, so one data line holds it.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(body))


def stream_route(stream: SessionStream) -> Route:
    """The route of this module; it comes before `/sessions/{id}`, which it would match."""
    return Route("GET", "/sessions/stream", Permission.READ, stream.serve, "The live list as server-sent events",
                 answer_schema=TEXT, answer_type=EVENT_STREAM, tenant_bound=True)  # fmt: skip
