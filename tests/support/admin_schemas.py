"""What the real admin API's table says of its answers, held against a stand-in's."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import jsonschema
from aiohttp import web

from relay.api.admin import Route, admin_routes
from relay.api.admin.openapi import plain_path
from relay.api.admin.policies import policy_routes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@cache
def _table() -> dict[tuple[str, str], Route]:
    """The real routes by method and path, with nothing behind them: they are read, not asked."""
    nothing: Any = SimpleNamespace(relay=SimpleNamespace(version="0"))
    routes, _ = admin_routes(nothing, nothing, policy_routes(nothing, nothing))
    return {(route.method, _unnamed(plain_path(route.path))): route for route in routes}


def _unnamed(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def fitting(method: str, path: str, handler: Handler) -> Handler:
    """The same handler; an answer of it that the real table does not describe fails whoever asked."""
    route = _table()[method, _unnamed(path)]

    async def serve(request: web.Request) -> web.StreamResponse:
        unknown = set(request.query) - set(route.query)
        assert not unknown, f"the real API would refuse {unknown}"
        answer = await handler(request)
        assert answer.status == route.status, f"{method} {path} answers {route.status}"
        if route.answer_schema is not None and isinstance(answer, web.Response) and "json" in answer.content_type:
            assert answer.text is not None
            jsonschema.validate(json.loads(answer.text), route.answer_schema)
        return answer

    return serve
