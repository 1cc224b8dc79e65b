"""A bound on log lines whose number strangers decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINES_PER_SECOND = 20
# Lines of one report, such as a policy's problems.
MOST_LINES = 20


class LineBudget:
    """At most LINES_PER_SECOND lines in any second; says how many were left out before one that is written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._written = 0
        self._left_out = 0

    def spend(self) -> dict[str, int] | None:
        """Return the fields to add to the line, None if it must not be written."""
        if (second := int(self._clock())) != self._second:
            self._second, self._written = second, 0
        if self._written >= LINES_PER_SECOND:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return {"lines_left_out": left_out} if left_out else {}
