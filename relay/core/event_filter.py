"""One session's events judged, both ways. An event in, a list of actions out; nothing else happens here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.core import notices
from relay.core.client_events import Outcome, client_event_id, judge_client_event
from relay.core.conversation import Conversation
from relay.core.dialect import (
    client_event_to_ga,
    ga_server_type,
    server_event_to_ga,
)
from relay.core.event_actions import Action, CloseGate, EndWith, Judged, OpenGate, hashed
from relay.core.event_ledger import Asker, EventLedger, Sent, Update
from relay.core.event_wording import Wording
from relay.core.events import (
    CLIENT_EVENT_TYPES,
    MAX_SERVICE_EVENT_BYTES,
    SERVER_EVENT_TYPES,
    EventError,
    dump_event,
    parse_event,
)
from relay.core.in_force import InForce
from relay.core.instruction_text import combine
from relay.core.lifecycle import Dialect, LegName
from relay.core.policy_rules import OnCanary, OnDrift
from relay.core.policy_view import view_of
from relay.core.server_events import is_system_item
from relay.core.session_rules import live_settings
from relay.core.tool_rules import all_tools, client_functions
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.lifecycle import SessionStart
    from relay.core.policy import EffectivePolicy

__all__ = ["EventFilter"]

_MOST_QUEUED = 64
_MOST_QUEUED_BYTES = 262_144
_MOST_HELD = 64
_SERVICE_EVENT_DEPTH = 64
_OTHER = "other"


class EventFilter:
    """Judges every event of one session, in GA form whatever the two sides speak.

    Until the service confirms that the policy's instructions are in force, client events wait and server events are
    held back; the confirmation opens the gate and releases both in order.
    """

    def __init__(self, start: SessionStart, next_id: Callable[[], str]) -> None:
        """`next_id` gives unique `event_…` strings."""
        self.confirmed = False
        self.expires_at: int | None = None
        self._start = start
        self._next_id = next_id
        self._next_policy: EffectivePolicy | None = None
        self._conversation = Conversation()
        self._out = Wording(start, next_id, self._conversation)
        self._force = InForce(self._out.view.acting.instructions, start.client_instructions)
        self._ledger = EventLedger()
        self._queue: list[str] = []
        self._queued_bytes = 0
        self._held: list[Action] = []
        self._ended = False
        self._expiry_told = False

    @property
    def settled(self) -> bool:
        """Whether the policy's own text is confirmed in force, and every update of the relay's own was answered."""
        wanted = combine(self._out.view.acting.instructions, self._force.client_text)
        return self.confirmed and not self._ledger.due(Asker.POLICY) and self._force.expected == wanted

    def fit_messages(self, *, client: int | None = None, service: int | None = None) -> None:
        """Say how many bytes the largest message may have that a side takes, once its description is read."""
        self._out.client_message_bytes = client or self._out.client_message_bytes
        self._out.service_message_bytes = service or self._out.service_message_bytes

    # --- from the client -------------------------------------------------------------------------------------------

    def client_event(self, text: str) -> list[Action]:
        """Judge a text message of the client. Nothing is returned for one that waits for the confirmation."""
        if self._ended:
            return []
        if self.confirmed:
            return self._judge_client(text)
        self._queued_bytes += len(text.encode(errors="surrogatepass"))
        if len(self._queue) >= _MOST_QUEUED or self._queued_bytes > _MOST_QUEUED_BYTES:
            judged = self._out.judged(LegName.DOWNSTREAM, _OTHER, Verdict.END, Rule.FLOOD)
            return [judged, self._end(EndReason.CLIENT_FLOOD, "too many events before the session was confirmed")]
        self._queue.append(text)
        return []

    def client_binary(self, _size: int) -> list[Action]:
        """A binary message of the client: refused, never read as text."""
        return [] if self._ended else self._refuse(_OTHER, EventError(ErrorCode.INVALID_EVENT), None)

    def client_over_rate(self) -> list[Action]:
        """A message of the client that came above its rate: refused unread."""
        if self._ended:
            return []
        return self._refuse(_OTHER, EventError(ErrorCode.RATE_LIMIT_EXCEEDED, None, Rule.FLOOD), None)

    def replace_policy(self, policy: EffectivePolicy) -> list[Action]:
        """Judge by another revision from now on, and put it in force at the service by the relay's own updates.

        The client sees nothing of it. The deployment stays: a session cannot change its model. Before the first
        confirmation the policy waits for it. An update that the service refuses twice ends the session, or changes
        nothing there, as `on_drift` says (`log`: keep).
        """
        if self._ended:
            return []
        if not self.confirmed:
            self._next_policy = policy
            return []
        former, start = self._out.view, self._start
        self._out.view = view_of(policy, start.model, self._out.transcription_name, former.written)
        before, rules = self._force.wanted, self._out.view.acting
        actions: list[Action] = []
        if (wanted := self._force.under(rules.instructions)) != before:
            actions.append(self._own_update({"instructions": wanted}, Update(Asker.POLICY, instructions=wanted)))
        settings = live_settings(rules, former.acting, audio_started=self._conversation.audio_started)
        if settings:
            actions.append(self._own_update(settings, Update(Asker.POLICY)))
        if rules.tools != former.acting.tools:
            functions = client_functions(self._force.session.get("tools"), former.acting.tools, rules.tools)
            tools = all_tools(rules.tools, functions)
            if tools != self._force.session.get("tools", []):
                actions.append(self._own_update({"tools": tools}, Update(Asker.POLICY)))
        return actions

    def client_returned(self) -> list[Action]:
        """Another peer of the client took over: it is told the session in force, and no answer to the one before it."""
        if self._ended or not self.confirmed:
            return []
        self._ledger.disown()
        return self._out.created(self._force, {})

    def _judge_client(self, text: str) -> list[Action]:
        events = self._out.view.written.events
        try:
            event = parse_event(text, max_bytes=events.max_event_bytes, max_depth=events.max_depth)
        except EventError as error:
            return hashed(self._refuse(_OTHER, error, None), text)
        event_id = client_event_id(event)
        name = event["type"]
        if name not in CLIENT_EVENT_TYPES:
            unknown = EventError(ErrorCode.UNKNOWN_EVENT, "type", Rule.TYPE)
            return hashed(self._refuse(_OTHER, unknown, event_id), text)
        if name == "session.update" and self._ledger.updates_full:
            flood = EventError(ErrorCode.RATE_LIMIT_EXCEEDED, "type", Rule.FLOOD)
            return hashed(self._refuse(name, flood, event_id), text)
        if self._start.dialect is Dialect.PREVIEW:
            event = client_event_to_ga(event)
        return hashed(self._act_by_rules(name, event, event_id), text)

    def _act_by_rules(self, name: str, event: dict[str, Any], event_id: str | None) -> list[Action]:
        written = self._verdict_of(event) if self._out.view.judged is not None else None
        try:
            outcome = judge_client_event(event, self._out.view.acting, self._conversation)
            self._out.check_size(outcome.event)
        except EventError as error:
            actions = self._refuse(name, error, event_id)
        else:
            done = self._out.judged(LegName.DOWNSTREAM, name, outcome.verdict, outcome.rule)
            actions = [done, *self._act_on(outcome, event_id)]
        judged = actions[0]
        if written is not None and isinstance(judged, Judged) and written != (judged.verdict, judged.rule):
            actions[0] = replace(judged, would_be=written[0], rule=written[1])
        return actions

    def _verdict_of(self, event: dict[str, Any]) -> tuple[Verdict, Rule]:
        """What the policy as written says of an event."""
        try:
            outcome = judge_client_event(event, self._out.view.written, self._conversation)
        except EventError as error:
            return Verdict.REFUSE, error.rule
        return outcome.verdict, outcome.rule

    def _act_on(self, outcome: Outcome, event_id: str | None) -> list[Action]:
        actions: list[Action] = []
        if outcome.refused is not None:
            actions += self._refuse("", outcome.refused, event_id)[1:]
        self._out.transcription_name = outcome.transcription_name or self._out.transcription_name
        if outcome.event is None or outcome.event["type"] == "session.update":
            return [*actions, *self._update(outcome, event_id)]
        our_id = self._next_id()
        event = outcome.event
        self._ledger.sent(our_id, Sent(event["type"], event_id, outcome.call_id, outcome.out_of_band))
        if outcome.out_of_band:
            self._conversation.begin_out_of_band()
        if outcome.call_id is not None:
            self._conversation.mark_call(outcome.call_id, awaiting=False)
        if outcome.approval_id is not None:
            self._conversation.approval_answered(outcome.approval_id)
        match event:
            # Naming an item does not make it the client's own: one that is hidden stays so.
            case {"item": {"id": str(item_id)}} if not self._conversation.hides(item_id):
                self._conversation.add_item(item_id)
        return [*actions, self._out.to_service(our_id, event)]

    def _update(self, outcome: Outcome, event_id: str | None) -> list[Action]:
        """A client's `session.update`: what is mixed with the policy's goes apart, and the last answer is the client's.

        The service refuses an update whole, so that one bad field of the client would take the policy's with it.
        """
        parts: list[tuple[dict[str, Any], str | None]] = []
        if outcome.instructions is not None:
            before, wanted = self._force.wanted, self._force.with_client_text(outcome.instructions)
            if wanted != before:
                parts.append(({"instructions": wanted}, wanted))
        tools = self._out.view.acting.tools
        fields = {} if outcome.event is None else dict(outcome.event["session"])
        fields.pop("type", None)
        if outcome.functions is not None and tools.admin:
            parts.append(({"tools": all_tools(tools, outcome.functions)}, None))
        elif outcome.functions is not None:
            fields["tools"] = outcome.functions
        if fields:
            parts.append((fields, None))
        if not parts:
            self._ledger.expect(Update(Asker.LOCAL))
            return self._answer_locally()
        actions: list[Action] = []
        for number, (session, instructions) in enumerate(parts, 1):
            asker = Asker.CLIENT if number == len(parts) else Asker.PART
            update = Update(asker, None, instructions, parts=number > 1)
            actions.append(self._own_update(session, update, Sent("session.update", event_id)))
        return actions

    def _refuse(self, name: str, error: EventError, event_id: str | None) -> list[Action]:
        rule = Rule.SIZE if error.code is ErrorCode.EVENT_TOO_LARGE else error.rule
        notice = notices.refusal(self._next_id(), error.code, error.param, event_id)
        return [self._out.judged(LegName.DOWNSTREAM, name, Verdict.REFUSE, rule), *self._out.notify(notice)]

    def _answer_locally(self) -> list[Action]:
        """Our own `session.updated` for updates of which nothing was sent, once their turn has come."""
        return [action for _ in range(self._ledger.local_answers()) for action in self._own_echo()]

    def _own_echo(self) -> list[Action]:
        event = {
            "type": "session.updated",
            "event_id": self._next_id(),
            "session": self._out.shown_session(self._force),
        }
        return self._out.pass_on("session.updated", event, Dialect.GA)[1:]

    # --- from the service ------------------------------------------------------------------------------------------

    def server_event(self, text: str, now_unix: float) -> list[Action]:
        """Judge a text message of the service."""
        if self._ended:
            return []
        try:
            event = parse_event(text, max_bytes=MAX_SERVICE_EVENT_BYTES, max_depth=_SERVICE_EVENT_DEPTH)
        except EventError as error:
            return hashed([self._out.withheld(_OTHER, error.rule)], text)
        name: str = event["type"]
        if self._start.service_dialect is Dialect.PREVIEW:
            name = ga_server_type(name)
        actions = (
            self._judge_server(name, event, now_unix)
            if name in SERVER_EVENT_TYPES
            else self._hold_back(self._out.unknown(event))
        )
        return hashed([*actions, *self.tick(now_unix)], text)

    def tick(self, now_unix: float) -> list[Action]:
        """What the time says: an update of the relay's own has a deadline, whether the service speaks or not."""
        if self._ended or not self._ledger.due(Asker.POLICY):
            return []
        if self._force.deadline is None:
            self._force.deadline = now_unix + self._start.limits.policy_seconds
        elif now_unix > self._force.deadline:
            return [self._end(EndReason.POLICY_NOT_IN_FORCE, "own session.update was not answered")]
        return []

    def server_binary(self, _size: int) -> list[Action]:
        """A binary message of the service: withheld."""
        return [] if self._ended else [self._out.withheld(_OTHER, Rule.FRAMING)]

    def _judge_server(self, name: str, event: dict[str, Any], now_unix: float) -> list[Action]:
        self._conversation.follow(name, event)
        match name:
            case "session.created":
                return self._session_created(event, now_unix)
            case "session.updated":
                return self._session_updated(event, now_unix)
            case "error":
                return self._service_error(event)
            case "rate_limits.updated" if not self._out.view.written.events.rate_limits:
                return [self._out.withheld(name, Rule.RATE_LIMITS)]
        if (hiding := self._hidden(name, event)) is not None:
            return [self._out.withheld(name, hiding)]
        disclosed = self._disclosed(name, event) if self._out.view.canary.active else None
        return self._hold_back(disclosed or self._out.pass_on(name, event, self._start.service_dialect))

    def _hidden(self, name: str, event: dict[str, Any]) -> Rule | None:
        """The rule by which an event is none of the client's business."""
        if is_system_item(event):
            return Rule.ITEM_ROLE
        if name.startswith("response.mcp_call_arguments"):
            return Rule.TOOLS_MCP
        item, publisher = event.get("item"), self._out.view.publisher
        if isinstance(item, dict) and publisher.hides(item):
            self._conversation.hide_item(str(item.get("id")))
            return Rule.TOOLS_ADMIN
        of_hidden_call = name.startswith("response.function_call") and publisher.hides_name(event.get("name"))
        return Rule.TOOLS_ADMIN if of_hidden_call or self._conversation.hides(event.get("item_id")) else None

    def _disclosed(self, name: str, event: dict[str, Any]) -> list[Action] | None:
        """What becomes of an event in which the model repeats what it must not; None when it does not."""
        canary = self._out.view.canary
        caught = canary.caught(event)
        heard = canary.hears(name, event)
        cut = self._out.view.acting.canary.action
        if not heard and not (caught and cut is OnCanary.CUT):
            return None
        if cut is OnCanary.END:
            judged = self._out.judged(LegName.UPSTREAM, name, Verdict.END, Rule.CANARY)
            return [judged, self._end(EndReason.POLICY_DISCLOSED, "the model repeated what it must not")]
        if cut is OnCanary.LOG:
            return self._out.disclosed(name, event)
        return [*self._out.silenced(name, event), *([] if caught else self._stop_speaking(name, event))]

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

    def _session_created(self, event: dict[str, Any], now_unix: float) -> list[Action]:
        first = self._force.created is None
        self._take_session(event, now_unix)
        if first:
            self._force.created = event
        if not self._force.holds():
            withheld: list[Action] = [self._out.withheld("session.created", Rule.SESSION_IN_FORCE)]
            return self._drifted("session.created", withheld)
        if not first:
            return [self._out.withheld("session.created", Rule.SESSION_ECHO)]
        judged = self._out.judged(LegName.UPSTREAM, "session.created", Verdict.REWRITE, Rule.SESSION_ECHO)
        return [judged, *self._confirm()]

    def _session_updated(self, event: dict[str, Any], now_unix: float) -> list[Action]:
        if self._force.created is None:
            return [self._out.withheld("session.updated", Rule.SESSION_ECHO)]
        update = self._ledger.update_answered()
        asker = None if update is None else update.asker
        self._force.answered(update)
        self._take_session(event, now_unix)
        whose = Rule.SESSION_FORMER_PEER if asker is Asker.GONE else Rule.SESSION_OWN_UPDATE
        actions: list[Action] = [self._out.withheld("session.updated", whose)]
        # What a peer asked for that is gone is news to the one that came, unless that would take it for its own answer.
        for_client = not self._ledger.client_waits if asker is Asker.GONE else asker not in (Asker.POLICY, Asker.PART)
        if self.confirmed and for_client:
            echo = {**self._out.echo_frame(event), "session": self._out.shown_session(self._force)}
            actions = self._out.pass_on("session.updated", echo, Dialect.GA, Verdict.REWRITE, Rule.SESSION_ECHO)
        if not self._force.holds():
            # Another answer may still come before that of our own update.
            return actions if self._ledger.due(Asker.POLICY) else self._drifted("session.updated", actions)
        if not self._ledger.due(Asker.POLICY):
            self._force.deadline = None
        opened: list[Action] = [OpenGate()] if self._force.gate_shut else []
        self._force.gate_shut = False
        return [*actions, *opened, *(self._answer_locally() if self.confirmed else self._confirm())]

    def _service_error(self, event: dict[str, Any]) -> list[Action]:
        error = event.get("error")
        error = error if isinstance(error, dict) else {}
        answered = error.get("event_id") if isinstance(error.get("event_id"), str) else None
        update, sent = self._ledger.refused(answered, about_session=str(error.get("param")).startswith("session"))
        if update is not None and update.asker is Asker.POLICY:
            return self._own_update_refused(update)
        if update is not None:
            self._force.gave_up(update)
        if sent is not None and sent.call_id is not None:
            self._conversation.mark_call(sent.call_id, awaiting=True)
        if sent is not None and sent.out_of_band:
            self._conversation.end_out_of_band()
        if sent is not None and sent.own:
            return [self._out.withheld("error", Rule.SESSION_OWN_UPDATE)]
        if (sent is not None and sent.gone) or (update is not None and update.asker is Asker.GONE):
            return [self._out.withheld("error", Rule.SESSION_FORMER_PEER), *self._answer_locally()]
        shown = self._out.view.publisher.error(error, sent.client_event_id if sent is not None else None)
        public = {**self._out.echo_frame(event), "error": shown}
        actions = self._out.pass_on("error", public, self._start.service_dialect, Verdict.REWRITE, Rule.SERVICE_ERROR)
        if shown["code"] == "session_expired":
            self._expiry_told = len(actions) > 1
            ended = self._end(EndReason.SESSION_EXPIRED, "the service said so")
            judged = self._out.judged(LegName.UPSTREAM, "error", Verdict.END, Rule.SESSION_EXPIRED)
            return [judged, *actions[1:], ended]
        if update is not None and update.asker is Asker.CLIENT and update.parts:
            actions += self._own_echo()  # other parts of the same update did apply
        return [*self._hold_back(actions), *self._answer_locally()]

    def _own_update_refused(self, update: Update) -> list[Action]:
        """The relay's own update was refused: tried once more, then the session ends, or stays as it was."""
        keep = self.confirmed and self._out.view.acting.instructions.on_drift is OnDrift.LOG
        withheld = self._out.withheld("error", Rule.SESSION_IN_FORCE)
        if not self._force.refused_once and update.instructions is not None and not keep:
            self._force.refused_once = True
            return [withheld, self._assert_instructions()]
        if keep:
            self._force.gave_up(update)
            return [withheld, *self._answer_locally()]
        judged = replace(withheld, verdict=Verdict.END)
        return [judged, self._end(EndReason.POLICY_NOT_IN_FORCE, "the service refused the policy's update")]

    # --- the policy in force ---------------------------------------------------------------------------------------

    def _take_session(self, event: dict[str, Any], now_unix: float) -> None:
        if self._start.service_dialect is Dialect.PREVIEW:
            event = server_event_to_ga(event)
        self._force.take(event.get("session"))
        expires_at = self._force.session.get("expires_at")
        if isinstance(expires_at, int) and expires_at > now_unix:
            self.expires_at = expires_at

    def _drifted(self, name: str, actions: list[Action]) -> list[Action]:
        """The service runs other instructions: reassert them by an update that holds nothing else, once; or as told.

        Without a first confirmation `log` is not enough: then there was no moment at which the policy was in force.
        """
        on_drift = self._out.view.written.instructions.on_drift
        if on_drift is OnDrift.LOG and self.confirmed:
            return [self._out.withheld(name, Rule.SESSION_IN_FORCE), *actions[1:], *self._answer_locally()]
        if on_drift is OnDrift.END or self._force.repaired:
            judged = self._out.judged(LegName.UPSTREAM, name, Verdict.END, Rule.SESSION_IN_FORCE)
            return [judged, self._end(EndReason.POLICY_NOT_IN_FORCE, "the service runs other instructions")]
        self._force.repaired = True
        shut: list[Action] = [CloseGate()] if self.confirmed else []
        self._force.gate_shut = self.confirmed
        return [*actions, *shut, self._assert_instructions(), *self._answer_locally()]

    def _assert_instructions(self) -> Action:
        wanted = self._force.wanted
        return self._own_update({"instructions": wanted}, Update(Asker.POLICY, instructions=wanted))

    def _own_update(self, session: dict[str, Any], update: Update, sent: Sent | None = None) -> Action:
        """Send an update of the session in the relay's words, and expect its answer; `sent` if it is for a client."""
        our_id = self._next_id()
        self._ledger.sent(our_id, sent or Sent("session.update", own=True))
        self._ledger.expect(replace(update, event_id=our_id))
        return self._out.to_service(our_id, {"type": "session.update", "session": {"type": "realtime", **session}})

    def _confirm(self) -> list[Action]:
        """Open the gate; then `session.created`, what was held back, and the answers to what waited, in order."""
        self.confirmed = True
        actions: list[Action] = [OpenGate(), *self._out.created(self._force, self._force.created or {}), *self._held]
        if self._next_policy is not None:
            actions += self.replace_policy(self._next_policy)
        for text in self._queue:
            actions += self._judge_client(text)
        self._held, self._queue = [], []
        return actions

    def _hold_back(self, actions: list[Action]) -> list[Action]:
        """Before the confirmation: keep what goes to the client behind `session.created`."""
        if self.confirmed or self._ended:
            return actions
        self._held += actions[1:]
        if len(self._held) > _MOST_HELD:
            return [actions[0], self._end(EndReason.POLICY_UNCONFIRMED, "too many events before the confirmation")]
        return actions[:1]

    # --- notices ---------------------------------------------------------------------------------------------------

    def notice_ending(self, reason: EndReason, seconds_left: int) -> str:
        """The text that announces the end to the client."""
        return dump_event(notices.ending(self._next_id(), reason, seconds_left))

    def notice_end(self, reason: EndReason) -> str | None:
        """The text of the last event to the client; None when nobody hears it, or the service has said it."""
        if reason is EndReason.SESSION_EXPIRED and self._expiry_told:
            return None
        event = notices.end(self._next_id(), reason)
        return None if event is None else dump_event(event)

    def _end(self, reason: EndReason, detail: str) -> EndWith:
        self._ended = True
        return EndWith(reason, detail)
