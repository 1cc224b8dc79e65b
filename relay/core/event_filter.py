"""One session's events judged, both ways. An event in, a list of actions out; nothing else happens here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.core import notices
from relay.core.client_events import Outcome, client_event_id, judge_client_event
from relay.core.dialect import client_event_to_ga, ga_server_type
from relay.core.disclosure import Disclosure
from relay.core.event_actions import Action, EndWith, Judged, ToClient, hashed
from relay.core.event_ledger import MOST_UPDATES, Asker, EventLedger, Sent
from relay.core.event_wording import Wording
from relay.core.events import (
    CLIENT_EVENT_TYPES,
    MAX_SERVICE_EVENT_BYTES,
    SERVER_EVENT_TYPES,
    EventError,
    dump_event,
    parse_event,
)
from relay.core.lifecycle import Dialect, LegName
from relay.core.server_events import is_system_item
from relay.core.session_keeper import SessionKeeper
from relay.core.session_past import SessionPast
from relay.core.turn_watch import TurnWatch
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.lifecycle import SessionStart, ToldRefusal
    from relay.core.policy import EffectivePolicy

__all__ = ["EventFilter"]

_MOST_QUEUED = 64
_MOST_QUEUED_BYTES = 262_144
_MOST_HELD = 64
_SERVICE_EVENT_DEPTH = 64
_OTHER = "other"


class EventFilter:
    """Judges every event of one session, in GA form whatever the two sides speak.

    Until the service confirms that the policy is in force, and again while it is found not to be, client events wait
    and server events are held back; the confirmation opens the gate and releases both in order.
    """

    def __init__(self, start: SessionStart, next_id: Callable[[], str]) -> None:
        """`next_id` gives unique `event_…` strings."""
        self._start = start
        self._next_id = next_id
        self._next_policy: EffectivePolicy | None = None
        self._past = SessionPast()
        self._turns = TurnWatch()
        self._out = Wording(start, next_id, self._past.items)
        self._ledger = EventLedger()
        self._keeper = SessionKeeper(start, self._out, self._ledger, self._past.responses, next_id)
        self._disclosure = Disclosure(self._out, self._ledger, start.service_dialect, next_id)
        self._queue: list[str] = []
        self._queued_bytes = 0
        self._held: list[Action] = []
        self._ended = False
        self._expiry_told = False

    @property
    def settled(self) -> bool:
        """Whether the policy is proved to be in force whole."""
        return self._keeper.settled

    def adapt(
        self, *, client_bytes: int | None = None, service_bytes: int | None = None, webrtc_filter: bool | None = None
    ) -> None:
        """Take what is known only once a side is there; None leaves things as they are.

        The largest message in bytes that each side takes, and whether the client asked to be told a few events only
        (`webrtcfilter=on`).
        """
        out = self._out
        out.client_message_bytes = client_bytes or out.client_message_bytes
        out.service_message_bytes = service_bytes or out.service_message_bytes
        out.webrtc_filter = out.webrtc_filter if webrtc_filter is None else webrtc_filter

    def binary(self, leg: LegName) -> list[Action]:
        """A binary message, never read as text: the client's is refused, the service's withheld."""
        if self._ended:
            return []
        if leg is LegName.UPSTREAM:
            return [self._out.withheld(_OTHER, Rule.FRAMING)]
        return self._refuse(_OTHER, EventError(ErrorCode.INVALID_EVENT), None)

    # --- from the client -------------------------------------------------------------------------------------------

    def client_event(self, text: str) -> list[Action]:
        """Judge a text message of the client. Nothing is returned for one that waits for the confirmation."""
        if self._ended:
            return []
        if self._keeper.is_open:
            return self._judge_client(text)
        self._queued_bytes += len(text.encode(errors="surrogatepass"))
        if len(self._queue) >= _MOST_QUEUED or self._queued_bytes > _MOST_QUEUED_BYTES:
            judged = self._out.judged(LegName.DOWNSTREAM, _OTHER, Verdict.END, Rule.FLOOD)
            ended = EndWith(EndReason.CLIENT_FLOOD, "too many events before the session was confirmed")
            return self._noted([judged, ended])
        self._queue.append(text)
        return []

    def client_over_rate(self) -> list[Action]:
        """A message of the client that came above its rate: refused unread."""
        if self._ended:
            return []
        return self._refuse(_OTHER, EventError(ErrorCode.RATE_LIMIT_EXCEEDED, None, Rule.FLOOD), None)

    def replace_policy(self, policy: EffectivePolicy) -> list[Action]:
        """Judge by another revision from now on, and put it in force at the service by the relay's own updates.

        The client sees nothing of it. The deployment stays: a session cannot change its model. Before the first
        confirmation the policy waits for it. An update that the service refuses twice, the second time with nothing of
        the client's in it, ends the session, or changes nothing there, as `on_drift` says (`log`: keep).
        """
        if self._ended:
            return []
        if not self._keeper.confirmed:
            self._next_policy = policy
            return []
        self._out.view = self._out.view.replaced_by(policy, self._start.model)
        return self._keeper.take_policy()

    def client_returned(self) -> list[Action]:
        """A peer of the client came, or took over: it is told the session in force, and no answer to the one before."""
        if self._ended or not self._keeper.confirmed:
            return []
        self._ledger.disown()
        # What waited for the gate was the former peer's, and so was what it asked in the meantime.
        self._held, self._queue, self._queued_bytes = [], [], 0
        shown = self._keeper.introduce()
        return shown if self._keeper.is_open else self._hold_back(shown)

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
        if name == "session.update" and self._ledger.updates_due >= MOST_UPDATES:
            flood = EventError(ErrorCode.RATE_LIMIT_EXCEEDED, "type", Rule.FLOOD)
            return hashed(self._refuse(name, flood, event_id), text)
        if self._start.dialect is Dialect.PREVIEW:
            event = client_event_to_ga(event)
        return hashed(self._act_by_rules(name, event, event_id), text)

    def _act_by_rules(self, name: str, event: dict[str, Any], event_id: str | None) -> list[Action]:
        written = self._verdict_of(event) if self._out.view.judged is not None else None
        try:
            outcome = judge_client_event(event, self._out.view.acting, self._past)
            update = name == "session.update"
            parts = self._keeper.client_parts(outcome) if update else []
            self._out.check_size(*(({"session": part} for part in parts) if update else (outcome.event or {},)))
        except EventError as error:
            actions = self._refuse(name, error, event_id)
        else:
            actions = [self._out.judged(LegName.DOWNSTREAM, name, outcome.verdict, outcome.rule)]
            if outcome.refused is not None:
                actions += self._refuse("", outcome.refused, event_id)[1:]
            self._out.transcription_name = outcome.transcription_name or self._out.transcription_name
            if update:
                actions += self._keeper.client_update(outcome, parts, event_id)
                actions += self._keeper.answer_locally()
            elif outcome.event is not None:
                actions.append(self._send(outcome, outcome.event, event_id))
        judged = actions[0]
        if written is not None and isinstance(judged, Judged) and written != (judged.verdict, judged.rule):
            actions[0] = replace(judged, would_be=written[0], rule=written[1])
        return actions

    def _verdict_of(self, event: dict[str, Any]) -> tuple[Verdict, Rule]:
        """What the policy as written says of an event."""
        try:
            outcome = judge_client_event(event, self._out.view.written, self._past)
        except EventError as error:
            return Verdict.REFUSE, error.rule
        return outcome.verdict, outcome.rule

    def _send(self, outcome: Outcome, event: dict[str, Any], event_id: str | None) -> Action:
        our_id = self._next_id()
        self._ledger.sent(our_id, Sent(event["type"], event_id, outcome.call_id, outcome.out_of_band))
        if outcome.out_of_band:
            self._past.responses.ask_out_of_band()
        if outcome.call_id is not None:
            self._past.items.calls.mark_call(outcome.call_id, awaiting=False)
        if outcome.approval_id is not None:
            self._past.items.calls.approval_answered(outcome.approval_id)
        match event:
            case {"item": {"id": str(item_id)}}:
                self._past.items.made(item_id)
        return self._out.to_service(our_id, event)

    def _refuse(self, name: str, error: EventError, event_id: str | None) -> list[Action]:
        rule = Rule.SIZE if error.code is ErrorCode.EVENT_TOO_LARGE else error.rule
        notice = notices.refusal(self._next_id(), error.code, error.param, event_id)
        return [self._out.judged(LegName.DOWNSTREAM, name, Verdict.REFUSE, rule), *self._out.notify(notice)]

    # --- from the service ------------------------------------------------------------------------------------------

    def server_event(self, text: str, now_unix: float) -> list[Action]:
        """Judge a text message of the service."""
        if self._ended:
            return []
        try:
            event = parse_event(
                text,
                max_bytes=MAX_SERVICE_EVENT_BYTES,
                max_depth=_SERVICE_EVENT_DEPTH,
                max_values=MAX_SERVICE_EVENT_BYTES,
            )
        except EventError as error:
            return hashed([self._out.withheld(_OTHER, error.rule)], text)
        name: str = event["type"]
        if self._start.service_dialect is Dialect.PREVIEW:
            name = ga_server_type(name)
        known, was_open = name in SERVER_EVENT_TYPES, self._keeper.is_open
        actions = self._judge_server(name, event, text) if known else self._out.unknown(event, text)
        if not was_open:
            actions = self._release(actions) if self._keeper.is_open else self._hold_back(actions)
        if self._ledger.updates_due:
            if self._keeper.is_open:
                actions += self._keeper.answer_locally()
            actions += self._keeper.tick(now_unix)
        actions += self._turns.follow(name, event, now_unix)
        return hashed(self._noted(actions), text)

    def tick(self, now_unix: float) -> list[Action]:
        """What the time says: an update of the relay's own has a deadline, whether the service speaks or not."""
        return [] if self._ended else self._noted(self._keeper.tick(now_unix))

    def _judge_server(self, name: str, event: dict[str, Any], text: str) -> list[Action]:
        self._past.responses.follow(name, event)
        match name:
            case "session.created":
                return self._keeper.created(event, len(text))
            case "session.updated":
                return self._keeper.updated(event, len(text))
            case "error":
                return self._service_error(event)
            case "rate_limits.updated" if not self._out.view.written.events.rate_limits:
                return [self._out.withheld(name, Rule.RATE_LIMITS)]
        if (hiding := self._hidden(name, event)) is not None:
            return [self._out.withheld(name, hiding)]
        if (item := event.get("item")) is not None:
            self._past.items.told_of(item)
        disclosed = self._disclosure.judge(name, event)
        return disclosed or self._out.pass_on(name, event, self._start.service_dialect, text=text)

    def _hidden(self, name: str, event: dict[str, Any]) -> Rule | None:
        """The rule by which an event is none of the client's business."""
        items, publisher, item = self._past.items, self._out.view.publisher, event.get("item")
        if item is not None and is_system_item(event):
            items.hide(item)
            return Rule.ITEM_ROLE
        if name.startswith("response.mcp_call_arguments"):
            return Rule.TOOLS_MCP
        if isinstance(item, dict) and (publisher.hides(item) or items.hides(item.get("call_id"))):
            items.hide(item)  # a call of the administrator's, or what answers it
            return Rule.TOOLS_ADMIN
        if items.hides(event.get("item_id")) or items.hides(event.get("call_id")):
            return Rule.TOOLS_ADMIN
        if not publisher.hidden_calls or not name.startswith("response.function_call"):
            return None
        # A piece of the arguments does not name its function: without its item, which comes first, nobody knows it.
        called = event.get("name")
        hides = publisher.hides_name(called) if isinstance(called, str) else not items.knows(str(event.get("item_id")))
        return Rule.TOOLS_ADMIN if hides else None

    def _service_error(self, event: dict[str, Any]) -> list[Action]:
        error = event.get("error")
        error = error if isinstance(error, dict) else {}
        answered = error.get("event_id") if isinstance(error.get("event_id"), str) else None
        update, sent = self._ledger.refused(answered, about_session=str(error.get("param")).startswith("session"))
        own = [] if update is None else self._keeper.refused(update, error)
        if update is not None and update.asker is Asker.POLICY:
            return own
        mends = update is not None and update.asker is Asker.MEND
        if mends or (sent is not None and sent.own):
            return [self._out.withheld("error", Rule.SESSION_OWN_UPDATE)]
        if sent is not None and sent.call_id is not None:
            self._past.items.calls.mark_call(sent.call_id, awaiting=True)
        if sent is not None and sent.out_of_band:
            self._past.responses.refused_out_of_band()
        if (sent is not None and sent.gone) or (update is not None and update.asker is Asker.GONE):
            return [self._out.withheld("error", Rule.SESSION_FORMER_PEER)]
        shown = self._out.view.publisher.error(error, sent.client_event_id if sent is not None else None)
        actions = self._out.error(event, shown)
        if shown["code"] == "session_expired":
            self._expiry_told = len(actions) > 1
            judged = self._out.judged(LegName.UPSTREAM, "error", Verdict.END, Rule.SESSION_EXPIRED)
            return [judged, *actions[1:], EndWith(EndReason.SESSION_EXPIRED, "the service said so")]
        if update is not None and update.asker is Asker.CLIENT and update.parts:
            actions += self._keeper.own_echo()  # other parts of the same update did apply
        return actions

    # --- before the gate is open -----------------------------------------------------------------------------------

    def _release(self, actions: list[Action]) -> list[Action]:
        """The gate is open: what was held back, and the answers to what waited, in order."""
        actions = [*actions, *self._held, *self._keeper.answer_locally()]
        queue, self._held, self._queue, self._queued_bytes = self._queue, [], [], 0
        if self._next_policy is not None:
            policy, self._next_policy = self._next_policy, None
            actions += self.replace_policy(policy)
        for text in queue:
            actions += self._judge_client(text)
        return actions

    def _hold_back(self, actions: list[Action]) -> list[Action]:
        """Keep what goes to the client until the gate is open; unless this is the end."""
        if any(isinstance(action, EndWith) for action in actions):
            return actions
        self._held += (action for action in actions if isinstance(action, ToClient))
        if len(self._held) > _MOST_HELD:
            return [actions[0], EndWith(EndReason.POLICY_UNCONFIRMED, "too many events before the confirmation")]
        return [action for action in actions if not isinstance(action, ToClient)]

    def _noted(self, actions: list[Action]) -> list[Action]:
        """The actions, and the end remembered where they hold it."""
        for action in actions:
            if type(action) is EndWith:
                self._ended = True
        return actions

    # --- notices ---------------------------------------------------------------------------------------------------

    def notice_ending(self, reason: EndReason, seconds_left: int) -> str:
        """The text that tells the client that its session ends in so many seconds."""
        return dump_event(notices.ending(self._next_id(), reason, seconds_left))

    def notices_of_end(self, reason: EndReason, refusal: ToldRefusal | None = None) -> list[str]:
        """The texts that tell the client why its session ends now, and before that what refused it, if something did.

        An end that nobody hears, or that the service has told, has no text.
        """
        told = [] if refusal is None else [notices.refused(self._next_id(), refusal)]
        is_told = reason is EndReason.SESSION_EXPIRED and self._expiry_told
        if not is_told and (event := notices.end(self._next_id(), reason)) is not None:
            told.append(event)
        return [dump_event(event) for event in told]
