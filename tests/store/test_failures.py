"""What is acknowledged is kept whatever dies, and a store that is away says so instead of hanging."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from support.program import ROOT

from relay.core.stored import AuditNote, KeyKind, StoreError, StoreOperation, UsageDelta
from relay.store import database as database_module
from relay.store import open_store

SECRET = "a-value-that-no-error-may-quote"
NOTE = AuditNote("ada", "owner", "test.change")

_PUBLISHES = """
import asyncio, sys
from relay.core.stored import AuditNote
from relay.store import open_store

async def main():
    store = await open_store(sys.argv[1])
    head = None
    while True:
        note = AuditNote("ada", "owner", "policy.publish", target=str((head or 0) + 1))
        revision = await store.revisions.publish({"a.yaml": "x" * 5000}, "h", "ada", "", head, note, 1.0)
        head = revision.number
        print(head, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 60])
async def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(url, acknowledged):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PUBLISHES, url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    for _ in range(acknowledged):
        await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    rest = await process.stdout.read()
    await process.wait()
    told = acknowledged + len(rest.split())
    store = await open_store(url)
    try:
        head = await store.revisions.head_number()
        # One may have been written and not told.
        assert told <= head <= told + 1
        assert len((await store.revisions.get(told)).files["a.yaml"]) == 5000
        verdict = await store.audit.verify()
        assert (verdict.ok, verdict.rows) == (True, head)
        await store.revisions.publish({}, "h", "ada", "", head, NOTE, 1.0)
    finally:
        await store.close()


async def test_a_full_disk_is_an_error_and_what_was_kept_can_be_read(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/relay.db")
    await store.audit.append(NOTE)
    await store.database.run(lambda connection: connection.execute(text("PRAGMA max_page_count = 1")))
    with pytest.raises(StoreError, match="SQLITE_FULL") as failed:
        await store.revisions.publish({"a": SECRET * 100_000}, "h", "ada", "", None, NOTE, 1.0)
    assert SECRET not in str(failed.value)
    assert (await store.audit.verify()).ok
    await store.close()


async def test_a_database_that_may_only_be_read_is_an_error(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/relay.db")
    await store.database.run(lambda connection: connection.exec_driver_sql("PRAGMA query_only = 1"))
    with pytest.raises(StoreError, match="SQLITE_READONLY"):
        await store.audit.append(NOTE)
    await store.close()
    again = await open_store(f"sqlite:///{tmp_path}/relay.db")
    assert (await again.audit.append(NOTE)).number == 1
    await again.close()


async def test_no_error_quotes_what_was_to_be_kept(store):
    told = []
    store.listen(lambda operation, error: told.append((operation, error)))
    await store.keys.create(KeyKind.TENANT, SECRET, SECRET, None, "ab" * 32, "ada", None, NOTE)
    with pytest.raises(StoreError) as failed:
        await store.keys.create(KeyKind.TENANT, SECRET, SECRET, None, "ab" * 32, "ada", None, NOTE)
    shown = f"{failed.value!r} {failed.value.__cause__!r} {failed.getrepr(style='long')}"
    assert SECRET not in str(failed.value)
    assert failed.value.__suppress_context__, shown
    assert "Integrity" in str(failed.value) or "Unique" in str(failed.value)
    assert [(operation, error is None) for operation, error in told] == [
        (StoreOperation.KEYS, True),
        (StoreOperation.KEYS, False),
    ]


@pytest.mark.stores
async def test_a_server_that_falls_silent_is_given_up_and_comes_back(postgres):
    store = await open_store(postgres.new_database())
    await store.audit.append(NOTE)
    await store.database.run(lambda connection: connection.execute(text("SELECT 1")))
    stopped = [postgres.pid(), *children(postgres.pid())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match=r"no answer within 0.5 s"):
            await store.database.run(lambda connection: connection.execute(text("SELECT 1")), 0.5)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await store.ping()
    await store.close()


@pytest.mark.stores
async def test_closing_does_not_wait_for_a_server_that_is_silent(postgres, monkeypatch):
    monkeypatch.setattr(database_module, "_CLOSE_SECONDS", 0.2)
    store = await open_store(postgres.new_database())
    await store.ping()
    stopped = [postgres.pid(), *children(postgres.pid())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError):
            await store.database.run(lambda connection: connection.execute(text("SELECT 1")), 0.2)
        await store.close()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


async def test_a_search_that_takes_long_keeps_nobody_from_writing(store):
    begun, may_end = threading.Event(), threading.Event()

    def search(connection):
        rows = connection.execute(text("SELECT count(*) FROM audit")).scalar()
        begun.set()
        may_end.wait(10)
        return rows

    searching = asyncio.create_task(store.database.run(search, reading=True))
    try:
        await asyncio.to_thread(begun.wait, 10)
        await asyncio.wait_for(store.audit.append(NOTE), 5)
        assert not searching.done()
    finally:
        may_end.set()
    assert await searching == 0
    assert len(await store.audit.search()) == 1


async def test_what_a_closed_store_is_asked_is_refused(url):
    store = await open_store(url)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.audit.append(NOTE)


async def test_too_many_questions_are_refused_instead_of_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "_MOST_WAITING", 5)
    store = await open_store(f"sqlite:///{tmp_path}/relay.db")
    deltas = [UsageDelta("2026-11-22", "t", "s", tokens=1)]
    outcomes = await asyncio.gather(
        *(store.usage.add(deltas, str(n), "1", 0.0) for n in range(20)), return_exceptions=True
    )
    kept = [each for each in outcomes if each is None]
    assert {str(each) for each in outcomes if each is not None} == {"5 questions wait for an answer"}
    assert (await store.usage.spent("2026-11-22", relay=True))[()].tokens == len(kept) >= 5
    await store.close()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
