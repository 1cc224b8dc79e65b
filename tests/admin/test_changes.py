"""A change and its row in the audit log are whole, whether or not who asked for it waits for the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession, web

from relay.api.admin import Route, create_admin_app
from relay.api.admin.answers import answer, note
from relay.core.access import Administrator, Permission, Role
from relay.core.stored import AuditNote

TELEMETRY = SimpleNamespace(requested=lambda *_: None, refused_unwritten=lambda _: None)


class Log:
    """An audit log that takes its time."""

    def __init__(self) -> None:
        self.rows: list[AuditNote] = []
        self.asked = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def append(self, row: AuditNote) -> None:
        self.asked.set()
        await self.goes_on.wait()
        self.rows.append(row)


class World:
    def __init__(self, role: Role) -> None:
        self.who = Administrator("mallory", role)
        self.log = Log()
        self.ended: list[str] = []
        self.given_up = asyncio.Event()
        self.url = ""

    async def administrator(self, _request: web.Request) -> Administrator:
        return self.who

    async def end(self, request: web.Request, administrator: Administrator) -> web.Response:
        target = request.match_info["what"]
        await self.log.append(note(administrator, "thing.end", target))
        self.ended.append(target)
        return answer({})


@contextlib.asynccontextmanager
async def served(role: Role) -> AsyncIterator[World]:
    world = World(role)

    @web.middleware
    async def watched(request: web.Request, handler: web.Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            world.given_up.set()
            raise

    route = Route("POST", "/end/{what}", Permission.OPERATE, world.end, "End it", action="thing.end")
    app = web.Application(middlewares=[watched])
    app.add_subapp("/admin/v1", create_admin_app([route], world, world.log, TELEMETRY))
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.url = f"http://127.0.0.1:{runner.addresses[0][1]}/admin/v1"
    try:
        yield world
    finally:
        world.log.goes_on.set()
        await runner.cleanup()


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
async def test_who_hangs_up_leaves_no_change_half_done_and_no_refusal_unwritten(role):
    async with served(role) as world, ClientSession() as http:
        asking = asyncio.create_task(http.post(f"{world.url}/end/it"))
        await world.log.asked.wait()
        asking.cancel()
        async with asyncio.timeout(10):
            await world.given_up.wait()
    # The listener has stopped, and waited for it.
    [row] = world.log.rows
    assert (row.actor, row.action, row.target) == ("mallory", "thing.end", "it")
    assert row.accepted is (role is Role.OPERATOR)
    assert world.ended == (["it"] if role is Role.OPERATOR else [])


async def test_a_refused_address_cannot_spoil_the_page_or_terminal_it_is_read_on():
    async with served(Role.VIEWER) as world, ClientSession() as http:
        world.log.goes_on.set()
        await http.post(f"{world.url}/end/a%0Ab%1B%5B2J%E2%80%AEc")
    assert world.log.rows[0].target == "a\ufffdb\ufffd[2J\ufffdc"
