"""Words of the service made fit for a browser: nothing of the policy, the deployment or where the service lives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

GENERIC_MESSAGE = "The service could not process the request."

_LONGEST_MESSAGE = 1_000
_WINDOW = 16
_MARK = 8
_SHORTEST_TOKEN = 8
_NOT_A_LETTER = re.compile(r"[\W_]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")
_TOKEN = re.compile(r"[\w-]+")
_DIGIT = re.compile(r"\d")
_LINK = re.compile(r"\b(?:https?|wss?)://\S+", re.IGNORECASE)
_HOST = re.compile(
    r"(?<![\w.-])(?:[\w-]+\.)+(?:com|net|org|us|cn|io|ms|ai|azure|windows|local|internal)\b", re.IGNORECASE
)
_UPSTREAM_ID = re.compile(r"\b(?:sess|rtc|ek)_[\w-]+")

_HIDDEN_PARAM = re.compile(
    r"(?:session|response)\."
    r"(?:instructions|prompt|tool_choice|tracing|truncation|client_secret|model"
    r"|(?:audio\.input\.|input_audio_)transcription\.(?:model|prompt|keywords))\b"
)


def is_hidden_param(param: str) -> bool:
    """Whether an error's `param` names a field whose value a client must not learn."""
    return _HIDDEN_PARAM.match(param) is not None


class MessageScrubber:
    """Makes the service's error messages public for one session."""

    def __init__(self, texts: Iterable[str], deployments: Iterable[str], public_names: frozenset[str]) -> None:
        """`texts` are the administrator's, `deployments` names at the service.

        `public_names` are the model names the client uses itself: a deployment called so is no secret.
        """
        self._texts = tuple({text: None for text in texts if text})
        longest_first = sorted(set(deployments) - public_names - {""}, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        self._deployments = re.compile(pattern, re.IGNORECASE) if longest_first else None

    def scrub(self, message: str) -> str:
        """The message without names of the service; a generic one when it is overlong or quotes the policy."""
        if len(message) > _LONGEST_MESSAGE or self.quotes_policy(message):
            return GENERIC_MESSAGE
        if self._deployments is not None:
            message = self._deployments.sub("the model", message)
        message = _LINK.sub("(link)", message)
        message = _HOST.sub("the service", message)
        return _UPSTREAM_ID.sub("(id)", message)

    def quotes_policy(self, message: str) -> bool:
        """Whether the message repeats a text: its beginning, 16 letters in a row, or a telling word of it."""
        said = letters(_ESCAPE.sub(_unescaped, message))
        runs = {said[at : at + _MARK] for at in range(len(said) - _MARK + 1)}
        words = [word for word in _TOKEN.findall(message) if len(word) >= _SHORTEST_TOKEN and _DIGIT.search(word)]
        return any(_quotes(text, said, runs) or any(word in text for word in words) for text in self._texts)


def _quotes(policy: str, said: str, runs: set[str]) -> bool:
    text, marks = _fingerprint(policy)
    if not text:
        return False
    if text[:_MARK] in said:
        return True
    if runs.isdisjoint(marks):
        return False
    spots = range(len(said) - _MARK + 1)
    return any(said[at : at + _MARK] in marks and _overlaps(said, at, text) for at in spots)


def _unescaped(escape: re.Match[str]) -> str:
    """A quotation may come JSON-escaped: the character of an escape with a number, nothing for the others."""
    return chr(int(escape[1], 16)) if escape[1] else " "


def _overlaps(said: str, at: int, text: str) -> bool:
    first = max(0, at + _MARK - _WINDOW)
    return any(len(part := said[start : start + _WINDOW]) == _WINDOW and part in text for start in range(first, at + 1))


@lru_cache(maxsize=1024)
def _fingerprint(policy: str) -> tuple[str, frozenset[str]]:
    """The policy's letters, and every eighth run of eight: each window of sixteen holds at least one of these."""
    text = letters(policy)
    return text, frozenset(text[at : at + _MARK] for at in range(0, len(text), _MARK))


def letters(text: str) -> str:
    """The text without case, spaces and marks, so that escaping and wrapping do not hide a quotation."""
    return _NOT_A_LETTER.sub("", text.casefold())
