"""What the relay keeps: policy revisions, keys, sessions, usage, leases, decisions, audit. SQLAlchemy stays in here."""

from relay.core.stored import StoreError
from relay.store.database import Database, Lock
from relay.store.retention import RetentionDays
from relay.store.store import Store, StoreFacts, look_at, open_store

__all__ = [
    "Database",
    "Lock",
    "RetentionDays",
    "Store",
    "StoreError",
    "StoreFacts",
    "look_at",
    "open_store",
]
