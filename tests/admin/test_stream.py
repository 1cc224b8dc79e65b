"""The stream's bounds: how many there may be, what becomes of a reader that does not read, of a key that is revoked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
from aiohttp import web

from relay.api.admin.sessions import SessionRoutes
from relay.api.admin.stream import SessionStream, StreamPace
from relay.api.middleware import common_headers, error_response
from relay.core.access import Administrator, Role
from relay.core.lifecycle import Dialect, Phase, SessionCounters
from relay.core.live_session import LiveSession, quality
from relay.errors import ApiError, ErrorCode

WHO = Administrator("alice", Role.VIEWER)


class Gate:
    """Knows one administrator, as long as it does."""

    def __init__(self) -> None:
        self.known = True

    async def administrator(self, _request: web.Request) -> Administrator:
        if not self.known:
            raise ApiError(401, ErrorCode.INVALID_API_KEY, "Incorrect API key provided.")
        return WHO


class Crowd:
    """So many sessions that their list fills every buffer on the way."""

    def __init__(self, many: int) -> None:
        self._many = many
        self._seconds = 0

    def views(self, tenant: str | None = None, most: int = 10**6) -> tuple[list[LiveSession], int]:
        self._seconds += 1
        figures = quality(SessionCounters(), {})
        session = LiveSession("rs_1", "t", "s", "p", "r", "ga_calls", Dialect.GA, Phase.ACTIVE, 1.0, self._seconds, "d",
                              "", {}, figures, {}, 0, 0.0)  # fmt: skip
        return [session] * self._many, self._many


class Served:
    def __init__(self, gate: Gate, stream: SessionStream, state: dict[str, object]) -> None:
        self.state = state
        self.gate = gate
        self.stream = stream
        self.port = 0
        self.left = asyncio.Event()
        self.who = WHO

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.stream.serve(request, self.who)
        except ApiError as error:
            return error_response(error)
        finally:
            self.left.set()


@contextlib.asynccontextmanager
async def served(many: int, pace: StreamPace) -> AsyncIterator[Served]:
    async def refresh() -> None:
        """Nothing is elsewhere."""

    ports = SimpleNamespace(live=Crowd(many), relay=SimpleNamespace(refresh=refresh))
    state = {"ready": True}
    overview = SimpleNamespace(status=lambda _administrator: dict(state))
    gate = Gate()
    world = Served(gate, SessionStream(SessionRoutes(ports), overview, gate, pace), state)
    app = web.Application(middlewares=[common_headers()])
    app.router.add_get("/stream", world.handle)
    app.on_shutdown.append(world.stream.close)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    world.port = runner.addresses[0][1]
    try:
        yield world
    finally:
        async with asyncio.timeout(4):
            await runner.cleanup()


async def test_a_reader_that_does_not_read_is_dropped():
    async with served(5_000, StreamPace(seconds=0.01, write_seconds=0.2)) as world:
        with socket.create_connection(("127.0.0.1", world.port)) as reader:
            reader.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(20):
                await world.left.wait()
        assert not world.stream._open


async def test_a_state_that_changes_is_told_at_once_and_what_moves_all_the_time_is_not():
    async with served(1, StreamPace(seconds=0.01, status_seconds=3_600)) as world, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{world.port}/stream") as response:
            await response.content.readuntil(b"event: sessions")
            world.state["capacity"] = {"cpu": 0.5}
            await response.content.readuntil(b"event: sessions")
            world.state["draining"] = True
            async with asyncio.timeout(10):
                told = await response.content.readuntil(b"event: status")
                state = await response.content.readuntil(b"\n\n")
        assert told.count(b"event: status") == 1
        assert b'"draining":true' in state


async def test_a_stream_ends_when_its_key_does():
    async with served(1, StreamPace(seconds=0.01, status_seconds=0.01)) as world, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{world.port}/stream") as response:
            await response.content.readuntil(b"event: sessions")
            world.gate.known = False
            async with asyncio.timeout(10):
                await response.content.read()
                await world.left.wait()
        assert not world.stream._open


async def test_there_are_so_many_streams_and_no_more():
    async with served(1, StreamPace(most=2)) as world, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{world.port}/stream"
        async with http.get(url) as first, http.get(url) as second:
            assert (first.status, second.status) == (200, 200)
            async with http.get(url) as third:
                assert (third.status, third.headers["retry-after"]) == (429, "10")
        # Both are gone: there is room again, and stopping the listener ends whoever reads then.
        async with asyncio.timeout(10):
            while world.stream._open:  # noqa: ASYNC110 - the server hears of it when it hears of it
                await asyncio.sleep(0.01)
        async with http.get(url) as fourth:
            assert fourth.status == 200
            await world.stream.close()
            async with asyncio.timeout(10):
                await fourth.content.read()


async def test_one_tenants_administrators_leave_streams_for_the_others():
    bob, carol = Administrator("bob", Role.VIEWER, "acme"), Administrator("carol", Role.VIEWER, "acme")
    async with served(1, StreamPace(most=4, most_each=2)) as world, contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        got = []
        for world.who in (bob, carol, bob, carol, WHO, WHO, WHO):
            answer = await stack.enter_async_context(http.get(f"http://127.0.0.1:{world.port}/stream"))
            got.append(answer.status)
        assert got == [200, 200, 429, 429, 200, 200, 429]


async def test_a_tenants_list_is_forgotten_with_its_last_reader():
    bob = Administrator("bob", Role.VIEWER, "acme")
    async with served(1, StreamPace(seconds=0.01)) as world, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{world.port}/stream"
        async with http.get(url) as stays:
            await stays.content.readuntil(b"event: sessions")
            world.who = bob
            async with http.get(url) as first:
                await first.content.readuntil(b"event: sessions")
                async with http.get(url) as second:
                    await second.content.readuntil(b"event: sessions")
                assert set(world.stream._made) == {None, "acme"}
            async with asyncio.timeout(10):
                while "acme" in world.stream._made:  # noqa: ASYNC110 - the server hears of it when it hears of it
                    await asyncio.sleep(0.01)
            assert set(world.stream._made) == {None}
