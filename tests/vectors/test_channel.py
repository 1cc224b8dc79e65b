"""The policy vectors through a real data channel: relay and stand-in run, and what the stand-in recorded is compared.

The same cases as on the pure engine, with the same invariants. Where a live service cannot be brought into a case's
situation, the case or a table here says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
import pytest_asyncio
from support.client import Client as Peer
from support.service import CLIENT_KEY, SECRETS, bench

from relay.core.lifecycle import Dialect
from relay.policies import one_policy
from vectors.case import CANARY, UPSTREAM_NAMES, Binary, Case, Client, Confirm, Service
from vectors.cases import CASES
from vectors.engine import mismatch

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKER = {"type": "input_audio_buffer.clear", "event_id": "marker"}
SEEN_BY_ALL = {"type": "input_audio_buffer.speech_started", "item_id": "item_marker", "audio_start_ms": 1}
# Names of the service that only a live one has.
LIVE_NAMES = (*UPSTREAM_NAMES, *(name for name in SECRETS if name != CANARY))


# The relay lets these pass; the stand-in has no such item or response, and says so.
ANSWERED_BY_THE_SERVICE = frozenset({"V156", "V171", "V185"})
NOT_THROUGH_A_CHANNEL = {
    "v149_retrieved_audio_above_the_limit": "the stand-in keeps to the announced size; its fault does not",
    "v229_event_above_the_browsers_limit": "likewise",
    "v155_a_type_off_the_policys_list": "the policy refuses the marker by which this test knows that all is judged",
    "v226_a_type_off_the_policys_list": "likewise",
}


def live_cases():
    for case in CASES:
        if case.id in NOT_THROUGH_A_CHANNEL:
            continue
        steps = (*case.before, *case.send)
        if case.engine_only or not case.confirmed or any(isinstance(step, Confirm) for step in steps):
            continue  # the stand-in confirms by itself, with what was minted
        if any(isinstance(step, Service) and not isinstance(step.event, dict) for step in steps):
            continue  # the stand-in says JSON objects; its faults say the rest
        yield case


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with bench() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(world):
    line = Line(world)
    yield line
    await line.close()


def leaves_nothing(case: Case) -> bool:
    """Whether the session is afterwards what it was before."""
    said = any(isinstance(step, Service) for step in case.send)
    return not (case.before or case.mint or case.up or said or case.ends or case.webrtc_filter or case.discloses)


class Line:
    """Gives each case a session: a new one, or the one that the case before left as it was."""

    def __init__(self, world) -> None:
        self._world = world
        self._live: Live | None = None
        self._open = contextlib.AsyncExitStack()

    async def session(self, case: Case) -> Live:
        live, self._live = self._live, None
        fits = live is not None and (live.case.policy, live.case.door) == (case.policy, case.door)
        if fits and not (case.mint or case.webrtc_filter):
            live.case = case
            return live
        await self.close()
        self._world.relay.policies._current = one_policy(case.policy)()
        peer = await self._open.enter_async_context(Peer(self._world.url, CLIENT_KEY, sound=False))
        live = Live(self._world, case, peer)
        await live.connect()
        return live

    def give_back(self, live: Live) -> None:
        if leaves_nothing(live.case):
            self._live = live

    async def close(self) -> None:
        await self._open.aclose()


class Live:
    """One session of a case: the client, and the stand-in's record of it."""

    def __init__(self, world, case: Case, peer: Peer) -> None:
        self.world = world
        self.case = case
        self.peer = peer
        self.sent_before = 0
        self.heard_before = 0
        self.settled = 0

    async def connect(self) -> None:
        case, peer = self.case, self.peer
        preview = case.door is Dialect.PREVIEW
        mint = "/openai/realtimeapi/sessions" if preview else "/openai/v1/realtime/client_secrets"
        model = "gpt-4o-mini-realtime-preview" if preview else "gpt-realtime"
        wish = {"model": model, **(case.mint or {})}
        body = wish if preview else {"session": {"type": "realtime", **wish}}
        async with peer.http.post(peer.base + mint, headers={"api-key": CLIENT_KEY}, json=body) as response:
            minted = await response.json()
            assert response.status == 200, minted
        key = minted["client_secret"]["value"] if preview else minted["value"]
        path = "/v1/realtimertc" if preview else "/openai/v1/realtime/calls"
        status, answer = await peer.post_offer(
            await peer.offer(), key, path + ("?webrtcfilter=on" if case.webrtc_filter else "")
        )
        assert status == 201, answer
        await peer.accept(answer)
        async with asyncio.timeout(10):
            await peer.opened.wait()
        if case.webrtc_filter:
            await self.world.simulator.until(lambda state: state["sessions"][-1]["state"] == "open")
            await self.settle()
        else:
            await peer.event("session.created")

    @property
    def session(self):
        # Of the last one alone: the whole state grows with every case.
        return next(reversed(self.world.simulator._seen.values())).snapshot()

    async def take(self, step) -> None:
        match step:
            case Client():
                self.peer.channel.send(step.text)
            case Binary(content):
                self.peer.channel.send(content)
            case Service(dict() as event):
                await self.settle()
                sent = self.session["client_events"]
                last = sent[-1]["event_id"] if sent else ""
                await self.world.simulator.say(json.loads(json.dumps(event).replace("{last}", last)))

    async def settle(self) -> None:
        """Until all that was sent has been judged and answered: events of one channel keep their order."""
        heard = len(self.peer.events)
        self.settled += 1
        self.peer.send(MARKER)
        wanted = "input_audio_buffer.cleared"
        if self.case.webrtc_filter:
            count = self.markers()
            await self.world.simulator.until(lambda _: self.markers() > count)
            await self.world.simulator.say({**SEEN_BY_ALL, "event_id": f"seen_{heard}"})
            wanted = SEEN_BY_ALL["type"]
        await self.peer.until(lambda: any(event["type"] == wanted for event in self.peer.events[heard:]))

    def markers(self) -> int:
        return sum(event["type"] == MARKER["type"] for event in self.session["client_events"])

    def forget(self) -> None:
        self.sent_before = len(self.session["client_events"])
        self.heard_before = len(self.peer.events)
        self.settled = 0

    def sent(self):
        """What the service got because of `send`, without the ids and our markers."""
        events = self.session["client_events"][self.sent_before :]
        told = [{name: value for name, value in event.items() if name != "event_id"} for event in events]
        for _ in range(self.settled):
            told.reverse()
            told.remove({"type": MARKER["type"]})
            told.reverse()
        return told

    def heard(self):
        return self.peer.events[self.heard_before :]


@pytest.mark.parametrize("case", list(live_cases()), ids=lambda case: case.id)
async def test_vector_through_a_channel(line, case: Case) -> None:
    live = await line.session(case)
    for step in case.before:
        await live.take(step)
    await live.settle()
    live.forget()
    for step in case.send:
        await live.take(step)
    if case.ends is None:
        await live.settle()
    else:
        async with asyncio.timeout(10):
            await live.peer.closed.wait()
    what_went_up(live)
    what_came_down(live)
    the_invariants_hold(live)
    line.give_back(live)


def what_went_up(live: Live) -> None:
    sent, case = live.sent(), live.case
    shown = json.dumps(sent)[:2_000]
    if not case.up_is_part:
        assert sent == list(case.up), shown
        return
    assert len(sent) == len(case.up), shown
    for event, pattern in zip(sent, case.up, strict=True):
        assert (wrong := mismatch(pattern, event)) is None, f"{wrong}: {shown}"


def what_came_down(live: Live) -> None:
    """The patterns in order, among what a live service says besides; no error but the expected ones."""
    waiting = list(live.case.down)
    for event in live.heard():
        if waiting and mismatch(waiting[0], event) is None:
            waiting.pop(0)
        else:
            said = event["type"] == "error" and event["error"]["code"] != live.case.ends
            assert not said or live.case.number in ANSWERED_BY_THE_SERVICE, event
    assert not waiting, f"missing {waiting}: {json.dumps(live.heard())[:2_000]}"


def the_invariants_hold(live: Live) -> None:
    case = live.case
    for text in live.peer.raw:
        assert case.discloses or CANARY not in text
        assert not [name for name in LIVE_NAMES if name in text], text
    expected = case.policy.instructions.text if case.in_force is None else case.in_force
    assert live.session["session"]["instructions"] == expected
