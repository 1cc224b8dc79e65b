"""The one table: every figure with its spread, its promise and what else the machine did, for terminal and docs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.rounds import Group, Noise, Slice

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
QUIET = Noise()
_HEAD = ("figure", "relay", "sessions", "median", "from", "to", "promise", "verdict", "other work, %")


@dataclass(frozen=True, slots=True)
class Promise:
    """What a median is held against."""

    limit: float
    at_most: bool = True

    def kept(self, value: float) -> bool:
        """Whether it is."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one relay, a value for each time it was measured; `sessions` 0 where they mean nothing."""

    figure: str
    relay: str
    sessions: int
    values: tuple[float, ...]
    noise: Noise = QUIET
    promise: Promise | None = None
    digits: int = 1

    @property
    def median(self) -> float:
        """What is judged."""
        return statistics.median(self.values)

    @property
    def kept(self) -> bool:
        """False only for a promise that is not."""
        return self.promise is None or self.promise.kept(self.median)

    def cells(self) -> tuple[str, ...]:
        """The row, for a reader."""
        verdict = "" if self.promise is None else "met" if self.kept else "MISSED"
        shown = [f"{each:.{self.digits}f}" for each in (self.median, min(self.values), max(self.values))]
        several = shown if len(self.values) > 1 else [shown[0], "", ""]
        noise = self.noise
        others = " / ".join(f"{100 * each:.0f}" for each in (noise.relay_core, noise.load_core, noise.stolen))
        sessions = str(self.sessions) if self.sessions else ""
        promise = "" if self.promise is None else str(self.promise)
        return (self.figure, self.relay, sessions, *several, promise, verdict, others if noise != QUIET else "")

    def document(self) -> dict[str, Any]:
        """The row, for a program."""
        return {
            "figure": self.figure,
            "relay": self.relay,
            "sessions": self.sessions,
            "median": self.median,
            "values": list(self.values),
            "promise": None if self.promise is None else str(self.promise),
            "kept": self.kept,
            "other_work": [self.noise.relay_core, self.noise.load_core, self.noise.stolen],
        }


def row_of(
    figure: str,
    group: Group,
    value: Callable[[Slice], float],
    promise: Promise | None = None,
    digits: int = 1,
    relay: str = "",
) -> Row:
    """A figure of a group's turns; `relay` where the group has another name."""
    values = tuple(value(each) for each in group.slices)
    return Row(figure, relay or group.name, len(group.calls), values, group.noise, promise, digits)


def ratios(figure: str, ours: Row, other: Row, promise: Promise | None = None, *, inverse: bool = False) -> Row:
    """Compare what two relays cost, turn by turn; `inverse` is how many times the other costs."""
    pairs = [(a, b) for a, b in zip(ours.values, other.values, strict=False) if a and b]
    values = tuple(b / a if inverse else a / b for a, b in pairs) or (0.0,)
    return Row(figure, ours.relay, ours.sessions, values, ours.noise, promise, 2)


def in_terminal(rows: Sequence[Row]) -> str:
    """Lay rows out in columns."""
    lines = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    # Words to the left, numbers to the right.
    pads = [str.ljust if at < 2 else str.rjust for at in range(len(_HEAD))]
    return "\n".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)).rstrip()
        for line in lines
    )


def in_markdown(rows: Sequence[Row], day: str, mode: str) -> str:
    """Lay rows out for the documentation, with the machine they were measured on."""
    machine = describe()
    named = f"{machine['cores']} cores, {machine['cpu']}, {machine['memory']}, {machine['system']}, {machine['python']}"
    lines = [f"{day}, {mode}: {named}; {machine['packages']}.", "", _line(_HEAD), _line("---" for _ in _HEAD)]
    return "\n".join([*lines, *(_line(row.cells()) for row in rows)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def put_into(page: Path, generated: str) -> None:
    """Replace what stands between the page's markers; raises ValueError when it has none."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} has no place for figures: {BEGIN} … {END}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}")
