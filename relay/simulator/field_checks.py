"""Small checks that add up to the shape of an object; each refuses as the service does, naming the field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

Check = Callable[[Any, str], None]
"""Takes a value and its path (`session.audio.output.voice`); raises FieldError when it does not fit."""


_WRONG_TYPE = "invalid_type"


class FieldError(Exception):
    """One field that does not fit. `code`, `message` and `param` go to the client as they are."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def unknown(path: str) -> FieldError:
    """Refuse a field that does not exist."""
    return FieldError("unknown_parameter", f"Unknown parameter: '{path}'.", path)


def missing(path: str) -> FieldError:
    """Refuse the absence of a field."""
    return FieldError("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


def invalid(path: str, why: str) -> FieldError:
    """Refuse a value; `why` is a sentence."""
    return FieldError("invalid_value", f"Invalid value for '{path}': {why}", path)


def wrong_type(path: str, expected: str) -> FieldError:
    """Refuse a value of another JSON type."""
    return FieldError(_WRONG_TYPE, f"Invalid type for '{path}': expected {expected}.", path)


def text(longest: int | None = None) -> Check:
    """Take a string of at most `longest` characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(path, "a string")
        if longest is not None and len(value) > longest:
            raise FieldError("string_above_max_length", f"Invalid '{path}': string too long.", path)

    return check


def boolean(value: Any, path: str) -> None:
    """Take true or false."""
    if not isinstance(value, bool):
        raise wrong_type(path, "a boolean")


def anything(_value: Any, _path: str) -> None:
    """Take any value."""
    return


def number(lowest: float, highest: float) -> Check:
    """Take a number within the bounds, both included."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(path, "a number")
        if not lowest <= value <= highest:
            raise invalid(path, f"expected a value from {lowest:g} to {highest:g}.")

    return check


def whole(lowest: int, highest: int) -> Check:
    """Take an integer within the bounds, both included."""
    within = number(lowest, highest)

    def check(value: Any, path: str) -> None:
        within(value, path)
        if not isinstance(value, int):
            raise wrong_type(path, "an integer")

    return check


def choice(*allowed: str) -> Check:
    """Take one of these strings."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(path, "a string")
        if value not in allowed:
            listed = ", ".join(f"'{name}'" for name in allowed)
            raise FieldError("invalid_value", f"Invalid value: '{value}'. Supported values are: {listed}.", path)

    return check


def nullable(inner: Check) -> Check:
    """Take null too."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def either(*checks: Check) -> Check:
    """Take what fits one of the checks; else complain as the check did that got furthest."""

    def check(value: Any, path: str) -> None:
        complaints = []
        for one in checks:
            try:
                one(value, path)
            except FieldError as error:
                complaints.append(error)
            else:
                return
        raise next((error for error in complaints if error.code != _WRONG_TYPE), complaints[-1])

    return check


def list_of(inner: Check, longest: int = 1000) -> Check:
    """Take an array of at most `longest` fitting entries."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(path, "an array")
        if len(value) > longest:
            raise FieldError("array_above_max_length", f"Invalid '{path}': array too long.", path)
        for index, entry in enumerate(value):
            inner(entry, f"{path}[{index}]")

    return check


def mapping(inner: Check, longest: int = 100) -> Check:
    """Take an object with free keys, such as `metadata`."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object")
        if len(value) > longest:
            raise FieldError("object_above_max_properties", f"Invalid '{path}': too many properties.", path)
        for name, entry in value.items():
            inner(entry, f"{path}.{name}")

    return check


def record(members: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """Take an object with these members and no others."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object")
        for name in value:
            if name not in members:
                raise unknown(_join(path, name))
        for name in required:
            if name not in value:
                raise missing(_join(path, name))
        for name, entry in value.items():
            members[name](entry, _join(path, name))

    return check


def tagged(tag: str, variants: Mapping[str, Check]) -> Check:
    """Take an object whose member `tag` says which shape it has."""
    known = choice(*variants)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object")
        if tag not in value:
            raise missing(_join(path, tag))
        known(value[tag], _join(path, tag))
        variants[value[tag]](value, path)

    return check


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
