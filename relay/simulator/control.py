"""`/_state`, `/_fault`, `/_say`: how a test or a person outside the process looks in and interferes."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from relay.simulator.faults import FaultError
from relay.simulator.record import State


class Controlled(Protocol):
    """What the control doors need of the simulator."""

    def state(self) -> State:
        """Show what was seen."""

    def fault(self, **wanted: Any) -> None:
        """Set faults; raises FaultError."""

    async def say(self, event: dict[str, Any], session_id: str | None = None) -> None:
        """Send an event; raises LookupError."""


class Control:
    """The control doors; every mistake is a 400 that says what is wrong."""

    def __init__(self, simulator: Controlled) -> None:
        self._simulator = simulator

    def add_routes(self, app: web.Application) -> None:
        """Add the three doors."""
        app.router.add_get("/_state", self._state)
        app.router.add_post("/_fault", self._fault)
        app.router.add_post("/_say", self._say)

    async def _state(self, _request: web.Request) -> web.Response:
        return web.json_response(self._simulator.state())

    async def _fault(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        try:
            self._simulator.fault(**body)
        except FaultError as error:
            raise _refusal(str(error)) from error
        return web.json_response({"faults": self._simulator.state()["faults"]})

    async def _say(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if body.keys() - {"event", "session_id"} or not isinstance(body.get("event"), dict):
            raise _refusal('The body is {"event": {…}, "session_id"?: "sess_…"}.')
        try:
            await self._simulator.say(body["event"], body.get("session_id"))
        except LookupError as error:
            raise _refusal(str(error)) from error
        return web.json_response({"said": True})


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise _refusal("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise _refusal("The body is not a JSON object.")
    return body


def _refusal(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=text)
