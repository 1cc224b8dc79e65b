"""How long a session may last and be idle under its policy; when to warn and when to end it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.errors import EndReason

if TYPE_CHECKING:
    from relay.core.policy_rules import LimitRules


@dataclass(frozen=True, slots=True)
class TimeUp:
    """The session is to end now."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class TimeShort:
    """The session will end in `seconds_left` (a whole number, at least 1); told once for each end that comes near."""

    reason: EndReason
    seconds_left: int


class SessionClock:
    """Follows one session. `rules` may be replaced at any time and count from the session's own beginning.

    That is when its client comes, where the session was there first.
    """

    def __init__(self, rules: LimitRules, began: float) -> None:
        self.rules = rules
        self._began = began
        self._told: dict[EndReason, float] = {}

    def tick(self, now: float, last_event: float) -> TimeUp | TimeShort | None:
        """Look at the time; `last_event` is when the conversation last moved. All in seconds of one clock."""
        due = self._due(last_event)
        for reason, (at, _) in due.items():
            if now >= at:
                return TimeUp(reason)
        for reason, (at, span) in due.items():
            # A span no longer than the warning would be warned about at its beginning, each time.
            if (
                span > self.rules.warn_seconds > 0
                and at - now <= self.rules.warn_seconds
                and self._told.get(reason) != at
            ):
                self._told[reason] = at
                return TimeShort(reason, math.ceil(at - now))
        return None

    def begin(self, now: float) -> None:
        """Count from now on."""
        self._began = now

    def warn_again(self) -> None:
        """Somebody else listens now, who was warned of nothing."""
        self._told.clear()

    def _due(self, last_event: float) -> dict[EndReason, tuple[float, float]]:
        """When each end comes, and how long it was to come."""
        rules, due = self.rules, {}
        if rules.session_seconds is not None:
            due[EndReason.POLICY_TIME_LIMIT] = (self._began + rules.session_seconds, float(rules.session_seconds))
        if rules.idle_seconds is not None:
            due[EndReason.POLICY_IDLE] = (last_event + rules.idle_seconds, float(rules.idle_seconds))
        return due
