"""What a session tells of its turns, and of what they used: plain values, no content."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class TurnStatus(StrEnum):
    """How an answer of the model ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    CONTENT_FILTER = "content_filter"


class TokenDirection(StrEnum):
    """Whether tokens were read or written by the model."""

    INPUT = "input"
    OUTPUT = "output"


class TokenKind(StrEnum):
    """What tokens stand for; each token is of one kind, so that the sum of all is the total."""

    TEXT = "text"
    AUDIO = "audio"
    IMAGE = "image"
    CACHED_TEXT = "cached_text"
    CACHED_AUDIO = "cached_audio"
    CACHED_IMAGE = "cached_image"


class Limit(StrEnum):
    """What a rate limit of the service counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


# How many of each: {(direction, kind): tokens}, the words of TokenDirection and TokenKind.
Tokens = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class AnswerBegan:
    """The first packet of an answer's sound went to the client, `seconds` after the service heard the speech stop."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the model is over, `seconds` after it was begun; `status` is one of TurnStatus or `other`."""

    status: str
    seconds: float = 0.0
    tokens: Tokens = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An answer was cut short, by speech or by the client."""


@dataclass(frozen=True, slots=True)
class Transcribed:
    """The client's speech was transcribed: billed by tokens, or by `seconds` of sound."""

    tokens: Tokens = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceErred:
    """The service told of an error; `code` is one that is known, or `other`."""

    code: str


@dataclass(frozen=True, slots=True)
class LimitsTold:
    """What is left of the service's rate limits, 0 to 1, by the words of Limit or `other`."""

    remaining: dict[str, float]


TurnFact = AnswerBegan | Answered | Interrupted | Transcribed | ServiceErred | LimitsTold
