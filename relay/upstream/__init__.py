"""The service as the relay sees it; the only package that speaks HTTP to it and holds its credential."""

from relay.upstream.adapters import create_upstream
from relay.upstream.pool import Member, UpstreamPool, create_pool, fails_over, retry_after_seconds
from relay.upstream.refusals import to_api_error
from relay.upstream.service import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal, Upstream

__all__ = [
    "Member",
    "Operation",
    "ServiceCall",
    "ServiceError",
    "ServiceKey",
    "ServiceRefusal",
    "Upstream",
    "UpstreamPool",
    "create_pool",
    "create_upstream",
    "fails_over",
    "retry_after_seconds",
    "to_api_error",
]
