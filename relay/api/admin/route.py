"""One row of the admin API's table, from which its routes, its authorisation and its OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from relay.core.access import Administrator, Permission, Role

Schema = Mapping[str, Any]
Handler = Callable[[web.Request, Administrator], Awaitable[web.StreamResponse]]

JSON_TYPE = "application/json"
BODY_MOST_BYTES = 65_536
BODY: web.RequestKey[Any] = web.RequestKey("admin_body", object)
QUERY: web.RequestKey[dict[str, Any]] = web.RequestKey("admin_query", dict)
ANONYMOUS = Administrator("anonymous", Role.VIEWER, tenant="")
"""Whom the handler of a route without a permission is given."""


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is aiohttp's, below `/admin/v1`; a tail is spelled `{path:.+}`. `permission` None: anybody may ask.

    `tenant_bound` says that an administrator of one tenant may use it, and that the handler then shows and touches what
    is that tenant's only; whoever is confined gets 403 at all others. `request_schema` is that of a JSON body, which is
    checked before the handler runs and which `body_of` returns; with `request_type` text the body is a str. `query`
    has a schema for each parameter, checked likewise; `query_of` returns them. `action` is the word of the audit log
    for a change: refusals are written under it. `status` is that of success; `answer_type` its media type;
    `refusals` are statuses of its own, beside those that the table gives every route of its kind.
    """

    method: str
    path: str
    permission: Permission | None
    handler: Handler
    summary: str
    request_schema: Schema | None = None
    answer_schema: Schema | None = None
    tenant_bound: bool = False
    query: Mapping[str, Schema] = field(default_factory=dict)
    action: str = ""
    status: int = 200
    request_type: str = JSON_TYPE
    answer_type: str = JSON_TYPE
    body_bytes: int = BODY_MOST_BYTES
    request_headers: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()


def body_of(request: web.Request) -> Any:
    """The request's body as the route's schema allows it: a JSON value, or a str; {} where it was empty."""
    return request[BODY]


def query_of(request: web.Request) -> dict[str, Any]:
    """The parameters that were given, in the types of their schemas: str, int or bool."""
    return request[QUERY]
