"""One connection pool to Redis or Valkey, with bounds on every wait, and one exception for all that can go wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.core.stored import StoreError

_SECONDS = 2.0
_CONNECTIONS = 16
_CHECKED = "{relay-leases}:checked"


class RedisConnection:
    """`url` as `redis://[user:password@]host:port/number`, `rediss://` for TLS, `unix://` for a socket."""

    def __init__(self, url: str) -> None:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_SECONDS,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                # A connection that a restart of the server closed is noticed by its first use only.
                retry=Retry(NoBackoff(), 1),
                decode_responses=True,
            )
        except ValueError:
            raise StoreError("the URL of Redis cannot be used") from None
        self._redis: Any = Redis.from_pool(pool)
        self._scripts: dict[str, Callable[..., Awaitable[Any]]] = {}

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Run a Lua script, which nothing else interrupts. Raises StoreError."""
        registered = self._scripts.setdefault(script, self._redis.register_script(script))
        try:
            return await registered(keys=list(keys), args=list(arguments))
        except (RedisError, OSError) as error:
            # Its text may quote what was sent.
            raise StoreError(type(error).__name__) from None

    async def check(self) -> None:
        """Write a key and take it away. Raises StoreError."""
        await self.run("redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('DEL', KEYS[1])", [_CHECKED], [])

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
