"""One session at the service kept as its policy has it: what is asked of the service, and what its answers show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.core.dialect import server_event_to_ga
from relay.core.event_actions import Action, CloseGate, EndWith, OpenGate
from relay.core.event_ledger import Asker, Brought, EventLedger, Sent, Update
from relay.core.in_force import Drift, InForce, nested
from relay.core.lifecycle import Dialect, LegName
from relay.core.policy_rules import OnDrift
from relay.core.session_demands import paths_in
from relay.core.session_fields import leaves
from relay.core.session_rules import ABSENT, setting
from relay.core.tool_rules import all_tools
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason

if TYPE_CHECKING:
    from relay.core.client_events import Outcome
    from relay.core.event_wording import Wording
    from relay.core.lifecycle import SessionStart
    from relay.core.responses_running import ResponsesRunning

_VOICE = "audio.output.voice"
_VOICE_REFUSED = "cannot_update_voice"


class SessionKeeper:
    """Sends every `session.update` of one session, and judges by the echoes whether the policy is in force.

    What is mixed with the policy's goes apart from what is the client's alone: the service refuses an update whole.
    """

    def __init__(
        self,
        start: SessionStart,
        wording: Wording,
        ledger: EventLedger,
        responses: ResponsesRunning,
        next_id: Callable[[], str],
    ) -> None:
        functions = start.client_functions
        brought = None if functions is None else Brought(start.client_instructions, functions)
        self.confirmed = False
        self._start = start
        self._out = wording
        self._ledger = ledger
        self._responses = responses
        self._next_id = next_id
        self._force = InForce(wording.view.acting, start.service_dialect, brought, start.client_instructions)
        self._force.asked.choose(start.client_fields)
        # Responses that began under the policy before this one.
        self._former_responses: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether events pass: the policy is confirmed, and nothing since has shown that it is not in force."""
        return self.confirmed and not self._force.gate_shut

    @property
    def settled(self) -> bool:
        """Whether the policy is proved to be in force whole, and no response is left that began before it was."""
        if not self.is_open or not self._force.is_settled(self._ledger):
            return False
        return self._former_responses.isdisjoint(self._responses.ids)

    # --- what is asked ---------------------------------------------------------------------------------------------

    def take_policy(self) -> list[Action]:
        """The acting policy was replaced: put in force whatever of it is not proved to be."""
        self._force.under(self._out.view.acting)
        self._former_responses = self._responses.ids
        drift = self._force.unsettled(self._ledger)
        actions = self._send(drift)
        fields = drift.fields.all
        if any(not self._can_send(path, value) for path, value in fields.items()):
            # The service takes it no more, or never did: it is not in force, and the session is not settled.
            actions.append(self._out.withheld("session.updated", Rule.SESSION_IN_FORCE))
        return actions

    def client_parts(self, outcome: Outcome) -> list[Mapping[str, Any]]:
        """The updates that a client's own one becomes; changes nothing."""
        parts: list[Mapping[str, Any]] = []
        rules = self._out.view.acting
        if outcome.instructions is not None:
            text = self._force.asked.text_with(outcome.instructions)
            if text != self._force.asked.wanted_text:
                parts.append({"instructions": text})
        fields = {} if outcome.event is None else dict(outcome.event["session"])
        fields.pop("type", None)
        if outcome.functions is not None and rules.tools.admin:
            parts.append({"tools": all_tools(rules.tools, outcome.functions)})
        elif outcome.functions is not None:
            fields["tools"] = outcome.functions
        if fields:
            parts.append(fields)
        return parts

    def client_update(self, outcome: Outcome, parts: list[Mapping[str, Any]], event_id: str | None) -> list[Action]:
        """Send them; the answer to the last one is the client's."""
        brought = self._force.asked.give(text=outcome.instructions, functions=outcome.functions)
        if not parts:
            self._ledger.expect(Update(Asker.LOCAL))
        actions: list[Action] = []
        for number, session in enumerate(parts, 1):
            self._force.asked.choose(paths_in(session))
            asker = Asker.CLIENT if number == len(parts) else Asker.PART
            update = Update(asker, session=session, brought=brought, parts=number > 1)
            actions.append(self._own_update(update, Sent("session.update", event_id)))
        return actions

    def answer_locally(self) -> list[Action]:
        """Our own `session.updated` for updates of which nothing was sent, once their turn has come."""
        return [action for _ in range(self._ledger.local_answers()) for action in self.own_echo()]

    def own_echo(self) -> list[Action]:
        """The session as it is, told to the client by the relay itself."""
        return self._out.own_echo(self._force)

    def introduce(self) -> list[Action]:
        """`session.created` with the session in force, for a peer that took over."""
        return self._out.shown_echo({"type": "session.created"}, self._force, None)[1:]

    # --- what is answered ------------------------------------------------------------------------------------------

    def created(self, event: dict[str, Any], size: int) -> list[Action]:
        """Judge a `session.created`; the first one that shows the policy in force opens the gate."""
        first = self._force.created is None
        self._take_session(event, size)
        if first:
            self._force.created = event
        drift = self._force.drift()
        if drift.serious:
            return self._drifted(
                drift, "session.created", [self._out.withheld("session.created", Rule.SESSION_IN_FORCE)]
            )
        if not first:
            return [self._out.withheld("session.created", Rule.SESSION_ECHO), *self._mend(drift)]
        rule = Rule.SESSION_IN_FORCE if drift.slight else Rule.SESSION_ECHO
        judged = self._out.judged(LegName.UPSTREAM, "session.created", Verdict.REWRITE, rule)
        return [judged, *self._confirm(), *self._mend(drift)]

    def updated(self, event: dict[str, Any], size: int) -> list[Action]:
        """Judge a `session.updated`: it answers the oldest update, and shows whether the policy is in force."""
        if self._force.created is None:
            return [self._out.withheld("session.updated", Rule.SESSION_ECHO)]
        update = self._ledger.update_answered()
        self._force.asked.answered(update)
        self._take_session(event, size)
        drift = self._force.drift()
        gone = update is not None and update.asker is Asker.GONE
        whose = Rule.SESSION_FORMER_PEER if gone else Rule.SESSION_OWN_UPDATE
        actions: list[Action] = [self._out.withheld("session.updated", whose)]
        # What a peer asked for that is gone is news to the one that came, unless that would take it for its own answer.
        for_client = (
            not self._ledger.due(Asker.CLIENT, Asker.LOCAL) if gone else update is None or update.asker is Asker.CLIENT
        )
        if self.confirmed and for_client:
            actions = self._out.shown_echo(event, self._force, Rule.SESSION_IN_FORCE if drift.slight else None)
        if self._ledger.due(Asker.POLICY):
            return actions  # another answer may come before that of our own update
        if drift.serious:
            return self._drifted(drift, "session.updated", actions)
        actions += self._mend(drift)
        if not self.confirmed:
            return [*actions, *self._confirm()]
        if self._force.gate_shut:
            self._force.gate_shut = False
            actions.append(OpenGate())
        return actions

    def refused(self, update: Update, error: Mapping[str, Any]) -> list[Action]:
        """The service refused an update: what it asks for is not in force.

        One of the policy's is tried once more without the client's share, then as told; nothing comes of another.
        """
        if update.asker is not Asker.POLICY:
            self._force.asked.gave_up(update, self._ledger)
            return []
        withheld = self._out.withheld("error", Rule.SESSION_IN_FORCE)
        session = self._without_voice(update.session) if error.get("code") == _VOICE_REFUSED else update.session
        if session is not update.session:
            # It came after the first sound: what remains of the update was not at fault.
            return [withheld, *([self._own_update(replace(update, session=session))] if session else [])]
        if not update.again:
            self._force.asked.forget_client(update.session)
            return [withheld, self._own_update(self._alone(update))]
        if self._out.view.written.instructions.on_drift is OnDrift.LOG and self.confirmed:
            self._force.asked.gave_up(update, self._ledger)
            return [withheld]
        judged = self._out.judged(LegName.UPSTREAM, "error", Verdict.END, Rule.SESSION_IN_FORCE)
        return [judged, EndWith(EndReason.POLICY_NOT_IN_FORCE, "own session.update was refused")]

    def tick(self, now_unix: float) -> list[Action]:
        """What the time says: an update of the relay's own has a deadline, whether the service speaks or not."""
        if not self._ledger.due(Asker.POLICY):
            self._force.deadline = None
        elif self._force.deadline is None:
            self._force.deadline = now_unix + self._start.limits.policy_seconds
        elif now_unix > self._force.deadline:
            return [EndWith(EndReason.POLICY_NOT_IN_FORCE, "own session.update was not answered")]
        return []

    # --- inside ----------------------------------------------------------------------------------------------------

    def _take_session(self, event: dict[str, Any], size: int) -> None:
        ga = server_event_to_ga(event) if self._start.service_dialect is Dialect.PREVIEW else event
        self._force.take(ga.get("session"), size)

    def _confirm(self) -> list[Action]:
        """Open the gate, and show the client the session that it has waited for."""
        self.confirmed = True
        return [OpenGate(), *self._out.shown_echo(self._force.created or {}, self._force, None)[1:]]

    def _drifted(self, drift: Drift, name: str, actions: list[Action]) -> list[Action]:
        """The service runs something else: put it right by updates that hold nothing of the client's, once; or as told.

        Without a first confirmation `log` is not enough: then there was no moment at which the policy was in force.
        """
        on_drift = self._out.view.written.instructions.on_drift
        if on_drift is OnDrift.LOG and self.confirmed:
            return [self._out.withheld(name, Rule.SESSION_IN_FORCE), *actions[1:]]
        if on_drift is OnDrift.END or self._force.repaired:
            judged = self._out.judged(LegName.UPSTREAM, name, Verdict.END, Rule.SESSION_IN_FORCE)
            return [judged, EndWith(EndReason.POLICY_NOT_IN_FORCE, "the service runs something else than the policy")]
        self._force.repaired = True
        shut: list[Action] = [CloseGate()] if self.is_open else []
        self._force.gate_shut = self.confirmed
        return [*actions, *shut, *self._send(drift)]

    def _mend(self, drift: Drift) -> list[Action]:
        """Put right, once, what matters less than a session's going on."""
        return self._send(self._force.mend_once(drift), Asker.MEND) if drift.slight else []

    def _send(self, drift: Drift, asker: Asker = Asker.POLICY) -> list[Action]:
        parts = self._force.parts(drift, audio_started=self._responses.audio_started)
        brought = self._force.asked.brought
        return [self._own_update(Update(asker, session=session, brought=brought)) for session in parts]

    def _can_send(self, path: str, value: Any) -> bool:
        return self._force.can_send(path, value, audio_started=self._responses.audio_started)

    def _alone(self, update: Update) -> Update:
        """The same update with nothing in it that a client chose."""
        session: Mapping[str, Any]
        match update.session:
            case {"instructions": _}:
                session = {"instructions": self._force.asked.wanted_text}
            case {"tools": _}:
                session = {"tools": self._force.asked.wanted_tools}
            case {"prompt": _}:
                session = update.session
            case _:
                policy = self._out.view.acting
                plain = {path: setting(path, policy) for path in paths_in(update.session)}
                session = (
                    nested({path: value for path, value in plain.items() if value is not ABSENT}) or update.session
                )
        return replace(update, session=session, brought=self._force.asked.brought, again=True)

    def _without_voice(self, session: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rest of an update that was refused for its voice; the same one where it holds none."""
        match session:
            case {"audio": {"output": {"voice": _}}}:
                self._responses.audio_started = True
                kept = {path: value for path, value in leaves(dict(session)) if path != _VOICE}
                return nested(kept)
        return session

    def _own_update(self, update: Update, sent: Sent | None = None) -> Action:
        """Send an update of the session in the relay's words, and expect its answer; `sent` if it is for a client."""
        our_id = self._next_id()
        self._ledger.sent(our_id, sent or Sent("session.update", own=True))
        if update.asker is Asker.POLICY and not self._ledger.due(Asker.POLICY):
            self._force.deadline = None  # the time of an earlier one is no measure for this
        self._ledger.expect(replace(update, event_id=our_id))
        return self._out.to_service(
            our_id, {"type": "session.update", "session": {"type": "realtime", **update.session}}
        )
