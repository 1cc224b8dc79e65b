"""Checks of what the relay keeps: the database of the store, and Redis or Valkey beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from relay.config import Settings
from relay.core.stored import StoreError
from relay.doctor.checks import Check, CheckName, Status
from relay.errors import ConfigError
from relay.store import StoreFacts, look_at

_LEAST_FREE_MIB = 256


async def store(settings: Settings) -> list[Check]:
    """Whether the database answers, can be written, keeps what it was given, and has the form of this version."""
    name = CheckName.STORE
    if not settings.store_lasts:
        return [Check(name, Status.SKIP, "neither store.url nor state.directory is set: memory, gone with the process")]
    url = settings.store_url.reveal()
    if (file := _file(url)) is not None and not file.exists():
        return [_to_be_made(file)]
    try:
        facts = await look_at(url)
    except ConfigError as error:
        advice = "a relay does not start without its store: mend it, or what leads to it, or change store.url"
        return [Check(name, Status.FAIL, str(error), advice)]
    return [_form(facts), *_weaknesses(facts, file)]


async def redis(settings: Settings) -> list[Check]:
    """Whether Redis or Valkey runs scripts that write, as places and mints are counted by them."""
    name = CheckName.REDIS
    if settings.store.redis_url is None:
        return [Check(name, Status.SKIP, "store.redis_url is not set: the store counts places, each node its mints")]
    try:
        from relay.store.redis_connection import RedisConnection  # noqa: PLC0415 - an extra
    except ImportError:
        return [Check(name, Status.FAIL, "the client is not installed", "pip install 'realtime-relay[redis]'")]
    try:
        connection = RedisConnection(settings.store.redis_url.reveal())
    except StoreError as error:
        return [Check(name, Status.FAIL, str(error), "write it as redis://:password@host:6379/0, or rediss:// for TLS")]
    try:
        await connection.check()
    except StoreError as error:
        advice = "let this machine reach the primary, with a user that may run scripts (EVALSHA) and write"
        return [Check(name, Status.FAIL, f"does not do what it must: {error}", advice)]
    finally:
        await connection.close()
    return [Check(name, Status.OK, "runs scripts and can be written")]


def _file(url: str) -> Path | None:
    """The file of a SQLite database."""
    scheme, _, path = url.partition(":///")
    return Path(path.partition("?")[0]) if scheme.startswith("sqlite") and path not in {"", ":memory:"} else None


def _to_be_made(file: Path) -> Check:
    there = next(each for each in file.absolute().parents if each.is_dir())
    if os.access(there, os.W_OK | os.X_OK):
        return Check(CheckName.STORE, Status.OK, "not there yet; the start makes it", subject=str(file))
    advice = "let the user the relay runs as write there, or set state.directory or store.url to another place"
    return Check(CheckName.STORE, Status.FAIL, f"{there} cannot be written", advice, str(file))


def _form(facts: StoreFacts) -> Check:
    name, seen = CheckName.STORE, f"{facts.kind} answers"
    if facts.ready:
        return Check(name, Status.OK, f"{seen}, form {facts.form}", subject=facts.place)
    if facts.form is None:
        return Check(name, Status.OK, f"{seen} and is empty; the start makes its tables", subject=facts.place)
    seen = f"{seen}, form {facts.form}; this version needs {facts.newest}"
    if facts.form > facts.newest:
        advice = "a newer version used it: run that one, or go back to a copy made before it"
        return Check(name, Status.FAIL, seen, advice, facts.place)
    return Check(name, Status.WARN, seen, "the start brings it there: make a copy first", facts.place)


def _weaknesses(facts: StoreFacts, file: Path | None) -> list[Check]:
    name, found = CheckName.STORE, []
    if not facts.writable:
        advice = "give the address of the primary, and let the role own the database"
        found.append(Check(name, Status.FAIL, "cannot be written", advice, facts.place))
    if not facts.durable:
        advice = "switch fsync and synchronous_commit on, or know that a power cut takes the last changes back"
        found.append(Check(name, Status.WARN, "says that something is kept before it is", advice, facts.place))
    if file is not None and (free := shutil.disk_usage(file.parent).free // 1_048_576) < _LEAST_FREE_MIB:
        advice = "make room, or keep records for fewer days (store.sessions_days, store.decisions_days)"
        found.append(Check(name, Status.WARN, f"{free} MiB are free", advice, facts.place))
    return found
