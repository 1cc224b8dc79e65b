"""What a client tells of its own view of a session: a few figures, each within bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

_MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ClientStats:
    """A client's figures since its report before; None for what its browser does not know.

    Losses and `concealed` are shares, 0 to 1: `loss_in` of sound to the client, `loss_out` of its own as the relay
    reported it, `concealed` of the samples it played that it had to make up. `buffer_seconds` is the mean wait in its
    playback buffer.
    """

    rtt_seconds: float | None = None
    jitter_seconds: float | None = None
    buffer_seconds: float | None = None
    loss_in: float | None = None
    loss_out: float | None = None
    concealed: float | None = None


_NAMES = frozenset(each.name for each in fields(ClientStats))


def client_stats(told: Any) -> ClientStats | None:
    """The figures of a report, an object of numbers and nulls by the names above, clamped; None if it is not one."""
    if not isinstance(told, dict) or not told or not _NAMES.issuperset(told):
        return None
    figures: dict[str, float | None] = {}
    for name, value in told.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return None
        if isinstance(value, float) and not isfinite(value):
            return None
        most = _MOST_SECONDS if name.endswith("_seconds") else 1.0
        figures[name] = None if value is None else float(min(most, max(0, value)))
    return ClientStats(**figures)
