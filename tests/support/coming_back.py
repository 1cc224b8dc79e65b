"""A client that comes back to its session, as tests look at it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from relay.config import ClientSettings, Secret
from support.client import Client
from support.ice_restart import ice_of
from support.service import CLIENT_KEY, bounds
from support.sessions import Watch, no_secret_in, watched

OTHER_KEY = "another-client-key"
CLEAR = {"type": "input_audio_buffer.clear"}


@contextlib.asynccontextmanager
async def waiting(seconds: float = 30.0, **options: Any) -> AsyncIterator[Watch]:
    """A relay whose sessions wait for their clients."""
    limits = bounds(reattach_seconds=seconds, **options.pop("limits", {}))
    keys = ClientSettings(keys=(Secret(CLIENT_KEY), Secret(OTHER_KEY)))
    async with watched(limits=limits, clients=keys, **options) as watch:
        yield watch


@contextlib.asynccontextmanager
async def somebody(watch: Watch, key: str = CLIENT_KEY) -> AsyncIterator[Client]:
    async with Client(watch.world.url, key) as client:
        yield client


@contextlib.asynccontextmanager
async def talking(watch: Watch) -> AsyncIterator[Client]:
    """A client in a session that is active."""
    async with somebody(watch) as client:
        client.posted = await client.offer()
        key = await client.mint()
        status, answer = await client.post_offer(client.posted, key)
        assert status == 201, answer
        await client.accept(answer)
        await client.event("session.created")
        await active(watch)
        yield client


async def until(wanted: Callable[[], Any], seconds: float = 15.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := wanted()):  # noqa: ASYNC110 - a phase changes without telling anybody
            await asyncio.sleep(0.01)
    return found


def phases(watch: Watch) -> list[str]:
    return [phase.value for phase in watch.world.relay.telemetry.sessions._totals._phases.values()]


async def active(watch: Watch) -> None:
    await until(lambda: phases(watch) == ["active"])


async def left_alone(watch: Watch) -> None:
    await until(lambda: phases(watch) == ["waiting"])


def side(watch: Watch) -> Any:
    """The client's side of the one session."""
    [conversation] = watch.world.relay.registry.live.conversations
    return conversation._session._client


def key_of(client: Client) -> str:
    return str(client.minted["value"])


async def is_alive(client: Client) -> None:
    """Events are answered, and sound comes."""
    before, heard = len(client.events), len(client.levels)
    client.send(CLEAR)
    await client.until(lambda: any(event["type"] == "input_audio_buffer.cleared" for event in client.events[before:]))
    await client.until(lambda: len(client.levels) > heard + 5)


async def is_heard(watch: Watch) -> None:
    """The microphone reaches the service."""
    before = watch.session()["rtp"]["packets_received"]
    await watch.world.simulator.until(lambda state: state["sessions"][-1]["rtp"]["packets_received"] > before + 5)


def vanish(client: Client) -> None:
    """Cut the client's network: nothing leaves it, nothing reaches it, nobody is told."""
    for protocol in ice_of(client)._protocols:
        protocol.transport.sendto = lambda *_: None
        protocol.datagram_received = lambda *_: None


def one_call(watch: Watch) -> None:
    state = watch.world.simulator.state()
    assert len(state["calls"]) == len(state["sessions"]) == 1


async def offer_of_a_stranger(watch: Watch) -> str:
    """The offer of a peer that never comes."""
    async with somebody(watch) as client:
        return await client.offer()


def metric(watch: Watch, name: str, **labels: str) -> float:
    return watch.world.relay.metrics.get_sample_value(name, labels) or 0.0


def refusal(answer: tuple[int, str]) -> tuple[int, str]:
    no_secret_in(answer[1])
    return answer[0], re.search(r'"code": "(\w+)"', answer[1])[1]
