"""A session is recorded and its call hung up, whatever breaks on its way or stops it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from support.light_relay import OFFER, LightHost, LightService, LightSession
from support.pool import pool_of

from relay.conversation import Conversation
from relay.core.doors import OpenRequest
from relay.core.lifecycle import Dialect, ServiceAnswered, SessionLimits
from relay.core.policy import policy_from_instructions
from relay.errors import ApiError, EndReason
from relay.hang_up_list import HangUpList
from relay.kept_calls import KeptCalls
from relay.telemetry import Telemetry

REQUEST = OpenRequest(OFFER, Dialect.GA, webrtc_filter=False, model="m", client_session=None, owner="o")


class World:
    """One session over a service and a media side that only answer; `records` are what is written down."""

    def __init__(self) -> None:
        self.service, self.host = LightService(), LightHost()
        telemetry = Telemetry(CollectorRegistry())
        self.records = []
        telemetry.sessions.keep(self.records.append)
        self.upstream = HangUpList(pool_of(telemetry, rt=self.service), KeptCalls(None), telemetry)
        policy = policy_from_instructions("Be brief.", "rt")
        self.conversation = Conversation("rs_1", REQUEST, policy, SessionLimits(), self.upstream, telemetry)

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.conversation.run(self.host))

    @property
    def reasons(self) -> list[str]:
        return [each.reason.value for each in self.records]


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.upstream.close()


async def test_a_hang_up_that_breaks_leaves_a_record(world):
    async def broken(_call):
        raise RuntimeError("not the service's")

    world.upstream.hang_up = broken
    running = world.run()
    await world.conversation.opened
    world.conversation.end(EndReason.CLIENT_HUNG_UP)
    await running
    assert world.reasons == ["client_hung_up"]


async def test_a_call_whose_answer_breaks_the_relay_is_hung_up(world):
    class Breaking(LightSession):
        def command(self, command):
            super().command(command)
            assert not isinstance(command, ServiceAnswered)

    world.host.start = Breaking
    running = world.run()
    with pytest.raises(ApiError) as refused:
        await world.conversation.opened
    assert refused.value.status == 500
    await running
    assert (world.service.made, world.service.calls) == (1, 0)
    assert [each.sessions for each in world.upstream.pool_state()] == [0]
    assert world.reasons == ["service_refused"]


async def test_a_relay_that_stops_while_the_service_is_silent_leaves_a_record(world):
    world.service.may_answer.clear()
    running = world.run()
    await world.service.asked.wait()
    world.conversation.end(EndReason.RELAY_DRAINING)
    running.cancel()
    await asyncio.wait({running})
    assert world.reasons == ["relay_draining"]
