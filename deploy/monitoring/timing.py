"""How far alerts look back, how long they wait, how much must have happened: as shipped, or shortened for a test."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Timing:
    """Rules are written in shipped durations (`"10m"`) and counts; this says what becomes of them.

    Windows and waits are divided by `faster` and bounded below; counts are at most `most_needed`.
    """

    faster: float = 1.0
    shortest_window: int = 1
    longest_window: int = 30 * 86400
    shortest_wait: int = 0
    longest_wait: int = 30 * 86400
    most_needed: int = 1_000_000
    evaluated_every: str = "30s"

    def window(self, shipped: str) -> str:
        """How far an expression looks back."""
        return _written(min(self.longest_window, max(self.shortest_window, round(seconds(shipped) / self.faster))))

    def wait(self, shipped: str) -> str:
        """How long a condition must hold (`for`)."""
        return _written(min(self.longest_wait, max(self.shortest_wait, round(seconds(shipped) / self.faster))))

    def needed(self, shipped: int) -> int:
        """How many there must have been before a share means something."""
        return min(shipped, self.most_needed)


AS_SHIPPED = Timing()


def seconds(duration: str) -> int:
    """Read `"90s"`, `"10m"`, `"6h"`, `"3d"`; raises KeyError or ValueError for anything else."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def _written(duration: int) -> str:
    for unit in ("d", "h", "m"):
        if duration and duration % _UNITS[unit] == 0:
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration}s"
