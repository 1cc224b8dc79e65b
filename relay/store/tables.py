"""The tables of the store, declared once; migrations lead a database to this shape.

Times are Unix seconds; `body` columns hold JSON text. No column holds content of a conversation, and no credential:
keys are kept as SHA-256 digests of 32 random bytes, which nobody can turn back.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()
# A whole number that counts by itself; SQLite does so for its own INTEGER only.
_COUNTED = BigInteger().with_variant(Integer, "sqlite")
_ID = String(128)
_NAME = String(200)

POLICY_REVISIONS = Table(
    "policy_revisions",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("author", _NAME, nullable=False),
    Column("at", Float, nullable=False),
    Column("note", Text, nullable=False),
    # {path: text} of every file of the set: documents and the texts they name.
    Column("files", Text, nullable=False),
)

KILL_SWITCH = Table(
    "kill_switch",
    METADATA,
    # `all`, `tenant` or `policy`, and whose; empty for `all`.
    Column("kind", String(16), primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("author", _NAME, nullable=False),
    Column("at", Float, nullable=False),
    Column("note", Text, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", _ID, primary_key=True),
    # `tenant` keys open the mint doors, `admin` keys the admin API.
    Column("kind", String(16), nullable=False),
    Column("name", _NAME, nullable=False),
    # Of an admin key: the one tenant it is confined to, or empty for all.
    Column("tenant", _NAME, nullable=False),
    # Of an admin key; empty for a tenant's.
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("created_by", _NAME, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("revoked_at", Float, nullable=True),
    Column("used_at", Float, nullable=True),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", _NAME, nullable=False),
    Column("subject", _ID, nullable=False),
    Column("policy", _NAME, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    # What happened in it and when, a JSON list; read only for one session at a time.
    Column("timeline", Text, nullable=False, server_default="[]"),
    Index("sessions_by_time", "ended_at"),
    Index("sessions_by_tenant", "tenant", "ended_at"),
)

USAGE = Table(
    "usage",
    METADATA,
    # A day of UTC, `2026-11-22`.
    Column("day", String(10), primary_key=True),
    Column("tenant", _NAME, primary_key=True),
    Column("subject", _ID, primary_key=True),
    Column("sessions", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("dollars", Float, nullable=False),
)

USAGE_WRITERS = Table(
    "usage_writers",
    METADATA,
    # The last batch that each process added to the usage: one whose outcome it never heard is not added again.
    Column("writer", _ID, primary_key=True),
    Column("batch", _ID, nullable=False),
    Column("at", Float, nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("session", _ID, primary_key=True),
    Column("node", _ID, nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("subject", _ID, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("leases_by_time", "expires_at"),
)

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("session", _ID, nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("subject", _ID, nullable=False),
    Column("policy", _NAME, nullable=False),
    Column("revision", String(64), nullable=False),
    Column("leg", String(16), nullable=False),
    Column("event_type", String(100), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("rule", String(200), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("would_be", String(16), nullable=True),
    Column("content_sha256", String(64), nullable=True),
    Index("decisions_by_time", "at"),
    Index("decisions_by_session", "session"),
    Index("decisions_by_tenant", "tenant", "number"),
)

AUDIT = Table(
    "audit",
    METADATA,
    # A chain: `hash` is of the row with `previous`, the hash of the row before; see relay.core.decision_chain.
    Column("number", _COUNTED, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("role", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("target", _NAME, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_by_time", "at"),
)
