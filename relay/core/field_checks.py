"""Small checks that rebuild a value from what it may be; nothing that they do not name survives."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from relay.core.events import EventError
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

Check = Callable[[Any, str], Any]
"""Takes a value and its path; returns the judged copy. Raises EventError for a wrong type, Unfit for a wrong value."""


class Unfit(Exception):  # noqa: N818 - a verdict, not a failure
    """The value has the right type and cannot be used: who asked decides whether to strip or to refuse."""


def wrong_type(path: str) -> EventError:
    """The refusal of a value of another JSON type than the protocol's."""
    return EventError(ErrorCode.INVALID_TYPE, path, Rule.FIELDS)


def wrong_value(path: str, rule: Rule = Rule.FIELDS) -> EventError:
    """The refusal of a value outside its range."""
    return EventError(ErrorCode.INVALID_VALUE, path, rule)


def text(longest: int, pattern: str = "") -> Check:
    """A string of at most `longest` characters; with `pattern`, one that matches it whole."""
    shape = re.compile(pattern, re.ASCII) if pattern else None

    def check(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(path)
        if len(value) > longest or (shape is not None and not shape.fullmatch(value)):
            raise Unfit
        return value

    return check


def boolean(value: Any, path: str) -> bool:
    """True or false, and no number in their place."""
    if not isinstance(value, bool):
        raise wrong_type(path)
    return value


def number(lowest: float, highest: float) -> Check:
    """A number in the closed range."""

    def check(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(path)
        if not lowest <= value <= highest:
            raise Unfit
        return value

    return check


def whole(lowest: int, highest: int) -> Check:
    """An integer in the closed range."""

    def check(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(path)
        if not lowest <= value <= highest:
            raise Unfit
        return value

    return check


def choice(*allowed: str) -> Check:
    """One of these strings."""

    def check(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(path)
        if value not in allowed:
            raise Unfit
        return value

    return check


def nullable(inner: Check) -> Check:
    """Null, or what the inner check takes."""

    def check(value: Any, path: str) -> Any:
        return None if value is None else inner(value, path)

    return check


def free_object(value: Any, path: str) -> dict[str, Any]:
    """Any object, unjudged inside: JSON Schemas."""
    if not isinstance(value, dict):
        raise wrong_type(path)
    return value


def record(members: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """An object of these members: others and unfit ones are left out; Unfit when a required one is missing then."""

    def check(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong_type(path)
        rebuilt: dict[str, Any] = {}
        for name, member in members.items():
            if name in value:
                try:
                    rebuilt[name] = member(value[name], f"{path}.{name}")
                except Unfit:
                    continue
        if any(name not in rebuilt for name in required):
            raise Unfit
        return rebuilt

    return check


def tagged(tag: str, variants: Mapping[str, Check]) -> Check:
    """An object whose member `tag` says which variant it is; Unfit when it names none."""

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path)
        name = value.get(tag)
        if name is None:
            raise Unfit
        if not isinstance(name, str):
            raise wrong_type(f"{path}.{tag}")
        if name not in variants:
            raise Unfit
        return variants[name](value, path)

    return check
