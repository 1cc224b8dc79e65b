"""What was asked of the session at the service, and what of that the service is known to have taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.core.event_ledger import Brought, EventLedger, Update
from relay.core.instruction_text import combine, is_too_long
from relay.core.policy_rules import ClientInstructions, InstructionRules
from relay.core.session_fields import leaves
from relay.core.session_rules import with_settings
from relay.core.tool_rules import all_tools, kept_functions

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy


class Asked:
    """What the session has to be: a policy's, with what is the client's of it.

    `brought` is what of instructions and tools is the client's, as it was sent last; `text` and `tools` are what an
    echo has to show after the answers so far; `sent` the values of fields that the service took, `chosen` the fields
    that the client set, by path.
    """

    def __init__(self, policy: EffectivePolicy, brought: Brought) -> None:
        self.policy = policy
        self.brought = self._applied = brought
        self.text = self.wanted_text
        self.tools = self.wanted_tools
        self.chosen: set[str] = set()
        self.sent: dict[str, Any] = dict(leaves(with_settings(policy, {})))

    @property
    def wanted_text(self) -> str:
        """The instructions that have to be in force."""
        return combine(self.policy.instructions, self.brought.text)

    def text_with(self, text: str) -> str:
        """The instructions that would have to be in force with another text of the client's."""
        return combine(self.policy.instructions, text)

    @property
    def wanted_tools(self) -> list[dict[str, Any]]:
        """The tools that have to be there."""
        return all_tools(self.policy.tools, self.brought.functions)

    # --- what is asked ---------------------------------------------------------------------------------------------

    def give(self, *, text: str | None = None, functions: Iterable[dict[str, Any]] | None = None) -> Brought:
        """The client brought another text, or other functions (None: it spoke of none): what of both is its now."""
        if text is not None:
            self.brought = replace(self.brought, text=text)
        if functions is not None:
            self.brought = replace(self.brought, functions=tuple(functions))
        return self.brought

    def minted_with(self, functions: Iterable[dict[str, Any]]) -> None:
        """These functions of the client's are there from the beginning."""
        self.brought = self._applied = replace(self.brought, functions=tuple(functions))
        self.tools = self.wanted_tools

    def choose(self, paths: Iterable[str]) -> None:
        """The client sets these fields."""
        self.chosen.update(paths)

    def come_under(self, policy: EffectivePolicy) -> None:
        """Other rules apply. What of the client's they would not take is forgotten."""
        functions = kept_functions(self.brought.functions, policy.tools)
        self.brought = Brought(_kept_text(self.brought.text, policy.instructions), tuple(functions))
        self.policy = policy

    def forget_client(self, session: Mapping[str, Any]) -> None:
        """Ask for the policy alone where this update did: nothing of the client's is worth its not being in force."""
        if "instructions" in session:
            self.brought = replace(self.brought, text=None)
        if "tools" in session:
            self.brought = replace(self.brought, functions=())

    # --- what is answered ------------------------------------------------------------------------------------------

    def answered(self, update: Update | None) -> None:
        """The service applied an update."""
        if update is None:
            return
        if "instructions" in update.session:
            self.text = update.session["instructions"]
            self._applied = replace(self._applied, text=update.brought.text)
        self.sent.update(leaves(dict(update.session)))
        if "tools" in update.session:
            self.tools = list(update.session["tools"])
            self._applied = replace(self._applied, functions=update.brought.functions)

    def gave_up(self, update: Update, ledger: EventLedger) -> None:
        """The service refused an update for good: the client's share is again what the service is known to run."""
        if "instructions" in update.session and not ledger.changes_pending("instructions"):
            kept = _kept_text(self._applied.text, self.policy.instructions)
            self.brought = replace(self.brought, text=kept)
        if "tools" in update.session and not ledger.changes_pending("tools"):
            functions = kept_functions(self._applied.functions, self.policy.tools)
            self.brought = replace(self.brought, functions=tuple(functions))


def _kept_text(text: str | None, rules: InstructionRules) -> str | None:
    """The client's text as far as these rules would take it."""
    if text is None or rules.client in (ClientInstructions.OVERRIDE, ClientInstructions.DENY):
        return None
    return None if is_too_long(text, rules) else text
