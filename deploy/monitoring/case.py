"""One situation and the alerts it must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.monitoring.rules import Severity


@dataclass(frozen=True, slots=True)
class Case:
    """Series in promtool's notation, a value each minute, from one relay (labelled as by a scrape).

    At `pending_at` the alert waits (`for`); at `firing_at` it and those in `also` (pairs of name and severity) fire,
    none else. `healthy` are series that must fire nothing at `firing_at`: the nearest situation that is no fault.
    Rules are evaluated `every` so often: what takes hours is looked at less often than as shipped.
    """

    alert: str
    severity: Severity
    series: Mapping[str, str]
    healthy: Mapping[str, str]
    firing_at: str
    pending_at: str = ""
    also: frozenset[tuple[str, str]] = frozenset()
    every: str = "30s"
