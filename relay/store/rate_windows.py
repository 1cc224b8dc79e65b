"""Rates of mints in Redis or Valkey, for several nodes together: the same buckets as `relay.core.mint_rates`."""

from __future__ import annotations

from relay.core.allowance import Bound, Limit, LimitHit
from relay.core.mint_rates import WINDOW_SECONDS, buckets_of
from relay.store.redis_connection import RedisConnection

_PREFIX = "{relay-mints}:"
# A bucket is the time at which it is full again (GCRA). ARGV: the window, then the interval of each key.
# Returns 0, or `number of the key, milliseconds to wait`, and then nothing was counted.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local window, after = tonumber(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local full = math.max(now, tonumber(redis.call('GET', key) or 0))
  after[i] = full + tonumber(ARGV[1 + i])
  local wait = after[i] - now - window
  if wait > 0.001 then return {i, math.ceil(wait)} end
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.3f', after[i]), 'PX', math.ceil(after[i] - now) + 1)
end
return {0, 0}
"""


class RedisMintRates:
    """Counts the mints of all nodes."""

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis

    async def take(self, tenant: str, subject: str, limits: Bound) -> LimitHit | None:
        """Count a mint, unless a limit is reached; then it is counted nowhere. Raises StoreError."""
        wanted = buckets_of(tenant, subject, limits)
        if not wanted:
            return None
        window = WINDOW_SECONDS * 1000
        intervals = [window / limit for _, _, limit in wanted]
        number, wait = await self._redis.run(_TAKE, [_PREFIX + name for _, name, _ in wanted], (window, *intervals))
        return LimitHit(Limit.MINTS, wanted[number - 1][0], wait / 1000) if number else None
