"""What the event filter tells its caller to do, in order; values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.core.lifecycle import LegName
    from relay.core.verdicts import Rule, Verdict
    from relay.errors import EndReason


@dataclass(frozen=True, slots=True)
class Judged:
    """One event was judged: exactly one of these for each that came in.

    `event_type` is a GA name of the closed lists, or `other`.
    """

    leg: LegName
    event_type: str
    verdict: Verdict
    rule: Rule


@dataclass(frozen=True, slots=True)
class ToService:
    """Send this text to the service."""

    text: str


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send this text to the client."""

    text: str


@dataclass(frozen=True, slots=True)
class OpenGate:
    """The policy is confirmed in force: media may pass."""


@dataclass(frozen=True, slots=True)
class EndWith:
    """End the session. `detail` is for the log and holds no content."""

    reason: EndReason
    detail: str


Action = Judged | ToService | ToClient | OpenGate | EndWith
