"""What is kept in the store, as values: revisions, keys, sessions, usage, decisions, audit, kill switches. Pure.

Times are Unix seconds. Whoever reads or writes them needs neither a database nor `relay.store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.core.access import Role
from relay.core.decision_chain import DecisionRecord

# What an author may say of a change, in characters.
NOTE_MOST = 2_000
# All files of one revision, as JSON, in bytes.
FILES_MOST_BYTES = 8_388_608
# The body of an audit row, of a session's record, and its timeline, as JSON, in bytes.
AUDIT_BODY_MOST_BYTES = 65_536
SESSION_BODY_MOST_BYTES = 65_536
TIMELINE_MOST_BYTES = 262_144
# A store in memory keeps so many of the newest: it shares the memory with the sessions that run.
MEMORY_SESSIONS = 1_000
MEMORY_DECISIONS = 10_000
MEMORY_AUDIT = 10_000
MEMORY_REVISIONS = 50
# Of usage so many days with today; where there are more rows, the oldest of the days before today go earlier.
MEMORY_USAGE_DAYS = 7
MEMORY_USAGE_ROWS = 100_000
# The rows of one search.
PAGE_MOST = 500
# The keys of one list.
KEYS_MOST = 5_000


class StoreError(Exception):
    """The store cannot be asked or did not take what it was given. The message holds no value of a row."""


class StaleRevision(Exception):  # noqa: N818 - a verdict, not a failure
    """Somebody else published since the caller looked. `head` is the newest number now, None: there is none."""

    def __init__(self, head: int | None) -> None:
        super().__init__(f"the newest revision is {head}" if head is not None else "there is no revision yet")
        self.head = head


class UnfitText(ValueError):  # noqa: N818 - a verdict on what a caller gave
    """A text is too long or cannot be kept. The message names what it was to be and the limit, never the text."""


class StoreOperation(StrEnum):
    """What the store was asked for."""

    REVISIONS = "revisions"
    KEYS = "keys"
    SESSIONS = "sessions"
    USAGE = "usage"
    LEASES = "leases"
    DECISIONS = "decisions"
    AUDIT = "audit"
    KILL_SWITCHES = "kill_switches"
    RETENTION = "retention"
    PING = "ping"
    OTHER = "other"


class KeyKind(StrEnum):
    """What a key opens: the mint doors, or the admin API."""

    TENANT = "tenant"
    ADMIN = "admin"


class KillKind(StrEnum):
    """Whom a kill switch stops."""

    ALL = "all"
    TENANT = "tenant"
    POLICY = "policy"


class UsageBy(StrEnum):
    """What a report of usage has a row for."""

    DAY = "day"
    TENANT = "tenant"
    SUBJECT = "subject"


class StoreQueue(StrEnum):
    """What waits in memory to be kept, and is dropped where too much waits."""

    SESSIONS = "sessions"
    DECISIONS = "decisions"


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One published set of policies, without its files; `number` counts from 1 without gaps."""

    number: int
    hash: str
    author: str
    at: float
    note: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One published set of policies; `files` is the text of each by its path."""

    number: int
    hash: str
    author: str
    at: float
    note: str
    files: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key as it is listed; the key itself is nowhere. `tenant` None: an admin key for all tenants.

    `role` is that of an admin key, None for a tenant's; `used_at` is right to about a minute.
    """

    id: str
    kind: KeyKind
    name: str
    tenant: str | None
    role: Role | None
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None

    def opens(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One finished session. `body` is the record as it is shown; `timeline` is None where it was not asked for."""

    id: str
    tenant: str
    subject: str
    policy: str
    reason: str
    started_at: float
    ended_at: float
    body: Mapping[str, Any] = field(default_factory=dict)
    timeline: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the last ended first; `next` is what to ask with for those after them, None: there are none."""

    rows: tuple[SessionRow, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """What is to be added to the usage of one subject of a tenant on one day of UTC, `2026-11-22`."""

    day: str
    tenant: str
    subject: str
    sessions: int = 0
    seconds: float = 0.0
    tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used; a `day`, `tenant` or `subject` of None means all of them together."""

    day: str | None = None
    tenant: str | None = None
    subject: str | None = None
    sessions: int = 0
    seconds: float = 0.0
    tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision with the number the store gave it."""

    number: int
    record: DecisionRecord


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What somebody did or tried on the admin side. `tenant` is whose it was, "" for the whole relay.

    `action` is a fixed word such as `policy.publish`, `target` what it was done to; `body` is the rest, and no secret.
    """

    actor: str
    role: str
    action: str
    tenant: str = ""
    target: str = ""
    accepted: bool = True
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the audit log; `hash` covers the row with `previous`, the hash of the row before."""

    number: int
    at: float
    note: AuditNote
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """Whether the audit log is whole. `rows` were looked at; `first_bad` is the number of the first that is wrong."""

    ok: bool
    rows: int
    first_bad: int | None = None


@dataclass(frozen=True, slots=True)
class KillRow:
    """One kill switch that is on; `name` is a tenant's or a policy's, "" for everybody."""

    kind: KillKind
    name: str
    author: str
    at: float
    note: str
