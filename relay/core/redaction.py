"""Words of the service made fit for a browser: nothing of the policy, the deployment or where the service lives."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy

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

    def __init__(self, policy: EffectivePolicy, public_names: frozenset[str]) -> None:
        """`public_names` are the model names the client uses itself: a deployment called so is no secret."""
        self._policy = policy.instructions
        names = {policy.deployment, policy.transcription_deployment or ""} - public_names - {""}
        longest_first = sorted(names, key=len, reverse=True)
        self._deployments = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if names else None

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
        """Whether the message repeats the policy: its beginning, 16 letters in a row, or a telling word of it."""
        text, marks = _fingerprint(self._policy)
        if not text:
            return False
        said = _letters(_ESCAPE.sub(_unescaped, message))
        if text[:_MARK] in said:
            return True
        for at in range(len(said) - _MARK + 1):
            if said[at : at + _MARK] in marks and _overlaps(said, at, text):
                return True
        words = [word for word in _TOKEN.findall(message) if len(word) >= _SHORTEST_TOKEN and _DIGIT.search(word)]
        return any(word in self._policy for word in words)


def _unescaped(escape: re.Match[str]) -> str:
    """A quotation may come JSON-escaped: the character of an escape with a number, nothing for the others."""
    return chr(int(escape[1], 16)) if escape[1] else " "


def _overlaps(said: str, at: int, text: str) -> bool:
    first = max(0, at + _MARK - _WINDOW)
    return any(len(part := said[start : start + _WINDOW]) == _WINDOW and part in text for start in range(first, at + 1))


@lru_cache(maxsize=64)
def _fingerprint(policy: str) -> tuple[str, frozenset[str]]:
    """The policy's letters, and every eighth run of eight: each window of sixteen holds at least one of these."""
    text = _letters(policy)
    return text, frozenset(text[at : at + _MARK] for at in range(0, len(text), _MARK))


def _letters(text: str) -> str:
    """The text without case, spaces and marks, so that escaping and wrapping do not hide a quotation."""
    return _NOT_A_LETTER.sub("", text.casefold())
