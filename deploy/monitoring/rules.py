"""What a Prometheus rule is, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Who hears of it, and how soon."""

    PAGE = "page"
    """Somebody now: users suffer, or evidence is lost."""
    TICKET = "ticket"
    """Somebody this week."""
    SECURITY = "security"
    """Whoever looks at attacks."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording rule; `record` is named level:metric:operation."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule.

    `hold` is how long `expr` must be true, in shipped time. `summary` is one sentence and may hold Prometheus's
    templates; the page `docs/runbooks/<name>.md` says the rest.
    """

    name: str
    severity: Severity
    summary: str
    expr: str
    hold: str = ""
