"""What becomes of an event in which the model repeats what it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.core.canary import is_delta, without_text
from relay.core.event_actions import Action, EndWith, Judged
from relay.core.event_ledger import EventLedger, Sent
from relay.core.lifecycle import LegName
from relay.core.policy_rules import OnCanary
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason

if TYPE_CHECKING:
    from relay.core.event_wording import Wording
    from relay.core.lifecycle import Dialect


class Disclosure:
    """Looks for the canary in what the service says, and does with it as the policy tells."""

    def __init__(self, wording: Wording, ledger: EventLedger, service: Dialect, next_id: Callable[[], str]) -> None:
        self._out = wording
        self._ledger = ledger
        self._service = service
        self._next_id = next_id

    def judge(self, name: str, event: dict[str, Any]) -> list[Action] | None:
        """The actions for an event in which it is heard; None when it is not."""
        canary = self._out.view.canary
        if not canary.active:
            return None
        caught = canary.caught(event)
        heard = canary.hears(name, event)
        cut = self._out.view.acting.canary.action
        if not heard and not (caught and cut is OnCanary.CUT):
            return None
        if cut is OnCanary.END:
            judged = self._out.judged(LegName.UPSTREAM, name, Verdict.END, Rule.CANARY)
            return [judged, EndWith(EndReason.POLICY_DISCLOSED, "the model repeated what it must not")]
        if cut is OnCanary.LOG:
            return self._marked(name, event)
        return [*self._silenced(name, event), *([] if caught else self._stop_speaking(name, event))]

    def _marked(self, name: str, event: dict[str, Any]) -> list[Action]:
        passed = self._out.pass_on(name, event, self._service, Verdict.FORWARD, Rule.CANARY)
        wanted = self._out.view.written.canary.action
        match passed[0]:
            case Judged() as judged if self._out.view.judged is not None and wanted is not OnCanary.LOG:
                would_be = Verdict.END if wanted is OnCanary.END else Verdict.STRIP
                return [replace(judged, would_be=would_be), *passed[1:]]
        return passed

    def _silenced(self, name: str, event: dict[str, Any]) -> list[Action]:
        """The event without what it says: a piece of a text goes as a whole."""
        if is_delta(name):
            return [self._out.withheld(name, Rule.CANARY)]
        return self._out.pass_on(name, without_text(name, event), self._service, Verdict.STRIP, Rule.CANARY)

    def _stop_speaking(self, name: str, event: dict[str, Any]) -> list[Action]:
        """Cancel the response that is being spoken, and what of it waits to be played."""
        response_id = event.get("response_id")
        if not name.startswith("response.") or not isinstance(response_id, str):
            return []
        stops = ({"type": "response.cancel", "response_id": response_id}, {"type": "output_audio_buffer.clear"})
        actions: list[Action] = []
        for stop in stops:
            our_id = self._next_id()
            self._ledger.sent(our_id, Sent(stop["type"], own=True))
            actions.append(self._out.to_service(our_id, stop))
        return actions
