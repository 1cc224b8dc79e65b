"""Words of the service made fit for a browser: nothing of the policy, the deployment or where the service lives."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from string import digits
from urllib.parse import unquote

from relay.core.error_words import GENERIC_MESSAGE

LONGEST_MESSAGE = 1_000
"""Characters; what is longer is not shown."""

_WINDOW = 16
_MARK = 8
_STEP = _WINDOW - _MARK + 1
_NOT_A_LETTER = re.compile(r"[\W_]+")
_LOWER = bytes(range(256)).lower()
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")
_LONG_TOKEN = re.compile(r"[\w-]{8,}")
_DIGIT = re.compile(r"\d")
_LINK = re.compile(r"\b(?:https?|wss?)://\S+", re.IGNORECASE)
_DOMAIN = r"(?:com|net|org|us|cn|io|ms|ai|azure|windows|local|internal)\b"
_HOST = re.compile(rf"(?<![\w.-])(?:[\w-]+\.)+{_DOMAIN}", re.IGNORECASE)
_HOST_END = re.compile(rf"\.(?i:{_DOMAIN})")  # searched for from dot to dot, which a flag for the whole would prevent
_ID_KINDS = ("sess_", "rtc_", "ek_")
_UPSTREAM_ID = re.compile(rf"\b(?:{'|'.join(_ID_KINDS)})[\w-]+", re.IGNORECASE)
_DOTTED = re.compile(r"\.[\w-]+\.")
_IPV6_SIGN = re.compile(r":[0-9a-fA-F]{0,4}:")
# IPv4 addresses, IPv6 addresses in brackets or with four groups, and hosts of three labels under any domain.
_ADDRESS = re.compile(
    r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|\[[0-9a-fA-F:]{2,}\]|(?:[0-9a-fA-F]{1,4}:){3}"
    r"|(?<![\w.-])(?:[\w-]+\.){2,}[A-Za-z]{2,}(?::\d+)?(?![\w.])"
)
# A name of fewer letters turns up by itself.
_TELLING = 6
_FOREIGN_RUN = 6
_FOREIGN_LETTERS = 4


class MessageScrubber:
    """Makes the service's error messages public for one session."""

    def __init__(self, texts: Iterable[str], deployments: Iterable[str]) -> None:
        """`texts` are the administrator's, `deployments` names at the service.

        They are private also where a client calls its model so: a right guess must not look otherwise than a wrong one.
        """
        self._texts = tuple({text: None for text in texts if text})
        longest_first = sorted(set(deployments) - {""}, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        self._deployments = re.compile(pattern, re.IGNORECASE) if longest_first else None
        self._plain_names = tuple(map(str.lower, longest_first)) if pattern.isascii() else ("",)
        self._letters = tuple(said for name in longest_first if len(said := letters(name)) >= _TELLING)
        self._runs = frozenset(run for text in self._texts for run in _foreign_runs(text))

    def scrub(self, message: str) -> str:
        """The message without names of the service; a generic one when it is overlong or quotes the policy."""
        if len(message) > LONGEST_MESSAGE or self.quotes_policy(message):
            return GENERIC_MESSAGE
        return self._without_names(message)

    def keeps(self, text: str) -> bool:
        """Whether nothing in a text of any length is private: it stays as it is."""
        return not self.quotes_policy(text) and self._without_names(text) == text and not self._resembles(text)

    def _resembles(self, text: str) -> bool:
        """Whether a text holds an address, or a name of the service escaped, with other marks, in wide letters."""
        dotted = "." in text and _DOTTED.search(text)
        if (dotted or (":" in text and _IPV6_SIGN.search(text))) and _ADDRESS.search(text):
            return True
        plain = unquote(text) if "%" in text else text
        said = letters(plain if plain.isascii() else unicodedata.normalize("NFKC", plain))
        return any(name in said for name in self._letters)

    def _without_names(self, message: str) -> str:
        # Beyond ASCII a pattern knows equals that lower case does not.
        plain = message.lower() if message.isascii() else None
        if self._deployments is not None and (plain is None or any(name in plain for name in self._plain_names)):
            message = self._deployments.sub("the model", message)
        # Each has a sign that is found in a tenth of the time, and most messages hold none of them.
        if "://" in message:
            message = _LINK.sub("(link)", message)
        if _HOST_END.search(message):
            message = _HOST.sub("the service", message)
        signs = message.casefold() if plain is None else plain
        return _UPSTREAM_ID.sub("(id)", message) if any(map(signs.__contains__, _ID_KINDS)) else message

    def quotes_policy(self, message: str) -> bool:
        """Whether the message repeats a text: its beginning, 16 letters in a row, or a telling word of it."""
        if self._runs and not message.isascii() and not self._runs.isdisjoint(_foreign_runs(message)):
            return True
        said = letters(_ESCAPE.sub(_unescaped, message))
        runs = {said[at : at + _MARK] for at in _spots(said)}
        words = [word for word in _LONG_TOKEN.findall(message) if _has_digit(word)] if _has_digit(message) else []
        return any(_quotes(text, said, runs) or any(word in text for word in words) for text in self._texts)


def _quotes(policy: str, said: str, runs: set[str]) -> bool:
    text, marks = _fingerprint(policy)
    if not text:
        return False
    if text[:_MARK] in said:
        return True
    if runs.isdisjoint(marks):
        return False
    return any(said[at : at + _MARK] in marks and _overlaps(said, at, text) for at in _spots(said))


def _has_digit(text: str) -> bool:
    if text.isascii():  # ten looks in C take less time than one that knows the digits of all scripts
        return any(map(text.__contains__, digits))
    return _DIGIT.search(text) is not None


def _spots(said: str) -> range:
    """Where to look for the policy's runs of eight: every window of sixteen holds one that begins at such a place."""
    return range(0, len(said) - _MARK + 1, _STEP)


def _unescaped(escape: re.Match[str]) -> str:
    """A quotation may come JSON-escaped: the character of an escape with a number, nothing for the others."""
    return chr(int(escape[1], 16)) if escape[1] else " "


def _overlaps(said: str, at: int, text: str) -> bool:
    first = max(0, at + _MARK - _WINDOW)
    return any(len(part := said[start : start + _WINDOW]) == _WINDOW and part in text for start in range(first, at + 1))


def _foreign_runs(text: str) -> Iterator[str]:
    """Every six letters in a row of which most are beyond ASCII: in scripts without spaces they say a clause."""
    if text.isascii():
        return
    said = letters(text)
    for at in range(len(said) - _FOREIGN_RUN + 1):
        run = said[at : at + _FOREIGN_RUN]
        if sum(not char.isascii() for char in run) >= _FOREIGN_LETTERS:
            yield run


# Few: instructions may differ by user, and long ones take megabytes each.
@lru_cache(maxsize=32)
def _fingerprint(policy: str) -> tuple[str, frozenset[str]]:
    """The policy's letters, and every run of eight of them: some of what a message says is then enough to compare."""
    text = letters(policy)
    return text, frozenset(text[at : at + _MARK] for at in range(len(text) - _MARK + 1))


def letters(text: str) -> str:
    """The text without case, spaces and marks, so that escaping and wrapping do not hide a quotation."""
    if text.isascii():  # a tenth of the time
        return text.encode().translate(_LOWER, _ASCII_MARKS).decode()
    return _NOT_A_LETTER.sub("", text.casefold())
