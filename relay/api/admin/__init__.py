"""The admin API: one table of routes, from which the application, its authorisation and its description are made."""

from relay.api.admin.application import AdminGate, AdminTelemetry, create_admin_app
from relay.api.admin.openapi import PREFIX, openapi_document, openapi_route
from relay.api.admin.ports import PolicyState, Ports, StoreState
from relay.api.admin.route import Route
from relay.api.admin.stream import SessionStream, StreamPace
from relay.api.admin.table import admin_routes

__all__ = [
    "PREFIX",
    "AdminGate",
    "AdminTelemetry",
    "PolicyState",
    "Ports",
    "Route",
    "SessionStream",
    "StoreState",
    "StreamPace",
    "admin_routes",
    "create_admin_app",
    "openapi_document",
    "openapi_route",
]
