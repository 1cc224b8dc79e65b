"""Turns, usage and limits as a session's server events tell them; only figures and closed words are taken."""

from __future__ import annotations

from math import isfinite
from typing import Any

from relay.core.error_words import KNOWN_CODES, REASONS
from relay.core.event_actions import Action, AnswerAudio, Tell
from relay.core.turn_facts import (
    Answered,
    Interrupted,
    Limit,
    LimitsTold,
    ServiceErred,
    TokenDirection,
    TokenKind,
    Tokens,
    Transcribed,
    TurnStatus,
)

_OTHER = "other"
# An answer that begins later than this belongs to no speech before it.
_LONGEST_WAIT_SECONDS = 60.0
# No count of one event is larger: a figure above it is not one.
_MOST = 1_000_000_000
_MOST_LIMITS = 8
# Answers under way at one time, of which some are outside the conversation.
_MOST_BEGUN = 64
_KINDS = ("text", "audio", "image")
_CUT_SHORT = frozenset({"turn_detected", "client_cancelled"})


class TurnWatch:
    """Follows the server events of one session (GA names); what they mean comes back as actions."""

    def __init__(self) -> None:
        self._speech_stopped: float | None = None
        # When each answer that is not over was begun, by its id.
        self._begun: dict[str, float] = {}
        # The answer that was counted as interrupted last: the service tells of it twice.
        self._interrupted: str | None = None

    def follow(self, name: str, event: dict[str, Any], now: float) -> list[Action]:
        """Take one event that came at `now`, in Unix seconds."""
        match name:
            case "input_audio_buffer.speech_started":
                self._speech_stopped = None
            case "input_audio_buffer.speech_stopped":
                self._speech_stopped = now
            case "response.created":
                self._begins(event.get("response"), now)
            case "output_audio_buffer.started":
                return self._sound_begins(now)
            case "output_audio_buffer.cleared":
                return self._cut_short(event.get("response_id"))
            case "response.done":
                return self._done(event.get("response"), now)
            case _:
                return _figures(name, event)
        return []

    def _sound_begins(self, now: float) -> list[Action]:
        since, self._speech_stopped = self._speech_stopped, None
        return [] if since is None or not 0 <= now - since <= _LONGEST_WAIT_SECONDS else [AnswerAudio(since)]

    def _begins(self, response: Any, now: float) -> None:
        match response:
            case {"id": str(response_id)} if len(self._begun) < _MOST_BEGUN:
                self._begun[response_id] = now

    def _done(self, response: Any, now: float) -> list[Action]:
        if not isinstance(response, dict):
            return []
        details = response.get("status_details")
        details = details if isinstance(details, dict) else {}
        reason = _word(details.get("reason"), REASONS)
        status = _word(response.get("status"), frozenset(TurnStatus))
        if status == TurnStatus.INCOMPLETE and reason == "content_filter":
            status = TurnStatus.CONTENT_FILTER.value
        response_id = response.get("id")
        began = self._begun.pop(response_id, now) if isinstance(response_id, str) else now
        told: list[Action] = [Tell(Answered(status, max(0.0, now - began), tokens_of(response.get("usage"))))]
        if status == TurnStatus.FAILED:
            told.append(_erred(details.get("error")))
        return told + self._cut_short(response_id) if reason in _CUT_SHORT else told

    def _cut_short(self, response_id: Any) -> list[Action]:
        if not isinstance(response_id, str) or response_id == self._interrupted:
            return []
        self._interrupted = response_id
        return [Tell(Interrupted())]


def tokens_of(usage: Any) -> Tokens:
    """The tokens of a `usage` object, each of one kind; those that it does not break down count as text.

    The service counts cached tokens among the input's others (protocol: `input_token_details`).
    """
    if not isinstance(usage, dict):
        return {}
    inputs = _by_kind(usage.get("input_tokens"), usage.get("input_token_details"))
    outputs = _by_kind(usage.get("output_tokens"), usage.get("output_token_details"))
    cached = _cached(usage.get("input_token_details"), inputs)
    found: Tokens = {(TokenDirection.OUTPUT.value, kind): number for kind, number in outputs.items()}
    for kind, number in inputs.items():
        found[TokenDirection.INPUT.value, kind] = number - cached[kind]
        found[TokenDirection.INPUT.value, TokenKind(f"cached_{kind}").value] = cached[kind]
    return {key: number for key, number in found.items() if number}


def _by_kind(total: Any, details: Any) -> dict[str, int]:
    details = details if isinstance(details, dict) else {}
    by_kind = {kind: _count(details.get(f"{kind}_tokens")) for kind in _KINDS}
    by_kind["text"] += max(0, _count(total) - sum(by_kind.values()))
    return by_kind


def _cached(details: Any, inputs: dict[str, int]) -> dict[str, int]:
    """Cached tokens by kind, never more than there are; without a breakdown, text is taken first."""
    details = details if isinstance(details, dict) else {}
    parts = details.get("cached_tokens_details")
    parts = parts if isinstance(parts, dict) else {}
    left = _count(details.get("cached_tokens"))
    cached = {}
    for kind in _KINDS:
        told = _count(parts.get(f"{kind}_tokens", parts.get(kind))) if parts else left
        cached[kind] = min(told, inputs[kind], left)
        left -= cached[kind]
    return cached


def _transcribed(usage: Any) -> list[Action]:
    if not isinstance(usage, dict):
        return []
    seconds = usage.get("seconds") if usage.get("type") == "duration" else None
    told = Transcribed(tokens_of(usage), _number(seconds))
    return [Tell(told)] if told.tokens or told.seconds else []


def _limits(limits: Any) -> list[Action]:
    remaining: dict[str, float] = {}
    for each in limits[:_MOST_LIMITS] if isinstance(limits, list) else ():
        if isinstance(each, dict) and (limit := _number(each.get("limit"))) > 0:
            left = _number(each.get("remaining")) / limit
            remaining[_word(each.get("name"), frozenset(Limit))] = min(1.0, left)
    return [Tell(LimitsTold(remaining))] if remaining else []


def _erred(error: Any) -> Tell:
    return Tell(ServiceErred(_word(error.get("code") if isinstance(error, dict) else None, KNOWN_CODES)))


def _word(value: Any, closed: frozenset[str]) -> str:
    return str(value) if isinstance(value, str) and value in closed else _OTHER


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else 0


def _number(value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not isfinite(value))
    ):
        return 0.0
    return float(min(max(0, value), _MOST))


def _figures(name: str, event: dict[str, Any]) -> list[Action]:
    match name:
        case "conversation.item.input_audio_transcription.completed":
            return _transcribed(event.get("usage"))
        case "rate_limits.updated":
            return _limits(event.get("rate_limits"))
        case "error" | "conversation.item.input_audio_transcription.failed":
            return [_erred(event.get("error"))]
    return []
