"""The doctor at the store, at Redis and at the administrators' door."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from support.postgres import running_postgres
from support.redis import running_redis

from relay.config import AdminSettings, Secret, StateSettings, StoreSettings
from relay.doctor.checks import Status
from relay.doctor.local import administrators
from relay.doctor.stores import redis, store
from relay.store import open_store
from relay.store.store import open_database


def kept_in(settings, directory):
    return replace(settings, state=StateSettings(str(directory)))


def at(settings, **urls):
    return replace(settings, store=StoreSettings(**{name: Secret(url) for name, url in urls.items()}))


async def test_a_store_in_memory_one_to_be_made_and_one_that_is_well(settings, tmp_path):
    (memory,) = await store(settings)
    assert memory.status is Status.SKIP
    (missing,) = await store(kept_in(settings, tmp_path / "state"))
    assert (missing.status, missing.seen) == (Status.OK, "not there yet; the start makes it")
    assert list(tmp_path.iterdir()) == []
    await (await open_store(f"sqlite:///{tmp_path}/relay.db")).close()
    (well, *_) = await store(kept_in(settings, tmp_path))
    assert well.status is Status.OK
    assert well.subject == f"{tmp_path}/relay.db"


async def test_the_form_of_an_older_and_of_a_newer_version(settings, tmp_path):
    await (await open_store(f"sqlite:///{tmp_path}/relay.db")).close()
    for form, status in (("0001", Status.WARN), ("9999", Status.FAIL)):
        database = open_database(f"sqlite:///{tmp_path}/relay.db")
        database.run_here(lambda c, form=form: c.exec_driver_sql(f"UPDATE alembic_version SET version_num='{form}'"))
        await database.close()
        (found, *_) = await store(kept_in(settings, tmp_path))
        assert (found.status, form in found.seen) == (status, True)
        assert "copy" in found.advice


async def test_a_store_that_cannot_be_used_is_told_without_its_password(settings, tmp_path):
    (away,) = await store(at(settings, url="postgresql://relay:canary-password@127.0.0.1:1/relay"))
    assert away.status is Status.FAIL
    assert "PostgreSQL at 127.0.0.1" in away.seen
    assert "canary-password" not in away.seen + away.advice
    (tmp_path / "relay.db").write_bytes(b"something else " * 100)
    (broken,) = await store(kept_in(settings, tmp_path))
    assert broken.status is Status.FAIL
    if os.geteuid() != 0:
        (tmp_path / "shut").mkdir(mode=0o500)
        (shut,) = await store(kept_in(settings, tmp_path / "shut"))
        assert shut.status is Status.FAIL


@pytest.mark.stores
async def test_a_postgresql_that_is_only_to_be_read_or_forgets(settings):
    with running_postgres() as server:
        url = server.new_database()
        (empty, *rest) = await store(at(settings, url=url))
        (_, cannot, _) = await store(at(settings, url=f"{url}?options=-c%20default_transaction_read_only%3Don"))
    assert (empty.status, "is empty" in empty.seen) == (Status.OK, True)
    # The tests' own server does without fsync.
    assert [each.status for each in rest] == [Status.WARN]
    assert (cannot.status, cannot.seen) == (Status.FAIL, "cannot be written")


async def test_redis_that_is_there_read_only_away_or_misspelt(settings):
    (none,) = await redis(settings)
    assert none.status is Status.SKIP
    with running_redis() as server:
        (well,) = await redis(at(settings, redis_url=server.url))
        assert well.status is Status.OK
    (away,) = await redis(at(settings, redis_url="redis://:canary@127.0.0.1:1/0"))
    (wrong,) = await redis(at(settings, redis_url="http://canary"))
    assert away.status is wrong.status is Status.FAIL
    assert "canary" not in away.seen + wrong.seen


def test_who_administers_and_from_where(settings, tmp_path):
    (nobody,) = administrators(settings)
    assert (nobody.status, nobody.seen) == (Status.WARN, "nobody is an administrator")
    (local,) = administrators(replace(settings, admin=AdminSettings(key=Secret("an-admin-key-of-tests"))))
    assert local.status is Status.OK
    assert "admin keys of the store" in administrators(kept_in(settings, tmp_path))[0].seen
    beyond = AdminSettings(host="0.0.0.0", key=Secret("an-admin-key-of-tests"))
    plain, any_name = administrators(replace(settings, admin=beyond))
    assert plain.status is any_name.status is Status.WARN
    assert "unencrypted" in plain.seen
    assert [each.seen for each in administrators(replace(settings, admin=replace(beyond, hosts=("a.example",))))] == [
        plain.seen
    ]
