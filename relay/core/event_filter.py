"""One session's events judged, both ways. An event in, a list of actions out; nothing else happens here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.core import notices
from relay.core.client_events import Outcome, client_event_id, judge_client_event
from relay.core.conversation import Conversation
from relay.core.dialect import (
    client_event_to_ga,
    client_event_to_preview,
    ga_server_type,
    server_event_to_ga,
    server_event_to_preview,
)
from relay.core.event_actions import Action, EndWith, Judged, OpenGate, ToClient, ToService
from relay.core.event_ledger import Asker, EventLedger, Sent
from relay.core.events import (
    CLIENT_EVENT_TYPES,
    MAX_EVENT_BYTES,
    MAX_SERVICE_EVENT_BYTES,
    SERVER_EVENT_TYPES,
    WEBRTC_FILTER_TYPES,
    EventError,
    dump_event,
    parse_event,
)
from relay.core.lifecycle import Dialect, LegName
from relay.core.redaction import MessageScrubber
from relay.core.server_events import fitted, is_system_item, public_error, reword
from relay.core.session_fields import redact_session
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.lifecycle import SessionStart

__all__ = ["Action", "EndWith", "EventFilter", "Judged", "OpenGate", "ToClient", "ToService", "Verdict"]

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

    def __init__(
        self,
        start: SessionStart,
        next_id: Callable[[], str],
    ) -> None:
        """`next_id` gives unique `event_…` strings."""
        self.confirmed = False
        self.expires_at: int | None = None
        # The largest message the client takes; set once its offer is read.
        self.client_message_bytes = MAX_EVENT_BYTES
        self._start = start
        self._policy = start.policy
        self._next_id = next_id
        self._transcription_name = start.transcription_name
        self._scrubber = MessageScrubber(start.policy, frozenset({start.model, start.transcription_name}))
        self._conversation = Conversation()
        self._ledger = EventLedger()
        self._session: dict[str, Any] = {}
        self._created: dict[str, Any] | None = None
        self._queue: list[str] = []
        self._queued_bytes = 0
        self._held: list[Action] = []
        self._repaired = False
        self._repair_deadline: float | None = None
        self._ended = False
        self._expiry_told = False

    # --- from the client -------------------------------------------------------------------------------------------

    def client_event(self, text: str) -> list[Action]:
        """Judge a text message of the client. Nothing is returned for one that waits for the confirmation."""
        if self._ended:
            return []
        if self.confirmed:
            return self._judge_client(text)
        self._queued_bytes += len(text.encode(errors="surrogatepass"))
        if len(self._queue) >= _MOST_QUEUED or self._queued_bytes > _MOST_QUEUED_BYTES:
            judged = Judged(LegName.DOWNSTREAM, _OTHER, Verdict.END, Rule.FLOOD)
            return [judged, self._end(EndReason.CLIENT_FLOOD, "too many events before the session was confirmed")]
        self._queue.append(text)
        return []

    def client_binary(self, _size: int) -> list[Action]:
        """A binary message of the client: refused, never read as text."""
        return [] if self._ended else self._refuse(_OTHER, EventError(ErrorCode.INVALID_EVENT), None)

    def client_over_rate(self) -> list[Action]:
        """A message of the client that came above its rate: refused unread."""
        return (
            []
            if self._ended
            else self._refuse(_OTHER, EventError(ErrorCode.RATE_LIMIT_EXCEEDED, None, Rule.FLOOD), None)
        )

    def _judge_client(self, text: str) -> list[Action]:
        try:
            event = parse_event(text)
        except EventError as error:
            return self._refuse(_OTHER, error, None)
        event_id = client_event_id(event)
        name = event["type"]
        if name not in CLIENT_EVENT_TYPES:
            return self._refuse(_OTHER, EventError(ErrorCode.UNKNOWN_EVENT, "type", Rule.TYPE), event_id)
        if name == "session.update" and self._ledger.updates_full:
            return self._refuse(name, EventError(ErrorCode.RATE_LIMIT_EXCEEDED, "type", Rule.FLOOD), event_id)
        if self._start.dialect is Dialect.PREVIEW:
            event = client_event_to_ga(event)
        try:
            outcome = judge_client_event(event, self._policy, self._conversation)
        except EventError as error:
            return self._refuse(name, error, event_id)
        self._transcription_name = outcome.transcription_name or self._transcription_name
        return [Judged(LegName.DOWNSTREAM, name, outcome.verdict, outcome.rule), *self._act_on(outcome, event_id)]

    def _act_on(self, outcome: Outcome, event_id: str | None) -> list[Action]:
        if outcome.event is None:
            self._ledger.expect_update(Asker.LOCAL)
            return self._answer_locally()
        our_id = self._next_id()
        name = outcome.event["type"]
        self._ledger.sent(our_id, Sent(name, event_id, outcome.call_id, outcome.out_of_band))
        if name == "session.update":
            self._ledger.expect_update(Asker.CLIENT, our_id)
        if outcome.call_id is not None:
            self._conversation.mark_call(outcome.call_id, awaiting=False)
        match outcome.event:
            case {"item": {"id": str(item_id)}}:
                self._conversation.add_item(item_id)
        return [self._to_service(our_id, outcome.event)]

    def _refuse(self, name: str, error: EventError, event_id: str | None) -> list[Action]:
        rule = Rule.SIZE if error.code is ErrorCode.EVENT_TOO_LARGE else error.rule
        notice = notices.refusal(self._next_id(), error.code, error.param, event_id)
        return [Judged(LegName.DOWNSTREAM, name, Verdict.REFUSE, rule), *self._notify(notice)]

    def _answer_locally(self) -> list[Action]:
        """Our own `session.updated` for updates of which nothing was sent, once their turn has come."""
        answers: list[Action] = []
        for _ in range(self._ledger.local_answers()):
            event = {"type": "session.updated", "event_id": self._next_id(), "session": self._shown_session()}
            answers += self._pass_on("session.updated", event, Dialect.GA)[1:]
        return answers

    # --- from the service ------------------------------------------------------------------------------------------

    def server_event(self, text: str, now_unix: float) -> list[Action]:
        """Judge a text message of the service."""
        if self._ended:
            return []
        try:
            event = parse_event(text, max_bytes=MAX_SERVICE_EVENT_BYTES, max_depth=_SERVICE_EVENT_DEPTH)
        except EventError as error:
            return [Judged(LegName.UPSTREAM, _OTHER, Verdict.WITHHOLD, error.rule)]
        name: str = event["type"]
        if self._start.service_dialect is Dialect.PREVIEW:
            name = ga_server_type(name)
        if name not in SERVER_EVENT_TYPES:
            return [Judged(LegName.UPSTREAM, _OTHER, Verdict.WITHHOLD, Rule.TYPE)]
        actions = self._judge_server(name, event, now_unix)
        if self._repair_deadline is not None and now_unix > self._repair_deadline and not self._ended:
            actions.append(self._end(EndReason.POLICY_NOT_IN_FORCE, "own session.update was not answered"))
        return actions

    def server_binary(self, _size: int) -> list[Action]:
        """A binary message of the service: withheld."""
        return [] if self._ended else [Judged(LegName.UPSTREAM, _OTHER, Verdict.WITHHOLD, Rule.FRAMING)]

    def _judge_server(self, name: str, event: dict[str, Any], now_unix: float) -> list[Action]:
        self._conversation.follow(name, event)
        match name:
            case "session.created":
                return self._session_created(event, now_unix)
            case "session.updated":
                return self._session_updated(event, now_unix)
            case "error":
                return self._service_error(event)
            case "rate_limits.updated":
                return [self._withheld(name, Rule.RATE_LIMITS)]
        if is_system_item(event):
            return [self._withheld(name, Rule.ITEM_ROLE)]
        return self._hold_back(self._pass_on(name, event, self._start.service_dialect))

    def _session_created(self, event: dict[str, Any], now_unix: float) -> list[Action]:
        first = self._created is None
        self._take_session(event, now_unix)
        if first:
            self._created = event
        if not self._in_force():
            withheld: list[Action] = [self._withheld("session.created", Rule.SESSION_IN_FORCE)]
            return self._with_repair("session.created", withheld, now_unix)
        if not first:
            return [self._withheld("session.created", Rule.SESSION_ECHO)]
        return [Judged(LegName.UPSTREAM, "session.created", Verdict.REWRITE, Rule.SESSION_ECHO), *self._confirm()]

    def _session_updated(self, event: dict[str, Any], now_unix: float) -> list[Action]:
        if self._created is None:
            return [self._withheld("session.updated", Rule.SESSION_ECHO)]
        asker = self._ledger.update_answered()
        self._take_session(event, now_unix)
        actions: list[Action] = [self._withheld("session.updated", Rule.SESSION_OWN_UPDATE)]
        if self.confirmed and asker is not Asker.POLICY:
            echo = {**self._echo_frame(event), "session": self._shown_session()}
            actions = self._pass_on("session.updated", echo, Dialect.GA, Verdict.REWRITE, Rule.SESSION_ECHO)
        if not self._in_force():
            # Another answer may still come before that of our own update.
            awaited = self._repair_deadline is not None and asker is not Asker.POLICY
            return actions if awaited else self._with_repair("session.updated", actions, now_unix)
        self._repair_deadline = None
        return [*actions, *(self._answer_locally() if self.confirmed else self._confirm())]

    def _service_error(self, event: dict[str, Any]) -> list[Action]:
        error = event.get("error")
        error = error if isinstance(error, dict) else {}
        answered = error.get("event_id") if isinstance(error.get("event_id"), str) else None
        asker, sent = self._ledger.refused(answered, about_session=str(error.get("param")).startswith("session"))
        if asker is Asker.POLICY:
            judged = Judged(LegName.UPSTREAM, "error", Verdict.END, Rule.SESSION_IN_FORCE)
            return [judged, self._end(EndReason.POLICY_NOT_IN_FORCE, "the service refused the policy's update")]
        if sent is not None and sent.call_id is not None:
            self._conversation.mark_call(sent.call_id, awaiting=True)
        if sent is not None and sent.out_of_band:
            self._conversation.end_out_of_band()
        shown = public_error(error, self._scrubber, sent.client_event_id if sent is not None else None)
        public = {**self._echo_frame(event), "error": shown}
        actions = self._pass_on("error", public, self._start.service_dialect, Verdict.REWRITE, Rule.SERVICE_ERROR)
        if shown["code"] == "session_expired":
            self._expiry_told = len(actions) > 1
            ended = self._end(EndReason.SESSION_EXPIRED, "the service said so")
            judged = Judged(LegName.UPSTREAM, "error", Verdict.END, Rule.SESSION_EXPIRED)
            return [judged, *actions[1:], ended]
        return [*self._hold_back(actions), *self._answer_locally()]

    # --- the policy in force ---------------------------------------------------------------------------------------

    def _take_session(self, event: dict[str, Any], now_unix: float) -> None:
        """Keep the service's session, GA shape, as the state of things."""
        if self._start.service_dialect is Dialect.PREVIEW:
            event = server_event_to_ga(event)
        session = event.get("session")
        self._session = session if isinstance(session, dict) else {}
        expires_at = self._session.get("expires_at")
        if isinstance(expires_at, int) and expires_at > now_unix:
            self.expires_at = expires_at

    def _in_force(self) -> bool:
        instructions = self._session.get("instructions")
        if not self._policy.instructions:  # an empty policy: the service may show none at all
            return instructions in (None, "")
        return instructions == self._policy.instructions

    def _with_repair(self, name: str, actions: list[Action], now_unix: float) -> list[Action]:
        """Put the policy in force by an update that holds nothing else; the second time, end the session."""
        if self._repaired:
            judged = Judged(LegName.UPSTREAM, name, Verdict.END, Rule.SESSION_IN_FORCE)
            return [judged, self._end(EndReason.POLICY_NOT_IN_FORCE, "the service runs other instructions")]
        self._repaired = True
        self._repair_deadline = now_unix + self._start.limits.policy_seconds
        our_id = self._next_id()
        self._ledger.expect_update(Asker.POLICY, our_id)
        session = {"type": "realtime", "instructions": self._policy.instructions}
        update = self._to_service(our_id, {"type": "session.update", "session": session})
        return [*actions, update, *self._answer_locally()]

    def _confirm(self) -> list[Action]:
        """Open the gate; then `session.created`, what was held back, and the answers to what waited, in order."""
        self.confirmed = True
        self._repair_deadline = None
        created = {**self._echo_frame(self._created or {}), "type": "session.created", "session": self._shown_session()}
        actions: list[Action] = [OpenGate(), *self._pass_on("session.created", created, Dialect.GA)[1:], *self._held]
        for text in self._queue:
            actions += self._judge_client(text)
        self._held, self._queue = [], []
        return actions

    def _hold_back(self, actions: list[Action]) -> list[Action]:
        """Before the confirmation: keep what goes to the client behind `session.created`."""
        if self.confirmed:
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

    # --- out -------------------------------------------------------------------------------------------------------

    def _end(self, reason: EndReason, detail: str) -> EndWith:
        self._ended = True
        return EndWith(reason, detail)

    def _withheld(self, name: str, rule: Rule) -> Judged:
        return Judged(LegName.UPSTREAM, name, Verdict.WITHHOLD, rule)

    def _to_service(self, our_id: str, event: dict[str, Any]) -> ToService:
        whole = {"type": event["type"], "event_id": our_id, **event}
        if self._start.service_dialect is Dialect.PREVIEW:
            whole = client_event_to_preview(whole)
        return ToService(dump_event(whole))

    def _pass_on(
        self,
        name: str,
        event: dict[str, Any],
        dialect: Dialect,
        verdict: Verdict = Verdict.FORWARD,
        rule: Rule = Rule.ALLOWED,
    ) -> list[Action]:
        """The verdict on a server event, and the event in the client's dialect as far as it passes."""
        if self._start.webrtc_filter and name not in WEBRTC_FILTER_TYPES:
            return [self._withheld(name, Rule.WEBRTC_FILTER)]
        public = reword(name, event, self._scrubber, self._start.model)
        if public is not event and public != event:
            verdict, rule = Verdict.REWRITE, Rule.SERVICE_ERROR
        translated = self._in_client_dialect(public, dialect)
        if translated is None:
            return [self._withheld(name, Rule.DIALECT)]
        text, lightened = fitted(translated, min(MAX_EVENT_BYTES, self.client_message_bytes), dump_event)
        if text is None:
            notice = notices.refusal(self._next_id(), ErrorCode.EVENT_TOO_LARGE, None, None)
            return [self._withheld(name, Rule.SIZE), *self._notify(notice)]
        if lightened:
            verdict, rule = Verdict.STRIP, Rule.SIZE
        self._conversation.shown(event)
        return [Judged(LegName.UPSTREAM, name, verdict, rule), ToClient(text)]

    def _in_client_dialect(self, event: dict[str, Any], dialect: Dialect) -> dict[str, Any] | None:
        if dialect is self._start.dialect:
            return event
        return server_event_to_preview(event) if dialect is Dialect.GA else server_event_to_ga(event)

    def _notify(self, notice: dict[str, Any]) -> list[Action]:
        translated = self._in_client_dialect(notice, Dialect.GA)
        return [] if translated is None else [ToClient(dump_event(translated))]

    def _echo_frame(self, event: dict[str, Any]) -> dict[str, Any]:
        """The type and id of a server event that is rebuilt."""
        event_id = event.get("event_id")
        return {"type": event.get("type"), "event_id": event_id if isinstance(event_id, str) else self._next_id()}

    def _shown_session(self) -> dict[str, Any]:
        return redact_session(
            self._session,
            session_id=self._start.session_id,
            model=self._start.model,
            transcription_name=self._transcription_name,
        )
