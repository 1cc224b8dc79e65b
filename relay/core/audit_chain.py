"""The audit log's chain: each row's hash covers the row and the hash of the row before. Pure.

Numbers count from 1 without gaps. When old rows are deleted, a row `audit.trim` in the chain itself names the first one
that is kept and the hash before it, so that a log cut by anybody else does not pass for one that was trimmed.

A chain is no proof against somebody who may write the table and computes it anew: for that a head has to be kept
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from relay.core.decision_chain import GENESIS
from relay.core.stored import ChainVerdict

TRIM = "audit.trim"


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A row as it lies in the table; `body` is its JSON text."""

    number: int
    at: float
    actor: str
    role: str
    action: str
    tenant: str
    target: str
    accepted: bool
    body: str
    previous: str
    hash: str = ""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: ASCII, members sorted, no spaces. Raises ValueError for what is not JSON."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def audit_hash(line: AuditLine) -> str:
    """The SHA-256 of a row, its own hash left out."""
    members = {name: getattr(line, name) for name in AuditLine.__slots__ if name != "hash"}
    members["at"] = float(line.at)
    return hashlib.sha256(canonical_json(members).encode()).hexdigest()


class ChainCheck:
    """Is fed the rows in order and says whether they are whole."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self._rows = 0
        self._first_previous = GENESIS
        self._head = GENESIS
        self._broken_at: int | None = None
        self._kept_from: dict[int, str] = {}

    @property
    def broken(self) -> bool:
        """Whether a row was wrong; those after it need not be fed."""
        return self._broken_at is not None

    def feed(self, line: AuditLine) -> None:
        """Take the next row."""
        if self.first is None:
            self.first, self._first_previous = line.number, line.previous
        elif line.number != (self.last or 0) + 1:
            # The first that is not there.
            self._broken_at = (self.last or 0) + 1
        elif line.previous != self._head:
            self._broken_at = line.number
        self._rows += 1
        if not self.broken and line.hash != audit_hash(line):
            self._broken_at = line.number
        self.last, self._head = line.number, line.hash
        if line.action == TRIM and not self.broken:
            self._note_trim(line)

    def verdict(self) -> ChainVerdict:
        """What is known after the last row."""
        if self._broken_at is not None:
            return ChainVerdict(ok=False, rows=self._rows, first_bad=self._broken_at)
        if self.first is None:
            return ChainVerdict(ok=True, rows=0)
        allowed = GENESIS if self.first == 1 else self._kept_from.get(self.first)
        if allowed != self._first_previous:
            return ChainVerdict(ok=False, rows=self._rows, first_bad=1 if self.first != 1 else self.first)
        return ChainVerdict(ok=True, rows=self._rows)

    def _note_trim(self, line: AuditLine) -> None:
        try:
            body = json.loads(line.body)
            self._kept_from[int(body["kept_from"])] = str(body["previous"])
        except (ValueError, KeyError, TypeError):
            # Its hash fits, but the relay writes no such row.
            self._broken_at = line.number
