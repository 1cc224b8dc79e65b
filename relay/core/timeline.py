"""What happened in one session, in order and bounded: its beginning is kept whole, and of the rest the last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relay.core.lifecycle import (
    ClientGone,
    Decided,
    Disconnected,
    PolicyTaken,
    Reattached,
    ReattachFailed,
    Reconnected,
    TransportUsed,
)
from relay.core.turn_facts import AnswerBegan, Answered, Interrupted, LimitsTold, ServiceErred
from relay.core.verdicts import Verdict

if TYPE_CHECKING:
    from relay.core.lifecycle import DiaryFact, LegName

FIRST_KEPT = 100
LAST_KEPT = 400
_TEXT_MOST = 200
# Service limits are told after every answer; below this share they are worth a line.
_LOW_LIMIT = 0.1


class Moment(StrEnum):
    """What an entry of a timeline tells of."""

    STAGE = "stage"
    PHASE = "phase"
    ANSWER_BEGAN = "answer_began"
    ANSWERED = "answered"
    INTERRUPTED = "interrupted"
    SERVICE_ERRED = "service_erred"
    LIMITS_LOW = "limits_low"
    DECISION = "decision"
    NOTICE = "notice"
    TRANSPORT = "transport"
    DISCONNECTED = "disconnected"
    RECONNECTED = "reconnected"
    CLIENT_GONE = "client_gone"
    REATTACHED = "reattached"
    REATTACH_FAILED = "reattach_failed"
    POLICY_REPLACED = "policy_replaced"
    POLICY_CONFIRMED = "policy_confirmed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Entry:
    """One moment: closed words, names of the administrator's own and figures; never content.

    `text` is a word or a few, `seconds` how long it took or lasts, `tokens` how many were used.
    """

    kind: Moment
    text: str = ""
    leg: LegName | None = None
    seconds: float | None = None
    tokens: int | None = None

    def as_json(self, at: float) -> dict[str, Any]:
        """The entry with its time, Unix seconds; what it does not tell is left out."""
        told: dict[str, Any] = {"at": round(at, 3), "kind": self.kind.value}
        if self.leg is not None:
            told["leg"] = self.leg.value
        if self.text:
            told["text"] = self.text[:_TEXT_MOST]
        if self.seconds is not None:
            told["seconds"] = round(self.seconds, 3)
        if self.tokens is not None:
            told["tokens"] = self.tokens
        return told


class Timeline:
    """At most 500 entries: the first 100, and a ring of the last 400; `dropped` counts those in between."""

    def __init__(self, first: int = FIRST_KEPT, last: int = LAST_KEPT) -> None:
        self.dropped = 0
        self._first: list[tuple[float, Entry]] = []
        self._most_first = first
        self._last: deque[tuple[float, Entry]] = deque(maxlen=last)

    def add(self, at: float, entry: Entry) -> None:
        """Note a moment; `at` is in Unix seconds."""
        if len(self._first) < self._most_first:
            self._first.append((at, entry))
            return
        if len(self._last) == self._last.maxlen:
            self.dropped += 1
        self._last.append((at, entry))

    def entries(self) -> tuple[dict[str, Any], ...]:
        """What is kept, the oldest first, as it is shown."""
        return tuple(entry.as_json(at) for at, entry in (*self._first, *self._last))


def entry_of(fact: DiaryFact) -> Entry | None:
    """What a timeline tells of a fact; None for what belongs in figures only."""
    match fact:
        case Decided(leg, event_type, verdict, rule, mode, would_be):
            done = would_be or verdict
            return (
                None if done == Verdict.FORWARD else Entry(Moment.DECISION, f"{done} {event_type} {rule} {mode}", leg)
            )
        case PolicyTaken(revision):
            return Entry(Moment.POLICY_CONFIRMED, revision)
        case TransportUsed(leg, transport):
            return Entry(Moment.TRANSPORT, transport, leg)
        case Disconnected() | Reconnected() | ClientGone() | Reattached() | ReattachFailed():
            return _of_client(fact)
        case AnswerBegan() | Answered() | Interrupted() | ServiceErred() | LimitsTold():
            return _of_turn(fact)
        case _:
            return None


def _of_client(fact: Disconnected | Reconnected | ClientGone | Reattached | ReattachFailed) -> Entry:
    match fact:
        case Disconnected(seconds):
            return Entry(Moment.DISCONNECTED, seconds=seconds)
        case Reconnected(seconds):
            return Entry(Moment.RECONNECTED, seconds=seconds)
        case ClientGone(reason, _, seconds):
            return Entry(Moment.CLIENT_GONE, reason.value, seconds=seconds)
        case Reattached(seconds):
            return Entry(Moment.REATTACHED, seconds=seconds)
        case ReattachFailed(reason):
            return Entry(Moment.REATTACH_FAILED, reason.value)


def _of_turn(fact: AnswerBegan | Answered | Interrupted | ServiceErred | LimitsTold) -> Entry | None:
    match fact:
        case AnswerBegan(seconds):
            return Entry(Moment.ANSWER_BEGAN, seconds=seconds)
        case Answered(status, seconds, tokens):
            return Entry(Moment.ANSWERED, status, seconds=seconds, tokens=sum(tokens.values()))
        case Interrupted():
            return Entry(Moment.INTERRUPTED)
        case ServiceErred(code):
            return Entry(Moment.SERVICE_ERRED, code)
        case LimitsTold(remaining):
            low = sorted(name for name, share in remaining.items() if share < _LOW_LIMIT)
            return Entry(Moment.LIMITS_LOW, " ".join(low)) if low else None
