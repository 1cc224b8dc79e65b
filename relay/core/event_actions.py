"""What the event filter tells its caller to do, in order; values only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relay.core.policy_rules import Mode
from relay.core.verdicts import Rule, Verdict

if TYPE_CHECKING:
    from relay.core.lifecycle import LegName
    from relay.core.turn_facts import TurnFact
    from relay.errors import EndReason


@dataclass(frozen=True, slots=True)
class Judged:
    """One event was judged: exactly one of these for each that came in.

    `event_type` is a GA name of the closed lists, or `other`. `verdict` is what was done; in audit mode `would_be` is
    what the policy would have done where that differs, and `rule` is then the rule that would have.
    `content_sha256` is of the event's text as it came in, for decisions that are not plain.
    """

    leg: LegName
    event_type: str
    verdict: Verdict
    rule: Rule
    mode: Mode = Mode.ENFORCE
    would_be: Verdict | None = None
    content_sha256: str | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing was decided but to send the event on."""
        return self.verdict is Verdict.FORWARD and self.rule is Rule.ALLOWED and self.would_be is None


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
class CloseGate:
    """The policy is no longer confirmed in force: media must not pass until it is again."""


@dataclass(frozen=True, slots=True)
class EndWith:
    """End the session. `detail` is for the log and holds no content."""

    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class AnswerAudio:
    """The service begins to send an answer's sound; the speech before it stopped at `since`, Unix time."""

    since: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Pass a fact on, for the figures."""

    fact: TurnFact


Action = Judged | ToService | ToClient | OpenGate | CloseGate | EndWith | AnswerAudio | Tell


def hashed(actions: list[Action], text: str) -> list[Action]:
    """The verdict with the hash of what it is about, unless the event was simply sent on."""
    judged = actions[0] if actions else None
    if isinstance(judged, Judged) and not judged.plain:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        actions[0] = replace(judged, content_sha256=digest)
    return actions
