"""The OpenAPI 3.1 document of the admin API, made from the table that the routes are made from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer
from relay.api.admin.route import JSON_TYPE, Route
from relay.api.admin.schemas import ERROR, NAME_MOST, obj

if TYPE_CHECKING:
    from aiohttp import web

    from relay.core.access import Administrator

PREFIX = "/admin/v1"
_PART = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}")
_REFUSALS = {
    400: "A parameter or the body cannot be used; `param` says which.",
    401: "No credential, or none that is good; which of these is not told.",
    403: "The role does not grant this, you are confined to a tenant and it is not, or another origin's page asks.",
    404: "Unknown, gone, or another tenant's.",
    408: "The body took too long to arrive.",
    409: "Not possible in this state.",
    412: "Somebody else changed it since you looked.",
    413: "The body is too large.",
    415: "The body's type is not the one expected.",
    422: "The policies cannot be put in force; `problems` says why.",
    428: "If-Match is missing.",
    429: "Too many failed attempts, changes or streams; wait for `retry-after`.",
    503: "The store or the identity provider does not answer; of a change it is not known whether it was made.",
}
_OF_BODIES = (408, 413, 415)


def openapi_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document; it holds shapes and words, nothing of this relay's configuration."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(plain_path(route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Relay admin API",
            "version": version,
            "description": "Served on the operations listener. Times are Unix seconds.",
        },
        "servers": [{"url": PREFIX}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An admin key, or a token of the identity provider.",
                }
            },
            "schemas": {"Error": ERROR},
        },
    }


def openapi_route(routes: Iterable[Route], version: str) -> Route:
    """The route that serves the document of these routes and of itself."""

    @cache
    def document() -> dict[str, Any]:
        return openapi_document([*routes, route], version)

    async def serve(_request: web.Request, _administrator: Administrator) -> web.Response:
        return answer(document())

    schema = obj({"openapi": {"type": "string"}}, closed=False)
    route = Route("GET", "/openapi.json", None, serve, "This document", answer_schema=schema)
    return route


def plain_path(path: str) -> str:
    """A route's path as OpenAPI and people write it: `/sessions/{id}`."""
    return _PART.sub(r"{\1}", path)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{plain_path(route.path)}").strip("_"),
        "summary": route.summary,
        "security": [] if route.permission is None else [{"bearer": []}],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.permission is not None:
        operation["x-permission"] = route.permission.value
        operation["x-tenant-bound"] = route.tenant_bound
    if route.request_schema is not None or route.request_type != JSON_TYPE:
        schema = route.request_schema or {"type": "string"}
        operation["requestBody"] = {
            "required": bool(schema.get("required")) or route.request_schema is None,
            "content": {route.request_type: {"schema": schema}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parts = [(name, pattern) for name, pattern in _PART.findall(route.path)]
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": NAME_MOST}
            | ({"pattern": f"^{pattern}$"} if pattern else {}),
        }
        for name, pattern in parts
    ]
    in_query = [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]
    in_headers = [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in route.request_headers
    ]
    return [*in_path, *in_query, *in_headers]


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {str(route.status): {"description": route.summary}}
    if route.answer_schema is not None:
        responses[str(route.status)]["content"] = {route.answer_type: {"schema": route.answer_schema}}
    for status in sorted(_refusals(route)):
        responses[str(status)] = {
            "description": _REFUSALS[status],
            "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return responses


def _refusals(route: Route) -> set[int]:
    found = {400, 403} if route.permission is None else {400, 401, 403, 429, 503}
    if "{" in route.path:
        found.add(404)
    if route.request_schema is not None or route.request_type != JSON_TYPE:
        found.update(_OF_BODIES)
    return found | set(route.refusals)
