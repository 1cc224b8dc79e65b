"""The page on the admin API names every route and every kind of entry, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from relay.api.admin import Route, admin_routes
from relay.api.admin.openapi import plain_path
from relay.api.admin.policies import policy_routes
from relay.core.timeline import Moment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "admin-api.md"


def routes() -> list[Route]:
    ports: Any = Mock()
    ports.relay.version = "0"
    return admin_routes(ports, Mock(), policy_routes(Mock(), Mock()))[0]


def row(route: Route) -> str:
    permission = "anybody" if route.permission is None else f"`{route.permission}`"
    bound = "yes" if route.tenant_bound or route.permission is None else "no"
    return f"| {route.method} | `{plain_path(route.path)}` | {permission} | {bound} | {route.summary} |"


def test_the_table_is_that_of_the_program():
    told = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| [A-Z]+ \| `/", line)]
    assert told == [row(route) for route in routes()]


def test_every_kind_of_entry_is_told():
    section = PAGE.read_text("utf-8").split("| kind | text |")[1]
    told = [
        word
        for line in section.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(told) == sorted(Moment)
