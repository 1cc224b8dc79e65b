"""Variables in instructions: `{{claim.NAME}}` becomes a claim of the verified identity, made harmless.

A claim is somebody's text inside the administrator's. It keeps its words and loses what could pass for structure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

VALUE_MAX_CHARS = 200

_VARIABLE = re.compile(r"\{\{\s*claim\.([\w.:/-]{1,128})\s*\}\}")
_BRACES = re.compile(r"\{\{.*?\}\}|\{\{|\}\}", re.DOTALL)
# Whatever could close or open a marked part: a mark three times or more, template and model tags.
_DELIMITER = re.compile(r"([^\w\s])\1{2,}|\{\{|\}\}|<\||\|>|</|\[/?INST\]")
_NO_TEXT = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


class UnfitClaim(Exception):  # noqa: N818 - a session that cannot be served, not a failure
    """A claim that the instructions need is missing or cannot be written out. Holds the name, never the value."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"claim {name!r} {why}")
        self.name = name


def claims_named(text: str) -> Iterator[str]:
    """The claims that a text needs, each time it does."""
    return (match[1] for match in _VARIABLE.finditer(text))


def misread_braces(text: str) -> Iterator[str]:
    """Double braces that are no variable: a slip of the pen that a model would read as it stands."""
    return (match[0] for match in _BRACES.finditer(text) if not _VARIABLE.fullmatch(match[0]))


def filled(text: str, claims: Mapping[str, Any], defaults: Mapping[str, str]) -> str:
    """The text with its variables replaced, in one pass: a value is never read for variables. Raises UnfitClaim."""
    return _VARIABLE.sub(lambda match: _value(match[1], claims, defaults), text)


def harmless(value: str) -> str:
    """The value on one line, without control characters and delimiters, at most 200 characters."""
    value = unicodedata.normalize("NFKC", value[: 4 * VALUE_MAX_CHARS])
    value = "".join(" " if char.isspace() else char for char in value)
    value = "".join(char for char in value if unicodedata.category(char) not in _NO_TEXT)
    while (shorter := _DELIMITER.sub("", value)) != value:
        value = shorter
    return " ".join(value.split())[:VALUE_MAX_CHARS].rstrip()


def _value(name: str, claims: Mapping[str, Any], defaults: Mapping[str, str]) -> str:
    given = claims.get(name)
    if given is None or given == "":
        if name not in defaults:
            raise UnfitClaim(name, "is missing, and the policy has no default for it")
        return harmless(defaults[name])
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise UnfitClaim(name, "is no single text or whole number")
    value = harmless(str(given))
    if not value:
        raise UnfitClaim(name, "has nothing in it that can be written out")
    return value
