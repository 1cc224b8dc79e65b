"""Where quotas are counted, each a real one: a file of SQLite, PostgreSQL, Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from support.postgres import running_postgres
from support.redis import running_redis

from relay.core.leases import Leases
from relay.store import Database
from relay.store.leases import SqlLeases
from relay.store.redis_connection import RedisConnection
from relay.store.redis_leases import RedisLeases
from relay.store.tables import LEASES, METADATA
from relay.telemetry import Telemetry


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


# Redis goes by its own clock: in its place what it keeps is made older.
_AGE = """
for _, key in ipairs(redis.call('KEYS', '{relay-leases}:*')) do
  if redis.call('TYPE', key).ok == 'zset' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -tonumber(ARGV[1]), member)
    end
  end
end
"""


class Places:
    """One kind of store; `node` gives what a node named so uses, all with one clock, which `pass_time` moves.

    `kept` counts what the store holds for a node, lapsed or not.
    """

    def __init__(
        self,
        node: Callable[[str], Leases],
        pass_time: Callable[[float], Awaitable[None]],
        kept: Callable[[str], Awaitable[int]],
    ) -> None:
        self.node = node
        self.pass_time = pass_time
        self.kept = kept


@pytest.fixture(scope="session")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server():
    with running_redis() as server:
        yield server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def telemetry():
    return Telemetry(CollectorRegistry())


@pytest.fixture
def where(request, kind, tmp_path):
    """The URL of an empty store of this kind."""
    match kind:
        case "postgresql":
            url = request.getfixturevalue("postgres").new_database()
            return url.replace("postgresql:", "postgresql+psycopg:")
        case "redis":
            return request.getfixturevalue("redis_server").url
        case _:
            return f"sqlite:///{tmp_path / 'relay.db'}"


@pytest.fixture
async def databases(where):
    """Makes connections of nodes to one database."""
    async with contextlib.AsyncExitStack() as stack:
        yield await _databases(where, stack)


@pytest.fixture
async def places(kind, where, clock):
    async with contextlib.AsyncExitStack() as stack:
        if kind == "redis":
            redis = RedisConnection(where)
            stack.push_async_callback(redis.close)
            await redis.run("return redis.call('FLUSHALL')", (), ())
            yield Places(
                lambda name: RedisLeases(redis, name),
                lambda seconds: redis.run(_AGE, (), (seconds,)),
                lambda name: redis.run("return redis.call('ZCARD', KEYS[1])", (f"{{relay-leases}}:node:{name}",), ()),
            )
        else:
            another = await _databases(where, stack)

            async def pass_time(seconds: float) -> None:
                clock.now += seconds

            def kept(name: str) -> Awaitable[int]:
                mine = select(func.count()).where(LEASES.c.node == name)
                return another().run(lambda connection: connection.scalar(mine))

            yield Places(lambda name: SqlLeases(another(), name, clock=clock), pass_time, kept)


async def _databases(url: str, stack: contextlib.AsyncExitStack) -> Callable[[], Database]:
    def another() -> Database:
        database = Database(url)
        stack.push_async_callback(database.close)
        return database

    await another().run(METADATA.create_all)
    return another
