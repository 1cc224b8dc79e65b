"""Where quotas are counted, by the settings: the database; Redis or Valkey for places and mints, if there is one."""

from __future__ import annotations

import contextlib
import time

from relay.config import QuotaSettings, Settings
from relay.core.allowance import Allowance, Bound, LimitHit
from relay.core.leases import Leases
from relay.core.mint_rates import MintRates
from relay.core.stored import StoreError
from relay.errors import ConfigError
from relay.metering import Metering
from relay.quotas import QuotaRules, Quotas, TakeMint
from relay.slots import Slots
from relay.store.database import Database
from relay.store.leases import SqlLeases
from relay.store.usage import Usages
from relay.telemetry.quotas import QuotaTelemetry


async def open_quotas(
    settings: Settings, database: Database, node: str, telemetry: QuotaTelemetry, stack: contextlib.AsyncExitStack
) -> Quotas:
    """The quotas of this node; the stack closes them. Places that it left behind are free. Raises ConfigError."""
    leases: Leases = SqlLeases(database, node)
    take_mint: TakeMint = _in_memory()
    if settings.store.redis_url is not None:
        leases, take_mint = _in_redis(settings.store.redis_url.reveal(), node, stack)
    slots = Slots(leases, settings.quotas.sessions_on_failure, telemetry)
    quotas = Quotas(quota_rules(settings.quotas), slots, Metering(Usages(database)), take_mint, telemetry)
    stack.push_async_callback(quotas.close)
    await slots.start()
    return quotas


def quota_rules(quotas: QuotaSettings) -> QuotaRules:
    """The limits, from the settings."""
    return QuotaRules(
        Allowance(
            Bound(quotas.user_sessions, quotas.tenant_sessions, quotas.relay_sessions),
            Bound(quotas.user_minutes_a_day, quotas.tenant_minutes_a_day, quotas.relay_minutes_a_day),
            Bound(quotas.user_tokens_a_day, quotas.tenant_tokens_a_day, quotas.relay_tokens_a_day),
            Bound(quotas.user_dollars_a_day, quotas.tenant_dollars_a_day, quotas.relay_dollars_a_day),
        ),
        Bound(quotas.user_mints_a_minute, quotas.tenant_mints_a_minute),
        quotas.grace_seconds,
        quotas.usage_on_failure,
        quotas.mints_on_failure,
    )


def _in_memory() -> TakeMint:
    rates = MintRates()

    async def take(tenant: str, subject: str, limits: Bound) -> LimitHit | None:
        return rates.take(tenant, subject, limits, time.monotonic())

    return take


def _in_redis(url: str, node: str, stack: contextlib.AsyncExitStack) -> tuple[Leases, TakeMint]:
    try:
        # A relay alone needs no client of Redis.
        from relay.store.rate_windows import RedisMintRates  # noqa: PLC0415
        from relay.store.redis_connection import RedisConnection  # noqa: PLC0415
        from relay.store.redis_leases import RedisLeases  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("store.redis_url: Redis needs a client: pip install 'realtime-relay[redis]'") from None
    try:
        redis = RedisConnection(url)
    except StoreError as error:
        raise ConfigError(f"store.redis_url: {error}") from None
    stack.push_async_callback(redis.close)
    return RedisLeases(redis, node), RedisMintRates(redis).take
