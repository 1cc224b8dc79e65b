"""Connections to the service are found open by the next set-up, while the relay is in use and no longer."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from support.resources import settled

from relay.config import Secret
from relay.simulator import Simulator, SimulatorSettings
from relay.upstream import ServiceError, ServiceKey, ServiceRefusal
from relay.upstream.adapters import GaUpstream
from relay.upstream.credentials import AzureKey
from relay.upstream.http import ServiceHttp
from relay.upstream.keep_warm import Warmth

SESSION = {"type": "realtime", "model": "d"}
KEY = ServiceKey("ek_canary0123456789")
SHORT = Warmth(idle_seconds=0.2, refresh_seconds=0.1, in_use_seconds=60.0)


@pytest.fixture
async def warm(service):
    """A function that makes an adapter whose connections are kept as told."""
    made = []

    def warm(warmth: Warmth) -> GaUpstream:
        made.append(GaUpstream(f"{service.url}/openai/v1/realtime", AzureKey(Secret("k" * 20)), ServiceHttp(5, warmth)))
        return made[-1]

    yield warm
    for upstream in made:
        await upstream.close()


def posts(service):
    return [asked for asked in service.asked if asked.body]


def connections(service) -> int:
    return len({asked.connection for asked in service.asked})


async def set_ups(service, upstream, times: int, pause: float) -> None:
    for _ in range(times):
        service.will(200, {"value": "ek_1"})
        await upstream.mint(SESSION)
        service.will(201, b"v=0\r\n", location="/calls/rtc_1")
        await upstream.call(KEY, "v=0", "d")
        await asyncio.sleep(pause)  # longer than a connection may lie idle: this is what is tried


async def test_set_ups_further_apart_than_connections_may_idle_find_one_open(service, warm):
    await set_ups(service, warm(Warmth(idle_seconds=0.6, refresh_seconds=0.15, in_use_seconds=60.0)), 5, 0.7)
    assert len(posts(service)) == 10
    # One, and one more when this machine took us away from a refreshing for too long.
    assert connections(service) <= 3


async def test_without_refreshing_each_of_them_would_open_one(service, warm):
    await set_ups(service, warm(Warmth(idle_seconds=0.2, refresh_seconds=3600)), 5, 0.3)
    assert connections(service) == 5


async def test_what_keeps_it_open_tells_nothing(service, warm):
    service.will(200, {"value": "ek_1"})
    await warm(SHORT).mint(SESSION)
    assert not await settled(lambda: len(service.asked) < 4)
    for asked in service.asked[1:]:
        assert asked.path == "/"
        assert asked.body == b""
        assert not asked.names & {"authorization", "api-key", "cookie"}


async def test_a_relay_that_nobody_uses_lets_go(service, warm):
    service.will(200, {"value": "ek_1"})
    await warm(Warmth(idle_seconds=0.2, refresh_seconds=0.05, in_use_seconds=0.2)).mint(SESSION)
    [connection] = {asked.connection for asked in service.asked}
    assert not await settled(lambda: not connection.is_closing())
    assert len(service.asked) <= 5


async def test_a_service_that_closes_connections_is_left_alone(service, warm):
    async def closing(_: web.Request) -> web.StreamResponse:
        response = web.json_response({"value": "ek_1"})
        response.force_close()
        return response

    service.handler = closing
    upstream = warm(Warmth(idle_seconds=0.2, refresh_seconds=0.02))
    await upstream.mint(SESSION)
    assert not await settled(lambda: len(service.asked) < 2)
    assert not await settled(lambda: upstream._gate._http._warm._refreshing)
    assert upstream._gate._http._warm._timers == {}


async def test_a_service_out_of_reach_is_tried_again_without_a_word(service, warm):
    service.will(200, {"value": "ek_1"})
    upstream = warm(Warmth(idle_seconds=0.2, refresh_seconds=0.02))
    await upstream.mint(SESSION)

    async def drop(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    service.handler = drop
    seen = len(service.asked)
    assert not await settled(lambda: len(service.asked) < seen + 3)


@pytest.mark.parametrize("operation", ["mint", "call"])
async def test_a_kept_connection_closed_in_the_meantime_costs_no_mint_and_repeats_no_call(service, warm, operation):
    service.will(200, {"value": "ek_1"})
    upstream = warm(Warmth(refresh_seconds=3600))
    await upstream.mint(SESSION)
    answer = service.handler
    dropped = []

    async def drop_once(request: web.Request) -> web.StreamResponse:
        if not dropped:
            dropped.append(request)
            request.transport.abort()
        return await answer(request)

    service.handler = drop_once
    if operation == "mint":
        assert (await upstream.mint(SESSION)).value == "ek_1"
        assert len(service.asked) == 3
    else:
        with pytest.raises(ServiceError) as caught:
            await upstream.call(KEY, "v=0", "d")
        assert caught.value.refusal is ServiceRefusal.UNREACHABLE
        assert len(service.asked) == 2


async def test_a_fresh_connection_that_breaks_is_not_asked_twice(service, warm):
    async def drop(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    service.handler = drop
    with pytest.raises(ServiceError):
        await warm(SHORT).mint(SESSION)
    assert len(service.asked) == 1


async def test_sessions_at_the_stand_in_share_a_connection(connect):
    async with Simulator(SimulatorSettings()) as stand_in:
        accepted = []
        server = stand_in._runner.server
        made = server.connection_made
        server.connection_made = lambda handler, transport: (accepted.append(transport), made(handler, transport))
        upstream = connect(endpoint=stand_in.url, api_key=Secret(stand_in.settings.api_key))
        for _ in range(20):
            await upstream.mint({"type": "realtime", "model": "gpt-realtime"})
        assert len(stand_in.state()["mints"]) == 20
        assert len(accepted) == 1
        await upstream.close()


def test_the_defaults_use_a_connection_before_it_is_closed():
    assert Warmth().refresh_seconds < Warmth().idle_seconds < 60
