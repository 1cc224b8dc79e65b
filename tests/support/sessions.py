"""One session from offer to end as a test looks at it: the reason, the notice, the hang-up, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from relay.core.record import SessionRecord
from relay.session import SessionHost
from relay.workers.pool import WorkerPool
from support.client import Client
from support.resources import held, nothing_left_since, settled
from support.service import CLIENT_KEY, SECRETS, Bench, bench

ENDED_BY_ITSELF = frozenset({"peer_left", "expired", "connect_failed", "connect_timeout", "slow_peer"})


class Watch:
    """A bench, and the records of the sessions that ended in it."""

    def __init__(self, world: Bench) -> None:
        self.world = world
        self.records: list[SessionRecord] = []
        self._news = asyncio.Event()
        tell = world.relay.telemetry.sessions.ended

        def keep(record: SessionRecord) -> None:
            self.records.append(record)
            self._news.set()
            tell(record)

        self.hang_ups: list[str] = []
        count = world.relay.telemetry.service.requested

        def note(operation: str, outcome: str, seconds: float) -> None:
            if operation == "hangup":
                self.hang_ups.append(outcome)
            count(operation, outcome, seconds)

        world.relay.telemetry.sessions.ended = keep  # type: ignore[method-assign]
        world.relay.telemetry.service.requested = note  # type: ignore[method-assign]

    async def ended(self, seconds: float = 15.0) -> SessionRecord:
        """The record of the first session that ended."""
        async with asyncio.timeout(seconds):
            while not self.records:
                self._news.clear()
                await self._news.wait()
        return self.records[0]

    def session(self) -> dict[str, Any]:
        """What the service saw of its last session."""
        found: dict[str, Any] = self.world.simulator.state()["sessions"][-1]
        return found

    async def hung_up(self) -> None:
        """Fail unless the service was asked to hang up its last call, and did or had ended it by itself before."""
        await self.ended()
        state = await self.world.simulator.until(lambda state: state["sessions"][-1]["state"] == "closed")
        assert len(self.hang_ups) == len(self.records)
        done = state["calls"][-1]["hung_up"]
        assert self.hang_ups[-1] == ("ok" if done else "rejected")
        assert done or state["sessions"][-1]["end"] in ENDED_BY_ITSELF

    async def nothing_live(self) -> None:
        """Fail unless registry and media port have forgotten every session."""
        host = self.world.relay.registry._host
        kept = kept_by_workers if isinstance(host, WorkerPool) else kept_by_endpoint
        left = await settled(lambda: [*self.world.relay.registry.live.counters(), *kept(host)])
        assert not left, left


def kept_by_endpoint(host: SessionHost) -> list[object]:
    """What the media port still knows of sessions."""
    endpoint = host._plane.endpoint
    return [*endpoint._by_ufrag, *(path for inlet in endpoint._inlets for path in inlet._paths)]


def kept_by_workers(pool: WorkerPool) -> list[object]:
    """What the main process still knows of sessions that workers have."""
    workers = [place.worker for place in pool._places]
    fronts = {worker._front for worker in workers} - {None}
    kept = [each for worker in workers for each in (*worker._sessions, *worker._ufrags)]
    return kept + [each for front in fronts for each in (*front._by_ufrag, *front._held)]


@contextlib.asynccontextmanager
async def watched(*args: Any, **options: Any) -> AsyncIterator[Watch]:
    """A bench that must hold nothing more at its end than the process did before."""
    before = held()
    async with bench(*args, **options) as world:
        watch = Watch(world)
        yield watch
        await watch.nothing_live()
    await nothing_left_since(before)


@contextlib.asynccontextmanager
async def client_of(watch: Watch, *, data: bool = True) -> AsyncIterator[Client]:
    """A client that, once closed, has left no task, thread or UDP socket behind at anybody's."""
    before = held()
    async with Client(watch.world.url, CLIENT_KEY, data=data) as client:
        yield client
    await watch.nothing_live()
    await nothing_left_since(before, sockets=False)


async def answered(client: Client, key: str, offer: str | None = None) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Post an offer that is to be refused: status, headers, `error` object; no secret may be in any of them."""
    async with client.http.post(
        f"{client.base}/openai/v1/realtime/calls",
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"},
        data=offer or await client.offer(),
    ) as response:
        text = await response.text()
        headers = {name.lower(): value for name, value in response.headers.items()}
    no_secret_in(text, json.dumps(headers))
    return response.status, headers, json.loads(text)["error"]


async def started(client: Client, offer: str | None = None) -> str:
    """Mint, post the offer, take the answer; the channel is not waited for. Returns the key."""
    key = await client.mint()
    status, answer = await client.post_offer(offer or await client.offer(), key)
    assert status == 201, answer
    no_secret_in(answer)
    await client.accept(answer)
    return key


async def end_notice(client: Client, code: str, seconds: float = 30.0) -> dict[str, Any]:
    """The `error` event that says why the session ends, then the closing of the channel."""
    found: dict[str, Any] = await client.until(lambda: _error_of(client, code), seconds)
    assert set(found) == {"type", "code", "message", "param", "event_id"}
    async with asyncio.timeout(seconds):
        await client.closed.wait()
    assert _error_of(client, code) is found
    no_secret_in(*client.raw)
    return found


def no_secret_in(*texts: str) -> None:
    """Fail if an instruction text or anything that names the service is in one of these."""
    for secret in (*SECRETS, "rtc_"):
        assert not [text for text in texts if secret in text], secret


def _error_of(client: Client, code: str) -> dict[str, Any] | None:
    return next(
        (event["error"] for event in client.events if event["type"] == "error" and event["error"]["code"] == code), None
    )
