"""Connecting one leg, stage by stage, each with a deadline of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.core.lifecycle import LegName, SessionLimits, Stage, StageDone
from relay.rtc.leg import Leg, LegFault


class StageError(Exception):
    """A leg did not come up: `fault` says in which stage, the message is for the log."""

    def __init__(self, leg: LegName, fault: LegFault, detail: str) -> None:
        super().__init__(detail)
        self.leg = leg
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Reach:
    """How a leg is reached: `ice` finds a path, then it shakes hands as DTLS `role`.

    With a `label` we open the event channel, else the peer does.
    """

    ice: Callable[[], Awaitable[None]]
    role: str
    label: str | None = None


async def connect(leg: Leg, way: Reach, limits: SessionLimits, done: Callable[[StageDone], None]) -> None:
    """Take a leg through its stages and tell each; raises StageError at the first that fails."""
    await _stage(leg, Stage.ICE, limits.ice_seconds, way.ice(), LegFault.UNREACHABLE, done)
    secured = leg.secure(way.role, way.label)
    await _stage(leg, Stage.DTLS, limits.dtls_seconds, secured, LegFault.DTLS_FAILED, done)
    # Without a data section there is no channel to wait for: audio alone is a session too.
    if leg.largest_message:
        opened = leg.channel_opened()
        await _stage(leg, Stage.CHANNEL, limits.channel_seconds, opened, LegFault.CHANNEL_TIMEOUT, done)


def dtls_role(setup: str) -> str:
    """The DTLS role of the side that answered with this `a=setup`."""
    return "server" if setup == "passive" else "client"


async def _stage(
    leg: Leg, stage: Stage, seconds: float, step: Awaitable[object], fault: LegFault, done: Callable[[StageDone], None]
) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            succeeded = await step is not False
    except TimeoutError:
        raise StageError(leg.name, fault, f"{stage.value} not done after {seconds:g} s") from None
    except OSError as error:
        raise StageError(leg.name, fault, f"{stage.value}: {error}") from error
    if not succeeded:
        raise StageError(leg.name, fault, f"{stage.value} failed")
    done(StageDone(leg.name, stage, time.monotonic() - began))
