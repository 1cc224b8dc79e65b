"""Routes of the admin API on a server of a test's own, for an administrator who has proved who it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from aiohttp import ClientSession, web

from relay.api.admin.route import BODY, JSON_TYPE, QUERY, Route
from relay.api.middleware import error_response
from relay.core.access import Administrator, Role
from relay.errors import ApiError, ErrorCode

GOVERNOR = Administrator("gabi", Role.GOVERNOR)


@dataclass
class Answer:
    """What came back; an answer in JSON fitted the schema of its route."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class Admin:
    """Asks the routes."""

    base: str
    http: ClientSession
    schemas: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None, *, tag: str | None = None, **query: str) -> Answer:
        headers = {} if tag is None else {"If-Match": tag}
        sent = {} if body is None else {"data": body} if isinstance(body, str) else {"json": body}
        async with self.http.request(method, self.base + path, headers=headers, params=query, **sent) as response:
            return Answer(response.status, response.headers, await response.text())


@contextlib.asynccontextmanager
async def admin_api(routes: Iterable[Route], administrator: Administrator = GOVERNOR) -> AsyncIterator[Admin]:
    """Serve the routes on a free port of loopback."""
    app = web.Application(client_max_size=2**24)
    for route in routes:
        app.router.add_route(route.method, route.path, _handler(route, administrator))
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with ClientSession() as http:
            yield Admin(f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    finally:
        await runner.cleanup()


def _handler(route: Route, administrator: Administrator) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            request[QUERY] = {
                name: int(value) if route.query[name].get("type") == "integer" else value
                for name, value in request.query.items()
            }
            text = await request.text()
            request[BODY] = text if route.request_type != JSON_TYPE else json.loads(text or "{}")
            if route.request_schema is not None:
                jsonschema.validate(request[BODY], route.request_schema)
            answer = await route.handler(request, administrator)
        except jsonschema.ValidationError as error:
            return error_response(ApiError(400, ErrorCode.INVALID_REQUEST, error.message[:100]))
        except ApiError as error:
            return error_response(error)
        if route.answer_schema is not None:
            jsonschema.validate(json.loads(answer.text), route.answer_schema)
        return answer

    return handle
