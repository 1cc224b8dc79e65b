"""How large a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of every section. `go` is the program of the relay in Go, if it is to be measured too.

    Each relay talks `rounds` times for `seconds`; where one is measured alone it is started `visits` times. `sessions`
    is for CPU and memory, `few` for latency, `stock` are the sessions of the stock way. `clicks` calls are opened one
    by one, `opened` for CPU, `rate` a second beside `sessions`. `waits` is the share of the usual time that is left for
    things to come to rest.
    """

    go: str = ""
    sessions: int = 100
    few: int = 40
    stock: tuple[int, ...] = (1, 2, 3)
    rounds: int = 5
    visits: int = 3
    seconds: float = 4.0
    clicks: int = 15
    opened: int = 50
    rate: float = 20.0
    waits: float = 1.0


FULL = Plan()
QUICK = Plan(sessions=50, few=25, stock=(2,), rounds=3, visits=2, seconds=1.5, clicks=5, opened=10)
