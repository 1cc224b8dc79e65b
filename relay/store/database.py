"""One database, asked in transactions that run in threads of their own: the event loop never waits for a disk.

SQLite by default: one file, write-ahead log, one writer at a time, durable when `run` returns. PostgreSQL where several
nodes share one truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

T = TypeVar("T")

_BUSY_SECONDS = 10.0
# Of PostgreSQL: what one node asks at the same time.
_THREADS = 4
_IN_MEMORY = "sqlite://"


class StoreError(Exception):
    """The store cannot be asked or did not take what it was given. The message holds no value of a row."""


class Database:
    """`url` as SQLAlchemy spells it: `sqlite:////var/lib/relay/relay.db`, `postgresql+psycopg://user@host/name`.

    `sqlite://` is a database that is gone with the process.
    """

    def __init__(self, url: str) -> None:
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": _THREADS, "max_overflow": 0}
        if self.is_sqlite:
            options = {"connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False}}
        if url == _IN_MEMORY:
            options["poolclass"] = StaticPool
        self.engine = create_engine(url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._threads = ThreadPoolExecutor(1 if self.is_sqlite else _THREADS, thread_name_prefix="store")

    async def run(self, work: Callable[[Connection], T], seconds: float = _BUSY_SECONDS) -> T:
        """Do this in one transaction; what it did is on disk when this returns. Raises StoreError.

        A transaction that takes longer than `seconds` goes on behind the caller's back, who is told that it failed.
        """
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_here, work)
        except TimeoutError:
            raise StoreError(f"no answer within {seconds:g} s") from None

    def run_here(self, work: Callable[[Connection], T]) -> T:
        """Do this in one transaction, in this thread. Raises StoreError."""
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            # Its text may quote the statement with its values.
            raise StoreError(type(getattr(error, "orig", None) or error).__name__) from None

    async def close(self) -> None:
        """Let what is under way finish, then close every connection."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def lock(self, connection: Connection, name: int) -> None:
        """Let nobody else be in a transaction with this lock until this one is over; SQLite has one writer anyway."""
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": name})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun by us: the driver's own begin would not lock until the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
