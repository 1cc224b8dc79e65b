"""The kill switch over the API; the one in the `KILL` file is apart and holds beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer
from relay.api.admin.route import Route, body_of
from relay.api.admin.schemas import NOTE, TRUTH, listing, names, obj
from relay.core.access import Permission
from relay.core.kill_switch import KillSwitch

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.admin.ports import Ports
    from relay.core.access import Administrator

_SHOWN = obj({"everybody": TRUTH, "tenants": listing({"type": "string"}), "policies": listing({"type": "string"})})
_WANTED = obj({"everybody": TRUTH, "tenants": names(), "policies": names()}, {"note": NOTE})


@dataclass(frozen=True, slots=True)
class KillSwitchRoutes:
    """The handlers."""

    ports: Ports

    async def show(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        """Whom the switch of the API stops."""
        return answer(_shown(await self.ports.switch.read()))

    async def put(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Stop exactly these from now on, and let all others in again."""
        body = body_of(request)
        wanted = KillSwitch(body["everybody"], frozenset(body["tenants"]), frozenset(body["policies"]))
        return answer(_shown(await self.ports.switch.move(wanted, body.get("note", ""), administrator)))


def _shown(switch: KillSwitch) -> dict[str, Any]:
    return {
        "everybody": switch.everybody,
        "tenants": sorted(switch.tenants),
        "policies": sorted(switch.policies),
    }


def kill_switch_routes(ports: Ports) -> list[Route]:
    """The routes of this module."""
    handlers = KillSwitchRoutes(ports)
    return [
        Route("GET", "/kill-switch", Permission.READ, handlers.show, "Whom the kill switch stops",
              answer_schema=_SHOWN),
        Route("PUT", "/kill-switch", Permission.OPERATE, handlers.put, "Stop everybody, tenants or policies",
              request_schema=_WANTED, answer_schema=_SHOWN, action="kill_switch"),
    ]  # fmt: skip
