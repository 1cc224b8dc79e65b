"""What the relay keeps: policy revisions, keys, sessions, usage, leases, decisions, audit. SQLAlchemy stays in here."""

from relay.store.database import Database, StoreError

__all__ = ["Database", "StoreError"]
