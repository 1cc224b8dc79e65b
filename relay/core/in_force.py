"""The session at the service as its echoes tell it, and the instructions it has to run under."""

from __future__ import annotations

from typing import Any

from relay.core.event_ledger import Update
from relay.core.instruction_text import combine
from relay.core.policy_rules import InstructionRules


class InForce:
    """Compares what the service says it runs with what was asked of it last.

    `wanted` is what was sent last; `expected` what an echo has to show now, which follows when the service answers: it
    answers updates in order, and echoes in between still show the text before.
    """

    def __init__(self, rules: InstructionRules, client_text: str | None) -> None:
        self.rules = rules
        self.client_text = client_text
        self.wanted = self.expected = combine(rules, client_text)
        self.session: dict[str, Any] = {}
        self.created: dict[str, Any] | None = None
        self.repaired = False
        self.refused_once = False
        self.gate_shut = False
        # When an own update has to be answered, Unix time; None while none is due or no time is known.
        self.deadline: float | None = None

    def take(self, session: Any) -> None:
        """Keep the service's session, GA shape, as the state of things."""
        self.session = session if isinstance(session, dict) else {}

    def holds(self) -> bool:
        """Whether the last echo shows the expected text."""
        shown = self.session.get("instructions")
        if not self.expected:  # an empty policy: the service may show none at all
            return shown in (None, "")
        return bool(shown == self.expected)

    def with_client_text(self, text: str) -> str:
        """The client gave another text: what is to be in force now."""
        self.client_text = text
        self.wanted = combine(self.rules, text)
        return self.wanted

    def under(self, rules: InstructionRules) -> str:
        """Other rules apply: what is to be in force now. A client's text that they would not take is forgotten."""
        self.rules = rules
        if self.client_text is not None and len(self.client_text) > rules.client_max_chars:
            self.client_text = None
        self.wanted = combine(rules, self.client_text)
        return self.wanted

    def answered(self, update: Update | None) -> None:
        """The service applied an update."""
        if update is not None and update.instructions is not None:
            self.expected = update.instructions

    def gave_up(self, update: Update) -> None:
        """The service refused an update for good: what was in force before stays."""
        if update.instructions is not None:
            self.wanted = self.expected
