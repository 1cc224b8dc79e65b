"""How a store is opened: its form brought up, by one at a time, and every refusal in clear words."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from support.program import ROOT

from relay.core.stored import AuditNote, SessionRow
from relay.errors import ConfigError
from relay.store import look_at, open_store
from relay.store.migrate import NEWEST, migrate
from relay.store.store import open_database
from relay.store.tables import METADATA

NOTE = AuditNote("ada", "owner", "test.change")


def differences(connection):
    return compare_metadata(MigrationContext.configure(connection), METADATA)


async def test_an_empty_database_is_brought_to_the_form_of_the_tables(empty_url):
    store = await open_store(empty_url)
    try:
        assert await store.database.run(differences) == []
        await store.audit.append(NOTE)
    finally:
        await store.close()
    assert (await look_at(empty_url)).form == NEWEST
    again = await open_store(empty_url)
    assert (await again.audit.head()).number == 1
    await again.close()


async def test_the_tables_in_memory_have_the_same_form():
    store = await open_store("sqlite://")
    assert await store.database.run(differences) == []
    await store.close()


async def test_a_database_of_the_first_form_is_brought_up_and_keeps_what_it_holds(empty_url):
    old = open_database(empty_url)
    assert migrate(old, "0001") == (None, "0001")
    row = {"id": "rs_1", "tenant": "t", "subject": "s", "policy": "p", "reason": "r", "started_at": 1, "ended_at": 2}
    names = ", ".join([*row, "body"])
    insert = text(f"INSERT INTO sessions ({names}) VALUES (:{', :'.join(row)}, '{{}}')")
    old.run_here(lambda connection: connection.execute(insert, row))
    await old.close()
    assert not (await look_at(empty_url)).ready
    store = await open_store(empty_url)
    assert await store.sessions.get("rs_1") == SessionRow(**row, body={}, timeline=())
    assert await store.database.run(differences) == []
    await store.close()


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(url):
    store = await open_store(url)
    await store.database.run(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num='9'")))
    await store.close()
    with pytest.raises(ConfigError, match=f"has form 9 and .* up to {NEWEST}"):
        await open_store(url)
    assert (await look_at(url)).form == "9"


def test_the_newest_step_is_the_one_the_program_asks_for():
    config = Config()
    config.set_main_option("script_location", str(ROOT / "relay/store/migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


_OPENS = """
import asyncio, sys
from relay.core.stored import AuditNote
from relay.store import open_store

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    store = await open_store(sys.argv[1])
    for _ in range(5):
        await store.audit.append(AuditNote("ada", "owner", "test.change"))
    await store.close()

asyncio.run(main())
"""


async def test_processes_that_open_an_empty_database_at_once_do_not_collide(empty_url):
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _OPENS, empty_url, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT
        )
        for _ in range(3)
    ]
    for process in processes:
        assert await process.stdout.readline() == b"ready\n"
    outcomes = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0], outcomes
    store = await open_store(empty_url)
    verdict = await store.audit.verify()
    assert (verdict.ok, verdict.rows) == (True, 15)
    await store.close()


async def test_a_file_is_for_its_user_only(tmp_path):
    file = tmp_path / "new" / "relay.db"
    store = await open_store(f"sqlite:///{file}")
    await store.audit.append(NOTE)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    assert modes == {"relay.db": 0o600, "relay.db-wal": 0o600, "relay.db-shm": 0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    await store.close()
    file.chmod(0o644)
    store = await open_store(f"sqlite:///{file}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense with password", "is not a URL"),
        ("mysql://u:password@h/d", "begins with neither"),
        ("postgresql+asyncpg://u:password@h/d", "begins with neither"),
        ("sqlite:////proc/password/relay.db", "cannot be opened"),
        ("postgresql://u:password@127.0.0.1:1/d", "PostgreSQL at 127.0.0.1 cannot be used: OperationalError"),
        ("postgresql://u:password@127.0.0.1:x/d", "is not a URL"),
    ],
)
async def test_a_url_that_cannot_be_used_is_told_without_quoting_it(url, words):
    with pytest.raises(ConfigError, match=words) as refused:
        await open_store(url)
    assert "password@" not in str(refused.value)


async def test_a_file_that_is_no_database_is_told(tmp_path):
    file = tmp_path / "relay.db"
    file.write_bytes(b"not a database at all " * 100)
    with pytest.raises(ConfigError, match=r"relay.db cannot be used: DatabaseError \(SQLITE_NOTADB\)"):
        await open_store(f"sqlite:///{file}")


async def test_without_the_driver_the_words_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'realtime-relay\[postgres\]'"):
        await open_store("postgresql://127.0.0.1:1/relay")


@pytest.mark.stores
async def test_a_wrong_password_is_told_without_it(postgres):
    with pytest.raises(ConfigError, match=r"PostgreSQL at 127.0.0.1 cannot be used: OperationalError") as refused:
        await open_store(postgres.url("postgres").replace("of-the-tests", "guessed"))
    assert "guessed" not in str(refused.value)


async def test_a_look_makes_no_file(tmp_path):
    with pytest.raises(ConfigError, match="not there yet"):
        await look_at(f"sqlite:///{tmp_path}/relay.db")
    assert list(tmp_path.iterdir()) == []


def test_sqlite_can_what_is_asked_of_it():
    assert sqlite3.sqlite_version_info >= (3, 24), "INSERT … ON CONFLICT came with 3.24"
