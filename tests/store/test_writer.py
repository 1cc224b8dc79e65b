"""Records and decisions get into the store behind the sessions' backs, and nothing waits for it."""

from __future__ import annotations

import asyncio

import pytest

from relay import store_writer
from relay.core.decision_chain import DecisionRecord
from relay.core.lifecycle import Dialect
from relay.core.record import SessionRecord
from relay.core.stored import StoreError, StoreQueue
from relay.errors import EndReason
from relay.store import open_store
from relay.store_writer import StoreWriter


def decision(number: int) -> DecisionRecord:
    return DecisionRecord(float(number), "rs", "t", "s", "p", "r", "downstream", "e", "rule", "end", "enforce")


def record(number: int) -> SessionRecord:
    return SessionRecord(
        session_id=f"rs_{number}",
        door="ga_calls",
        dialect=Dialect.GA,
        reason=EndReason.CLIENT_HUNG_UP,
        detail="",
        duration_seconds=2.5,
        policy="desk",
        revision="r1",
        tenant="contoso",
        subject="s1",
        started_at=100.0,
        timeline=({"at": 0.5, "kind": "phase"},),
    )


class Lane:
    """What takes rows once it is there; a row that is `poison` is never taken, for whatever `fault`."""

    def __init__(self, store):
        self.store = store
        self.rows = []
        self.tries = 0
        self.changed = asyncio.Event()

    async def add_many(self, rows):
        self.tries += 1
        self.changed.set()
        if self.store.away or self.store.poison in rows:
            raise self.store.fault
        self.rows += rows

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Away:
    """A store that can be away."""

    def __init__(self):
        self.away = False
        self.poison = None
        self.fault = StoreError("away")
        self.sessions = Lane(self)
        self.decisions = Lane(self)

    async def ping(self):
        if self.away:
            raise self.fault


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(store_writer, "_LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(store_writer, "_GATHER_SECONDS", 0.01)


async def test_what_sessions_leave_is_found_in_the_store(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/relay.db")
    dropped = []
    writer = StoreWriter(store, lambda kind, rows: dropped.append((kind, rows)))
    for number in range(1200):
        writer.decided(decision(number))
    writer.session_ended(record(1))
    await writer.close()
    kept = await store.sessions.get("rs_1")
    assert (kept.tenant, kept.subject, kept.policy, kept.reason) == ("contoso", "s1", "desk", "client_hung_up")
    assert (kept.started_at, kept.ended_at, kept.body["door"]) == (100.0, 102.5, "ga_calls")
    assert kept.timeline == ({"at": 0.5, "kind": "phase"},)
    assert (await store.decisions.search(limit=1))[0].number == 1200
    assert dropped == []
    await store.close()


@pytest.mark.parametrize("fault", [StoreError("away"), RuntimeError("the relay's own")])
async def test_what_waits_while_the_store_is_away_is_written_when_it_is_back(quick, fault):
    store = Away()
    store.away, store.fault = True, fault
    dropped = []
    writer = StoreWriter(store, lambda kind, rows: dropped.append((kind, rows)), most_sessions=2, most_decisions=700)
    for number in range(5):
        writer.session_ended(record(number))
    for number in range(701):
        writer.decided(decision(number))
    await asyncio.wait_for(store.sessions.until(lambda: store.sessions.tries > 5), 10)
    # One above the bound each time: the newest go, and each is counted.
    assert dropped == [(StoreQueue.SESSIONS, 1)] * 3 + [(StoreQueue.DECISIONS, 1)]
    store.away = False
    await store.decisions.until(lambda: len(store.decisions.rows) == 700)
    assert [row.id for row in store.sessions.rows] == ["rs_0", "rs_1"]
    assert store.decisions.rows == [decision(number) for number in range(700)]
    await writer.close()


@pytest.mark.parametrize("fault", [StoreError("refused"), OverflowError("not the database's")])
async def test_a_batch_that_is_refused_again_and_again_does_not_keep_the_rest_from_being_written(quick, fault):
    store = Away()
    store.poison, store.fault = decision(7), fault
    dropped = []
    writer = StoreWriter(store, lambda kind, rows: dropped.append((kind, rows)))
    for number in range(600):
        writer.decided(decision(number))
    await asyncio.wait_for(store.decisions.until(lambda: store.decisions.rows), 10)
    assert dropped == [(StoreQueue.DECISIONS, 500)]
    assert store.decisions.tries == 4
    await writer.close()


async def test_what_is_left_at_the_close_is_counted(quick):
    store = Away()
    store.away = True
    dropped = []
    writer = StoreWriter(store, lambda kind, rows: dropped.append((kind, rows)))
    writer.decided(decision(1))
    writer.session_ended(record(1))
    await writer.close()
    assert dropped == [(StoreQueue.SESSIONS, 1), (StoreQueue.DECISIONS, 1)]
