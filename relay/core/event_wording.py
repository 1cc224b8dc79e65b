"""How what was judged is told to either side: in its dialect, redacted, fitted, under ids of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relay.core import notices
from relay.core.dialect import client_event_to_preview, server_event_to_ga, server_event_to_preview
from relay.core.event_actions import Action, Judged, ToClient, ToService
from relay.core.events import MAX_EVENT_BYTES, MAX_SERVICE_EVENT_BYTES, WEBRTC_FILTER_TYPES, EventError, dump_event
from relay.core.lifecycle import Dialect, LegName
from relay.core.policy_rules import ClientInstructions
from relay.core.policy_view import Private, view_of
from relay.core.server_events import fits, fitted, is_clean
from relay.core.session_fields import Shown, redact_session
from relay.core.verdicts import Rule, Verdict
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.core.in_force import InForce
    from relay.core.known_items import KnownItems
    from relay.core.lifecycle import SessionStart


_OTHER = "other"
# An echo that many small updates would make long answers of.
_LONG_ECHO = 16_384
# What an event grows by when it gets an id of ours, or is told in the other dialect.
_ID_BYTES = 512


class Wording:
    """Words one session's events for the client and for the service.

    `view` is the policy as it acts now; `transcription_name` what the client calls its transcription model;
    `webrtc_filter` whether it asked to be told a few events only;
    `client_message_bytes` and `service_message_bytes` the largest messages that the two sides take.
    """

    def __init__(self, start: SessionStart, next_id: Callable[[], str], items: KnownItems) -> None:
        self.view = view_of(start.policy, start.model, Private(deployments=start.service_names))
        self.transcription_name = start.transcription_name
        self.webrtc_filter = start.webrtc_filter
        self.client_message_bytes = MAX_EVENT_BYTES
        self.service_message_bytes = MAX_SERVICE_EVENT_BYTES
        self._start = start
        self._next_id = next_id
        self._items = items

    @property
    def _longest(self) -> int:
        """The largest message to the client, in bytes."""
        return min(MAX_EVENT_BYTES, self.client_message_bytes)

    def judged(self, leg: LegName, name: str, verdict: Verdict, rule: Rule) -> Judged:
        """A verdict, under the mode of the policy."""
        return Judged(leg, name, verdict, rule, self.view.written.mode)

    def withheld(self, name: str, rule: Rule) -> Judged:
        """The verdict that an event of the service is not shown."""
        return self.judged(LegName.UPSTREAM, name, Verdict.WITHHOLD, rule)

    def check_size(self, *events: Mapping[str, Any]) -> None:
        """Raise EventError for judged events for a client that the service cannot take, our id included."""
        if self.service_message_bytes >= 2 * MAX_EVENT_BYTES:
            return  # a client's event is smaller, and does not double: not worth the writing
        if any(len(dump_event(dict(event)).encode()) + _ID_BYTES > self.service_message_bytes for event in events):
            raise EventError(ErrorCode.EVENT_TOO_LARGE)

    def to_service(self, our_id: str, event: dict[str, Any]) -> ToService:
        """A GA event under an id of ours, in the service's dialect."""
        whole = {"type": event["type"], "event_id": our_id, **event}
        if self._start.service_dialect is Dialect.PREVIEW:
            whole = client_event_to_preview(whole)
        return ToService(dump_event(whole))

    def pass_on(
        self,
        name: str,
        event: dict[str, Any],
        dialect: Dialect,
        verdict: Verdict = Verdict.FORWARD,
        rule: Rule = Rule.ALLOWED,
        *,
        text: str | None = None,
    ) -> list[Action]:
        """The verdict on a server event, and the event in the client's dialect as far as it passes.

        `text` is the event as the service wrote it: sent as it is when nothing in it changes.
        """
        shown_types = self.view.acting.events.server
        if shown_types is not None and name not in shown_types:
            return [self.withheld(name, Rule.SERVER_TYPES)]
        if self.webrtc_filter and name not in WEBRTC_FILTER_TYPES:
            return [self.withheld(name, Rule.WEBRTC_FILTER)]
        public, touched = self.view.publisher.public(name, event)
        if touched is not Rule.ALLOWED and rule is Rule.ALLOWED:
            verdict, rule = Verdict.REWRITE, touched
        if self._items.hides(public.get("previous_item_id")):
            public, verdict, rule = {**public, "previous_item_id": None}, Verdict.REWRITE, Rule.ITEM_KNOWN
        translated = self._in_client_dialect(public, dialect)
        if translated is None:
            return [self.withheld(name, Rule.DIALECT)]
        lightened = False
        if text is None or translated is not event or not fits(text, self._longest):
            text, lightened = fitted(translated, self._longest, dump_event)
        if text is None:
            notice = notices.refusal(self._next_id(), ErrorCode.EVENT_TOO_LARGE, None, None)
            return [self.withheld(name, Rule.SIZE), *self.notify(notice)]
        if lightened:
            verdict, rule = Verdict.STRIP, Rule.SIZE
        self._items.shown(translated)
        return [self.judged(LegName.UPSTREAM, name, verdict, rule), ToClient(text)]

    def unknown(self, event: dict[str, Any], text: str) -> list[Action]:
        """An event of a type nobody knows: withheld, unless the policy lets such pass and there is nothing in it."""
        if not self.view.acting.events.pass_unknown or self.webrtc_filter:
            return [self.withheld(_OTHER, Rule.TYPE)]
        if not is_clean(event, self.view.publisher.scrubber, self.view.canary.says):
            return [self.withheld(_OTHER, Rule.PASS_UNKNOWN)]
        shown = text if fits(text, self._longest) else fitted(event, self._longest, dump_event)[0]
        if shown is None:
            return [self.withheld(_OTHER, Rule.SIZE)]
        return [self.judged(LegName.UPSTREAM, _OTHER, Verdict.FORWARD, Rule.PASS_UNKNOWN), ToClient(shown)]

    def _in_client_dialect(self, event: dict[str, Any], dialect: Dialect) -> dict[str, Any] | None:
        if dialect is self._start.dialect:
            return event
        return server_event_to_preview(event) if dialect is Dialect.GA else server_event_to_ga(event)

    def notify(self, notice: dict[str, Any]) -> list[Action]:
        """A notice of ours, in the client's dialect."""
        translated = self._in_client_dialect(notice, Dialect.GA)
        return [] if translated is None else [ToClient(dump_event(translated))]

    def shown_echo(self, event: dict[str, Any], force: InForce, rule: Rule | None) -> list[Action]:
        """The service's echo as the client may see it; `rule` if something was found in it."""
        echo = {**self._echo_frame(event), "session": self._shown_session(force)}
        return self.pass_on(echo["type"], echo, Dialect.GA, Verdict.REWRITE, rule or Rule.SESSION_ECHO)

    def own_echo(self, force: InForce) -> list[Action]:
        """Our own `session.updated`; without long tools, since a few bytes of the client's ask for it."""
        session = self._shown_session(force)
        if force.shown_bytes > _LONG_ECHO:
            session.pop("tools", None)
        event = {"type": "session.updated", "event_id": self._next_id(), "session": session}
        return self.pass_on("session.updated", event, Dialect.GA)[1:]

    def error(self, event: dict[str, Any], shown: dict[str, Any]) -> list[Action]:
        """An error of the service in words for the client."""
        public = {**self._echo_frame(event), "error": shown}
        return self.pass_on("error", public, self._start.service_dialect, Verdict.REWRITE, Rule.SERVICE_ERROR)

    def _echo_frame(self, event: dict[str, Any]) -> dict[str, Any]:
        event_id = event.get("event_id")
        return {"type": event.get("type"), "event_id": event_id if isinstance(event_id, str) else self._next_id()}

    def _shown_session(self, force: InForce) -> dict[str, Any]:
        """The session at the service as the client may see it."""
        rules = self.view.acting
        own = force.asked.brought.text if rules.instructions.client is ClientInstructions.PASSTHROUGH else None
        shown_as = Shown(
            session_id=self._start.session_id,
            model=self._start.model,
            transcription_name=self.transcription_name,
            tools=rules.tools,
            hide=rules.events.hide_fields,
            instructions=own,
            hidden_names=self.view.publisher.hidden_calls,
        )
        return redact_session(force.session, shown_as)
