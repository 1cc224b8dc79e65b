"""The decision log's lines: each holds the hash of the one before it, so that none can be changed or taken out unseen.

A line is one JSON object; its hash is the SHA-256 of its bytes without the line end. A chain is what one process wrote
in its life: it begins with a `start` record after GENESIS and, if the process stopped in order, ends with an `end` one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64


class Kind(StrEnum):
    """What a line of the decision log tells."""

    START = "start"
    DECISION = "decision"
    LOST = "lost"
    END = "end"


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision that was not a plain forward; nothing in it is content.

    `at` is Unix seconds; `subject` a hash; `revision` that of the policy in force. `verdict` is what was done,
    `would_be` what would have been in audit mode where that differs. `content_sha256` is the hash of the event's text
    as it came in, None for a decision that is about no event.
    """

    at: float
    session: str
    tenant: str
    subject: str
    policy: str
    revision: str
    leg: str
    event_type: str
    rule: str
    verdict: str
    mode: str
    would_be: str | None = None
    content_sha256: str | None = None

    def fields(self) -> dict[str, Any]:
        """The members of the line, in the order they are written."""
        return {
            "session": self.session,
            "tenant": self.tenant,
            "subject_hash": self.subject,
            "policy": self.policy,
            "revision": self.revision,
            "leg": self.leg,
            "event_type": self.event_type,
            "rule": self.rule,
            "verdict": self.verdict,
            "mode": self.mode,
            "would_be": self.would_be,
            "content_sha256": self.content_sha256,
        }


class Chain:
    """A chain being written: gives each record its number and its link."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.length = 0
        self.head = GENESIS

    def line(self, kind: Kind, timestamp: str, fields: dict[str, Any]) -> bytes:
        """The next line, with its line end; the chain is one longer from here on."""
        whole = {
            "ts": timestamp,
            "chain": self.name,
            "seq": self.length,
            "prev_hash": self.head,
            "kind": kind.value,
            **fields,
        }
        line = json.dumps(whole, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
        self.head = line_hash(line)
        self.length += 1
        return line + b"\n"


def line_hash(line: bytes) -> str:
    """The hash of a line, which the next one holds; `line` is without its line end."""
    return hashlib.sha256(line).hexdigest()
