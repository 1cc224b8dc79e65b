"""Two legs joined: audio through, events through the filter, one media gate for both directions."""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol

from relay.core.client_rates import ClientRates, OverRate
from relay.core.event_actions import (
    Action,
    AnswerAudio,
    CloseGate,
    EndWith,
    Judged,
    OpenGate,
    Tell,
    ToClient,
    ToService,
)
from relay.core.event_filter import EventFilter
from relay.core.lifecycle import (
    Decided,
    LegCounters,
    LegName,
    MediaSample,
    PolicyTaken,
    SessionCounters,
    SessionLimits,
    ToldRefusal,
    merged,
)
from relay.core.policy import EffectivePolicy
from relay.core.turn_facts import TurnFact
from relay.errors import EndReason
from relay.rtc.leg import Leg, LegFault
from relay.rtc.media_gate import MediaGate
from relay.rtc.media_watch import MediaWatch

BridgeFact = PolicyTaken | Decided | TurnFact | MediaSample

_END_REASONS = {
    (LegName.DOWNSTREAM, LegFault.LEFT): EndReason.CLIENT_LEFT,
    (LegName.DOWNSTREAM, LegFault.LOST): EndReason.CLIENT_LOST,
    (LegName.DOWNSTREAM, LegFault.UNREACHABLE): EndReason.CLIENT_UNREACHABLE,
    (LegName.DOWNSTREAM, LegFault.DTLS_FAILED): EndReason.CLIENT_DTLS_FAILED,
    (LegName.DOWNSTREAM, LegFault.CHANNEL_TIMEOUT): EndReason.CLIENT_CHANNEL_TIMEOUT,
    (LegName.DOWNSTREAM, LegFault.PROTOCOL_ERROR): EndReason.CLIENT_PROTOCOL_ERROR,
    (LegName.DOWNSTREAM, LegFault.MESSAGE_TOO_LARGE): EndReason.CLIENT_MESSAGE_TOO_LARGE,
    (LegName.DOWNSTREAM, LegFault.TOO_SLOW): EndReason.CLIENT_TOO_SLOW,
    (LegName.UPSTREAM, LegFault.LEFT): EndReason.SERVICE_LEFT,
    (LegName.UPSTREAM, LegFault.LOST): EndReason.SERVICE_LOST,
    (LegName.UPSTREAM, LegFault.UNREACHABLE): EndReason.SERVICE_UNREACHABLE,
    (LegName.UPSTREAM, LegFault.DTLS_FAILED): EndReason.SERVICE_DTLS_FAILED,
    (LegName.UPSTREAM, LegFault.CHANNEL_TIMEOUT): EndReason.SERVICE_CHANNEL_TIMEOUT,
    (LegName.UPSTREAM, LegFault.PROTOCOL_ERROR): EndReason.SERVICE_PROTOCOL_ERROR,
    (LegName.UPSTREAM, LegFault.MESSAGE_TOO_LARGE): EndReason.SERVICE_MESSAGE_TOO_LARGE,
    (LegName.UPSTREAM, LegFault.TOO_SLOW): EndReason.SERVICE_TOO_SLOW,
}


def end_reason(leg: LegName, fault: LegFault) -> EndReason:
    """The session's end reason for a fault of one leg."""
    return _END_REASONS[leg, fault]


class BridgeListener(Protocol):
    """What a bridge tells its session."""

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session; the first reason wins."""
        ...

    def on_policy_in_force(self) -> None:
        """Hear that the administrator's instructions are confirmed; the gate opens."""
        ...

    def on_first_audio(self, leg: LegName) -> None:
        """Hear that the first packet that came in on this leg was forwarded."""
        ...

    def tell(self, fact: BridgeFact) -> None:
        """Pass a fact on: a policy in force in place of another, a verdict that is no plain forward, a figure."""
        ...


class Bridge:
    """Carries packets and events between two legs, once both exist; the client's may be replaced."""

    def __init__(self, events: EventFilter, limits: SessionLimits, listener: BridgeListener) -> None:
        self._events = events
        self._listener = listener
        now = time.monotonic()
        self.rates = ClientRates(limits, now)
        # The revision of a policy that replaced the first one and is not confirmed yet.
        self._awaited: str | None = None
        # When the conversation last moved, in monotonic seconds: speech shows in the service's events.
        self.last_event = now
        self._legs: dict[LegName, Leg] = {}
        # What the client's legs counted that are replaced.
        self._former = LegCounters()
        # A bound method would hold a listener that is given weakly.
        self.gate = MediaGate(self._legs, lambda leg: listener.on_first_audio(leg))  # noqa: PLW0108 - see above
        self.media = MediaWatch(lambda fact: listener.tell(fact))  # noqa: PLW0108 - see above
        self._judged: Counter[tuple[str, str, str]] = Counter()

    def join(self, downstream: Leg | None, upstream: Leg) -> None:
        """Take the two legs; packets are authenticated and counted from now on, and forwarded once the gate is open.

        The client's may come later (`replace_client`).
        """
        self._legs[LegName.UPSTREAM] = upstream
        if downstream is not None:
            self._legs[LegName.DOWNSTREAM] = downstream
            self._events.adapt(client_bytes=downstream.largest_message)
        self.gate.follow()

    def replace_client(self, leg: Leg | None) -> None:
        """Another leg of the client's takes over, or none is there for now; the service's side goes on as one stream.

        What is for a client that is not there is judged and counted, and not kept.
        """
        before = self._legs.pop(LegName.DOWNSTREAM, None)
        if before is not None:
            self.gate.leave(before)
            self._former = merged(self._former, before.counters())
        if leg is not None:
            self._legs[LegName.DOWNSTREAM] = leg
            self._legs[LegName.UPSTREAM].stream.expect_other_source()
            self._events.adapt(client_bytes=leg.largest_message)
            self._run(self._events.client_returned())
        self.gate.follow()

    def replace_policy(self, policy: EffectivePolicy) -> None:
        """Judge every event from now on by another policy, and put its text in force at the service."""
        self._awaited = policy.revision
        self._run(self._events.replace_policy(policy))
        self._look_whether_taken()

    def tick(self, now: float, unix: float) -> None:
        """Once a second: deadlines, rates, reports of both legs."""
        self.rates.tick()
        self._run(self._events.tick(unix))
        for leg in self._legs.values():
            leg.stream.tick(now, unix)
        self.media.tick(self._legs, flowing=self.gate.flowing)

    def counters(self) -> SessionCounters:
        """What was counted until now."""
        downstream, upstream = self._legs.get(LegName.DOWNSTREAM), self._legs.get(LegName.UPSTREAM)
        return SessionCounters(
            self._former if downstream is None else merged(self._former, downstream.counters()),
            LegCounters() if upstream is None else upstream.counters(),
            dict(self._judged),
        )

    def notify_ending(self, reason: EndReason, seconds_left: int) -> None:
        """Tell the client that its session will end."""
        self._to_client(self._events.notice_ending(reason, seconds_left))

    def notify_end(self, reason: EndReason, refusal: ToldRefusal | None = None) -> bool:
        """Tell the client why its session ends now, and what refused it; False if there is nothing to tell."""
        leg = self._legs.get(LegName.DOWNSTREAM)
        if leg is None or not leg.can_send:
            return False
        sent = [self._to_client(notice) for notice in self._events.notices_of_end(reason, refusal)]
        return any(sent)

    # --- LegListener -------------------------------------------------------------------------------------------------

    def on_text(self, leg: LegName, text: str) -> None:
        """Judge one event and send what comes of it before the next one is read."""
        if leg is LegName.UPSTREAM:
            self._run(self._events.server_event(text, time.time()))
            self.gate.keep_no_more()
            if self._awaited is not None:
                self._look_whether_taken()
        elif self._may_come(len(text)):
            self._run(self._events.client_event(text))

    def on_binary(self, leg: LegName, size: int) -> None:
        """Judge a binary message by its existence; its content is not read."""
        if leg is LegName.UPSTREAM or self._may_come(size):
            self._run(self._events.binary(leg))

    def on_fault(self, leg: LegName, fault: LegFault, detail: str) -> None:
        """End the session with the reason that belongs to the leg's fault."""
        self._listener.end(end_reason(leg, fault), detail)

    # --- what actions do ---------------------------------------------------------------------------------------------

    def _run(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Judged():
                    self._note(action)
                case ToService(text):
                    # A client cannot stay by sending what does not go up.
                    self.last_event = time.monotonic()
                    if not self._legs[LegName.UPSTREAM].send_text(text):
                        self._listener.end(EndReason.SERVICE_REFUSED, "the service takes no event of this size")
                case ToClient(text):
                    self._to_client(text)
                case OpenGate():
                    self._listener.on_policy_in_force()
                    self.gate.open()
                case CloseGate():
                    self.gate.shut()
                case EndWith(reason, detail):
                    self._listener.end(reason, detail)
                case AnswerAudio() | Tell():
                    self._tell(action)

    def _tell(self, action: AnswerAudio | Tell) -> None:
        if isinstance(action, Tell):
            self._listener.tell(action.fact)
        elif self.gate.flowing:
            self.media.answer_begins(self._legs[LegName.UPSTREAM], action.since)

    def _note(self, judged: Judged) -> None:
        leg, event_type, verdict = judged.leg, judged.event_type, judged.verdict
        self._judged[leg.value, event_type, verdict.value] += 1
        if leg is LegName.UPSTREAM:
            self.last_event = time.monotonic()
        if not judged.plain:
            would_be = None if judged.would_be is None else judged.would_be.value
            self._listener.tell(
                Decided(leg, event_type, verdict.value, judged.rule, judged.mode, would_be, judged.content_sha256)
            )

    def _to_client(self, text: str) -> bool:
        leg = self._legs.get(LegName.DOWNSTREAM)
        return leg is not None and leg.send_text(text)

    def _may_come(self, size: int) -> bool:
        """Whether a message of the client is within its rates; what is not is told, dropped, or the session's end."""
        over = self.rates.take(size, time.monotonic())
        if over is OverRate.TOLD:
            self._run(self._events.client_over_rate())
        elif over is OverRate.FLOOD:
            self._listener.end(EndReason.CLIENT_FLOOD, "far above the event rate")
        return over is None

    def _look_whether_taken(self) -> None:
        if self._awaited is not None and self._events.settled:
            self._listener.tell(PolicyTaken(self._awaited))
            self._awaited = None
