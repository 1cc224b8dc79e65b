"""The service as the relay sees it; the only package that speaks HTTP to it and holds its credential."""

from relay.upstream.adapters import create_upstream
from relay.upstream.refusals import to_api_error
from relay.upstream.service import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal, Upstream

__all__ = [
    "Operation",
    "ServiceCall",
    "ServiceError",
    "ServiceKey",
    "ServiceRefusal",
    "Upstream",
    "create_upstream",
    "to_api_error",
]
