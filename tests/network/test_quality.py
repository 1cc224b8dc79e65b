"""What a bad line loses is lost, and nothing more: the relay adds no gap, and no session ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from network.browser import Call, calling
from network.lab import Lab, Seen
from network.shapes import SHAPES, World, world
from network.test_reach import shape, talked

pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

LISTEN_SECONDS, LISTENED = 5.0, 3
RECOVER_SECONDS, STILL_SECONDS = 0.6, 0.3
# Beside what is missing: fading in and out around it, packets too late to be played, the playing faster and slower.
CONCEALED_BESIDE_LOSS = 0.04

LINES = {
    "loss of 1 %": {"loss": 0.01},
    "loss of 5 %": {"loss": 0.05},
    "loss of 10 %": {"loss": 0.10},
    "delay of 150 ms, jitter of 30 ms": {"delay": 0.15, "jitter": 0.03},
    "reordering of 5 %": {"reorder": 0.05},
    "all of it": {"loss": 0.05, "delay": 0.15, "jitter": 0.03, "reorder": 0.02},
}
GOOD = {"loss": 0.0, "delay": 0.0, "jitter": 0.0, "reorder": 0.0}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def there() -> AsyncIterator[World]:
    with Lab(seed=7) as lab:
        yield await world(lab, SHAPES["direct"])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def call(there: World) -> AsyncIterator[Call]:
    async with calling(there) as made:
        await made.start()
        yield made


@pytest.mark.parametrize("name", LINES)
async def test_a_session_stays_and_loses_what_the_line_loses(there, call, name):
    """One session lives through all of these lines, one after the other; the line is as bad both ways."""
    there.client.set(**{**GOOD, **LINES[name]})
    loss = LINES[name].get("loss", 0.0)
    for listened in range(1, LISTENED + 1):
        seen, counted, concealed = await listen(there, call)

        # Uplink: what the relay forwards, and the service gets, has the gaps of what arrived, and no other.
        arrived = seen["relay"]["into"].audio(there.client)
        forwarded = seen["relay"]["out"].audio(there.service.host)
        for fact in ("packets", "missing", "longest_gap", "duplicates", "late"):
            assert forwarded[fact] == arrived[fact], fact
        assert counted == forwarded["packets"]
        assert_explained(arrived, loss)

        # Downlink: the relay leaves nothing out, and what the page conceals follows from what the line lost.
        assert seen["relay"]["out"].audio(there.client)["missing"] == 0
        got = seen["client"]["into"].audio()
        assert_explained(got, loss)
        allowed = got["missing"] / got["expected"] + CONCEALED_BESIDE_LOSS
        if concealed <= allowed:
            break
        # A machine that gives a program no time for a while makes gaps too: they pass, the relay's would not.
        assert listened < LISTENED, f"{concealed:.3f} of the sound is concealed, {allowed:.3f} is explained"

    stats = await call.stats()
    assert (stats["state"], stats["channel"]) == ("connected", "open")
    await call.answered()
    session = there.service.session()
    assert (session["state"], session["end"]) == ("open", None)


async def test_a_session_begins_on_a_bad_line(lab):
    async with shape(lab, "lossy") as (there, call):
        await call.start(seconds=30)
        await talked(there, call)
        assert any(name.startswith("lost:") for name in there.client.seen("into").counts)


async def listen(there: World, call: Call) -> tuple[dict[str, dict[str, Seen]], int, float]:
    """What passed in a few seconds, the packets the service received, and the part of the sound the page concealed."""
    async with line_still(there):
        there.lab.reset()
        counted = received_by_the_service(there)
    await asyncio.sleep(RECOVER_SECONDS)
    before = await call.stats()
    await asyncio.sleep(LISTEN_SECONDS)
    after = await call.stats()
    async with line_still(there):
        seen, counted = there.lab.seen(), received_by_the_service(there) - counted
    return seen, counted, concealed_ratio(before["inbound"], after["inbound"])


@contextlib.asynccontextmanager
async def line_still(there: World) -> AsyncIterator[None]:
    """Stop everything on the client's line, and wait until what was under way has arrived: then counts compare."""
    there.client.blackout(10)
    last: object = None
    while last != (now := (uplink(there), received_by_the_service(there))):
        last = now
        await asyncio.sleep(STILL_SECONDS)
    yield
    there.client.blackout(0)


def uplink(there: World) -> list[int]:
    """Packets of sound from the client at each point on their way to the service."""
    seen = there.lab.seen()
    points = ((seen["relay"]["into"], there.client), (seen["relay"]["out"], there.service.host))
    return [flow["packets"] for way, peer in points for flow in way.flows if flow["peer"] in peer.seen_as]


def received_by_the_service(there: World) -> int:
    return int(there.service.session()["rtp"]["packets_received"])


def assert_explained(flow: Any, loss: float) -> None:
    """Missing is what was put in, within four standard deviations."""
    spread = (flow["expected"] * loss * (1 - loss)) ** 0.5
    assert abs(flow["missing"] - flow["expected"] * loss) <= 4 * spread + 1, flow


def concealed_ratio(before: dict[str, Any], after: dict[str, Any]) -> float:
    samples = after["totalSamplesReceived"] - before["totalSamplesReceived"]
    return (after["concealedSamples"] - before["concealedSamples"]) / samples
