"""Leases in Redis or Valkey: a sorted set of sessions by their expiry for each user, tenant, node and for the relay.

Counted and written by one script, which nothing interrupts; time is the server's. All keys have one hash tag, so that a
cluster keeps them on one node.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.core.allowance import Bound, Scope
from relay.core.leases import LEASE_SECONDS, Claim
from relay.store.redis_connection import RedisConnection

_PREFIX = "{relay-leases}:"
_SCOPES = (Scope.USER, Scope.TENANT, Scope.RELAY)
# Sessions that one script run renews: nobody else is served meanwhile.
_CHUNK = 500

_NOW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
"""
# KEYS: user, tenant, relay, node, member's own. ARGV: session, seconds, and a limit for each of the first three.
_TAKE = (
    _NOW
    + """
for i = 1, 3 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  -- Asked again because the answer was lost: it has its place, and is not counted against itself.
  redis.call('ZREM', KEYS[i], ARGV[1])
  local limit = tonumber(ARGV[2 + i])
  if limit > 0 and redis.call('ZCARD', KEYS[i]) >= limit then return i end
end
-- Nobody counts the node's, and every place taken keeps the set: what was never given back would stay in it.
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local kept = math.ceil(tonumber(ARGV[2]) * 2000)
for i = 1, 4 do
  redis.call('ZADD', KEYS[i], now + tonumber(ARGV[2]), ARGV[1])
  redis.call('PEXPIRE', KEYS[i], kept)
end
redis.call('SET', KEYS[5], KEYS[1] .. '\\n' .. KEYS[2], 'PX', kept)
return 0
"""
)
# KEYS: relay, node. ARGV: seconds, then session, user key, tenant key and own key of each. Returns those that are lost.
_RENEW = (
    _NOW
    + """
local lost, kept = {}, math.ceil(tonumber(ARGV[1]) * 2000)
for i = 2, #ARGV, 4 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) > now then
    for _, key in ipairs({KEYS[1], KEYS[2], ARGV[i + 1], ARGV[i + 2]}) do
      redis.call('ZADD', key, now + tonumber(ARGV[1]), ARGV[i])
      redis.call('PEXPIRE', key, kept)
    end
    redis.call('SET', ARGV[i + 3], ARGV[i + 1] .. '\\n' .. ARGV[i + 2], 'PX', kept)
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)
# KEYS: relay, node. ARGV: the prefix of members' own keys, then sessions, or none: all of the node. Returns how many.
_RELEASE = """
local sessions, freed = {unpack(ARGV, 2)}, 0
if #sessions == 0 then sessions = redis.call('ZRANGE', KEYS[2], 0, -1) end
for _, session in ipairs(sessions) do
  local own = ARGV[1] .. session
  local sets = redis.call('GET', own)
  if sets then
    for key in string.gmatch(sets, '[^\\n]+') do redis.call('ZREM', key, session) end
    redis.call('DEL', own)
  end
  redis.call('ZREM', KEYS[2], session)
  freed = freed + redis.call('ZREM', KEYS[1], session)
end
return freed
"""


class RedisLeases:
    """Implements `relay.core.leases.Leases`; a lease lasts `seconds`."""

    def __init__(self, redis: RedisConnection, node: str, seconds: float = LEASE_SECONDS) -> None:
        self._redis = redis
        self._node = f"{_PREFIX}node:{node}"
        self._seconds = seconds

    async def take(self, claim: Claim, limits: Bound) -> Scope | None:
        """Take a place if no limit is reached; else the scope whose limit is. Raises StoreError."""
        user, tenant, own = _keys(claim)
        bounds = [int(limits.of(scope)) for scope in _SCOPES]
        keys = (user, tenant, _RELAY, self._node, own)
        hit = await self._redis.run(_TAKE, keys, (claim.session, self._seconds, *bounds))
        return _SCOPES[hit - 1] if hit else None

    async def renew(self, claims: Sequence[Claim]) -> frozenset[str]:
        """Keep places; the sessions that have none any more. Raises StoreError."""
        lost: set[str] = set()
        for start in range(0, len(claims), _CHUNK):
            sessions = [part for claim in claims[start : start + _CHUNK] for part in (claim.session, *_keys(claim))]
            lost.update(await self._redis.run(_RENEW, (_RELAY, self._node), (self._seconds, *sessions)))
        return frozenset(lost)

    async def release(self, session: str, *, at_once: bool = True) -> None:  # noqa: ARG002 - always at once
        """Give a place back. Raises StoreError."""
        await self._redis.run(_RELEASE, (_RELAY, self._node), (_OWN, session))

    def hurry(self) -> None:
        """Nothing waits here for others."""

    async def free_own(self) -> int:
        """Give back all that this node held before it was started anew; how many. Raises StoreError."""
        return int(await self._redis.run(_RELEASE, (_RELAY, self._node), (_OWN,)))


_RELAY = f"{_PREFIX}relay"
_OWN = f"{_PREFIX}session:"


def _keys(claim: Claim) -> tuple[str, str, str]:
    """The sets of the user and the tenant, and the session's own key. No name holds a line end."""
    tenant, subject = claim.tenant.replace("\n", " "), claim.subject.replace("\n", " ")
    return f"{_PREFIX}user:{len(tenant)}:{tenant}:{subject}", f"{_PREFIX}tenant:{tenant}", f"{_OWN}{claim.session}"
