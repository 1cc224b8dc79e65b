"""One database, asked in transactions that run in threads of their own: the event loop never waits for a disk.

SQLite by default: one file, write-ahead log, one writer at a time, durable when `run` returns. PostgreSQL where several
nodes share one truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from relay.core.stored import StoreError, StoreOperation

__all__ = ["Database", "Lock", "StoreError"]

T = TypeVar("T")

_BUSY_SECONDS = 10.0
# Of PostgreSQL: what one node asks at the same time.
_THREADS = 4
# Above it a question is refused: a store that hangs must not fill the memory.
_MOST_WAITING = 1_000
_CLOSE_SECONDS = 5.0
_WAL_STEP_SECONDS = 0.02
# A server that is there answers within this; a statement of ours takes milliseconds, a batch of retention a second.
_POSTGRESQL = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "tcp_user_timeout": 10_000,
    "options": "-c statement_timeout=10s -c idle_in_transaction_session_timeout=30s",
    "application_name": "relay",
}


class Lock(IntEnum):
    """What one transaction at a time may do, over all nodes; the numbers are PostgreSQL's advisory locks."""

    MIGRATION = 0x72656C_01
    REVISIONS = 0x72656C_02
    AUDIT = 0x72656C_03
    LEASES = 0x72656C_04
    KILL_SWITCHES = 0x72656C_05


class Database:
    """`url` as SQLAlchemy spells it: `sqlite:////var/lib/relay/relay.db`, `postgresql+psycopg://user@host/name`.

    `sqlite://` is a database that is gone with the process. `told` hears, in the event loop, what each
    question of `run` was for, and why it was not answered, None: it was.
    """

    def __init__(self, url: str | URL) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.in_memory = self.is_sqlite and not parsed.database
        self.told: Callable[[StoreOperation, StoreError | None], None] = lambda _operation, _error: None
        if self.is_sqlite:
            options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False}}
            if self.in_memory:
                options["poolclass"] = StaticPool
        else:
            given = {name: value for name, value in _POSTGRESQL.items() if name not in parsed.query}
            options = {"pool_pre_ping": True, "pool_size": _THREADS, "max_overflow": 0, "connect_args": given}
            options["isolation_level"] = "READ COMMITTED"
        self.engine = create_engine(parsed, hide_parameters=True, **options)
        self._open: set[Any] = set()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", lambda raw, _record: self._open.add(raw))
            event.listen(self.engine, "close", lambda raw, _record: self._open.discard(raw))
        self._threads = ThreadPoolExecutor(1 if self.is_sqlite else _THREADS, thread_name_prefix="store")
        # SQLite in a file: a search that takes long keeps nobody from writing.
        apart = self.is_sqlite and not self.in_memory
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-read") if apart else self._threads
        self._room = threading.BoundedSemaphore(_MOST_WAITING)

    async def run(
        self,
        work: Callable[[Connection], T],
        seconds: float = _BUSY_SECONDS,
        *,
        operation: StoreOperation = StoreOperation.OTHER,
        reading: bool = False,
    ) -> T:
        """Do this in one transaction; what it did is on disk when this returns. Raises StoreError.

        What only reads and may take long is `reading`. A transaction that has begun and takes longer than `seconds`
        goes on behind the caller's back, who is told that it failed; one that has not begun by then is left out.
        """
        try:
            done = await self._asked(work, seconds, reading=reading)
        except StoreError as error:
            self.told(operation, error)
            raise
        self.told(operation, None)
        return done

    def run_here(self, work: Callable[[Connection], T], *, reading: bool = False) -> T:
        """Do this in one transaction, in this thread. Raises StoreError."""
        try:
            with self.engine.connect().execution_options(reading=reading) as connection, connection.begin():
                return work(connection)
        except SQLAlchemyError as error:
            # Its text may quote the statement with its values.
            raise StoreError(error_name(error)) from None

    async def close(self) -> None:
        """Let what is under way finish, for seconds; then close every connection."""
        finished = asyncio.create_task(asyncio.to_thread(self._stop_threads))
        if not (await asyncio.wait({finished}, timeout=_CLOSE_SECONDS))[0]:
            self._hang_up()
        await finished
        self.engine.dispose()

    def lock(self, connection: Connection, name: Lock) -> None:
        """Let nobody else be in a transaction with this lock until this one is over; SQLite has one writer anyway."""
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": int(name)})

    def _stop_threads(self) -> None:
        for threads in (self._readers, self._threads):
            threads.shutdown(cancel_futures=True)

    async def _asked(self, work: Callable[[Connection], T], seconds: float, *, reading: bool) -> T:
        if not self._room.acquire(blocking=False):
            raise StoreError(f"{_MOST_WAITING} questions wait for an answer")
        given_up = threading.Event()

        def step() -> T:
            if given_up.is_set():
                raise StoreError("given up")
            return self.run_here(work, reading=reading)

        try:
            doing = (self._readers if reading else self._threads).submit(step)
        except RuntimeError:
            self._room.release()
            raise StoreError("closed") from None
        doing.add_done_callback(lambda _: self._room.release())
        asked = asyncio.wrap_future(doing)
        # Whoever stopped waiting does not ask for it any more.
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise StoreError(f"no answer within {seconds:g} s") from None
        except asyncio.CancelledError:
            if asked.cancelled():
                raise StoreError("closed") from None
            raise
        finally:
            given_up.set()

    def _hang_up(self) -> None:
        """End what a server that is silent keeps waiting; a thread that waits would keep the process from ending."""
        for raw in tuple(self._open):
            with contextlib.suppress(OSError, AttributeError), socket.socket(fileno=os.dup(raw.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)


def error_name(error: SQLAlchemyError) -> str:
    """What kind of error it is, in the database's own short words, which quote nothing."""
    origin = getattr(error, "orig", None) or error
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    return type(origin).__name__ + (f" ({code})" if code else "")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun by us: the driver's own begin would not lock until the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    until = time.monotonic() + _BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] not in {"wal", "memory"}:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except connection.OperationalError:
            # SQLite does not wait by itself when another process makes the same change.
            if time.monotonic() >= until:
                raise
            time.sleep(_WAL_STEP_SECONDS)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # Who reads alone sees what is written when its first statement begins, and takes no lock (WAL).
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
