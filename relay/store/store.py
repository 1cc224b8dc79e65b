"""The store: one database and what is kept in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from relay.core.stored import StoreError, StoreOperation
from relay.errors import ConfigError, UnreachableError
from relay.store.audit_log import Audit
from relay.store.database import Database
from relay.store.decisions import Decisions
from relay.store.keys import Keys
from relay.store.kill_switches import KillSwitches
from relay.store.migrate import NEWEST, form_in, migrate
from relay.store.retention import Retention, RetentionDays
from relay.store.revisions import PolicyRevisions
from relay.store.session_records import SessionRecords
from relay.store.usage import Usages

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_PING_SECONDS = 5.0
# Which setting named a file is not known here.
_FILE = "store.url (or relay.db in state.directory)"


class Store:
    """What is kept, by subject. `clock` gives Unix seconds."""

    def __init__(self, database: Database, days: RetentionDays, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.audit = Audit(database, clock)
        self.revisions = PolicyRevisions(database, self.audit)
        self.keys = Keys(database, self.audit, clock)
        self.sessions = SessionRecords(database)
        self.usage = Usages(database)
        self.decisions = Decisions(database)
        self.kill_switches = KillSwitches(database, self.audit, clock)
        self.retention = Retention(database, self.audit, days, clock)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.database.engine.dialect.name

    def listen(self, told: Callable[[StoreOperation, StoreError | None], None]) -> None:
        """Say who hears what the store is asked for and why it does not answer, None: it does. Called in the loop."""
        self.database.told = told

    async def ping(self) -> None:
        """Ask the database for nothing. Raises StoreError."""
        await self.database.run(
            lambda connection: connection.execute(text("SELECT 1")).all(), _PING_SECONDS, operation=StoreOperation.PING
        )

    async def close(self) -> None:
        """Let what is under way finish and close every connection."""
        await self.database.close()


async def open_store(url: str, days: RetentionDays | None = None, clock: Callable[[], float] = time.time) -> Store:
    """Open the database at `url`, bringing its tables to the form of this program first.

    `sqlite:////path` (made, for its user only, if it is not there), `sqlite://` (in memory), or
    `postgresql://user:password@host/name`. Raises ConfigError if it cannot be used, UnreachableError (one of
    them) if its server cannot; no message holds the URL.
    """
    database = await asyncio.to_thread(open_database, url)
    try:
        await asyncio.to_thread(migrate, database)
    except StoreError as error:
        await database.close()
        raise _unusable(database, error) from None
    except BaseException:
        await database.close()
        raise
    return Store(database, days or RetentionDays(), clock)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """A database as it is: `form` is the last step it has seen, None: none; `newest` is what this program needs.

    `writable`: tables can be made and changed. `durable`: what it says is kept is on a disk.
    """

    kind: str
    place: str
    form: str | None
    newest: str
    writable: bool = True
    durable: bool = True

    @property
    def ready(self) -> bool:
        """Whether it has the form this program needs."""
        return self.form == self.newest


async def look_at(url: str, *, bring_up: bool = False) -> StoreFacts:
    """See what there is, or with `bring_up` do the steps that are missing first. Raises ConfigError."""
    database = await asyncio.to_thread(open_database, url, make=bring_up)
    try:
        if bring_up:
            await asyncio.to_thread(migrate, database)
        form = await asyncio.to_thread(database.run_here, form_in)
        writable, durable = await asyncio.to_thread(database.run_here, _trustworthy)
    except StoreError as error:
        raise _unusable(database, error) from None
    finally:
        await database.close()
    return StoreFacts(database.engine.dialect.name, _place(database), form, NEWEST, writable, durable)


def open_database(url: str, *, make: bool = True) -> Database:
    """The database at `url`, as `open_store` takes it, whatever its form. Blocks. Raises ConfigError.

    Without `make` a file has to be there.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        if not make and not Path(parsed.database).exists():
            raise ConfigError(f"store.url: {parsed.database} is not there yet; `relay store migrate` makes it")
        _make_private(Path(parsed.database))
    try:
        return Database(parsed)
    except ImportError:
        raise ConfigError("store.url: PostgreSQL needs a driver: pip install 'realtime-relay[postgres]'") from None


def _trustworthy(connection: Connection) -> tuple[bool, bool]:
    if connection.dialect.name == "sqlite":
        # To be in a transaction at all is to hold the lock for writing; each waits for the disk.
        return True, True
    row = connection.execute(
        text(
            "SELECT current_setting('transaction_read_only') = 'off'"
            " AND coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),"
            " current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'"
        )
    ).one()
    return bool(row[0]), bool(row[1])


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError("store.url: is not a URL such as sqlite:////var/lib/relay/relay.db") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigError("store.url: begins with neither sqlite:// nor postgresql://")
    if parsed.database == ":memory:":
        parsed = parsed.set(database=None)
    return parsed.set(drivername=driver)


def _make_private(file: Path) -> None:
    """Make the file and its directory for this user only; SQLite gives what it puts beside it the same mode."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        if file.stat().st_mode & 0o077:
            # Another user's file that we may write: how it is kept is theirs to say.
            with contextlib.suppress(PermissionError):
                file.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{_FILE}: {file} cannot be opened: {error.strerror}") from None


def _unusable(database: Database, error: StoreError) -> ConfigError:
    # A file that cannot be used stays so; a server may only be away.
    kind, setting = (ConfigError, _FILE) if database.is_sqlite else (UnreachableError, "store.url")
    return kind(f"{setting}: {_place(database)} cannot be used: {error}")


def _place(database: Database) -> str:
    url = database.engine.url
    return str(url.database or "the memory") if database.is_sqlite else f"PostgreSQL at {url.host or 'its socket'}"
