"""The whole table of the admin API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from relay.api.admin.keys import key_routes
from relay.api.admin.kill_switch import kill_switch_routes
from relay.api.admin.openapi import openapi_route
from relay.api.admin.overview import Overview, overview_routes
from relay.api.admin.records import record_routes
from relay.api.admin.sessions import SessionRoutes, session_routes
from relay.api.admin.stream import SessionStream, StreamPace, stream_route

if TYPE_CHECKING:
    from relay.api.admin.application import AdminGate
    from relay.api.admin.ports import Ports
    from relay.api.admin.route import Route


def admin_routes(
    ports: Ports, gate: AdminGate, more: Iterable[Route] = (), pace: StreamPace | None = None
) -> tuple[list[Route], SessionStream]:
    """Every route, with `more` of other makers; and the stream, which is to be closed when the listener stops."""
    sessions = SessionRoutes(ports)
    stream = SessionStream(sessions, Overview(ports), gate, pace)
    routes = [
        *overview_routes(ports),
        stream_route(stream),
        *session_routes(sessions),
        *kill_switch_routes(ports),
        *record_routes(ports),
        *key_routes(ports),
        *more,
    ]
    return [openapi_route(routes, ports.relay.version), *routes], stream
