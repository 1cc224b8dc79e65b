"""What a dashboard is, as a value: rows of panels, each with one or a few expressions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deploy.monitoring.promql import Scope

HERE = Scope("$__rate_interval", 'instance=~"$instance"')
"""The relays chosen at the top of a dashboard, over Grafana's own choice of window."""


class Unit(StrEnum):
    """Grafana's words for units."""

    COUNT = "short"
    SHARE = "percentunit"
    SECONDS = "s"
    PER_SECOND = "ops"
    PACKETS = "pps"
    BYTES_PER_SECOND = "Bps"
    BYTES = "bytes"
    DOLLARS = "currencyUSD"
    YES_NO = "bool_yes_no"
    DATE = "dateTimeFromNow"


class Kind(StrEnum):
    """How a panel is drawn (Grafana's panel types)."""

    LINES = "timeseries"
    NUMBER = "stat"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` is a Grafana legend, `{{label}}` and text."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `about` is the tooltip: what it means and what is normal. `bounds`: yellow and red from there on."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    about: str = ""
    kind: Kind = Kind.LINES
    width: int = 8
    bounds: tuple[float, float] | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page; `uid` is its name in addresses and files."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    def panels(self) -> tuple[Panel, ...]:
        """List every panel, from top to bottom."""
        return tuple(panel for row in self.rows for panel in row.panels)


def lines(title: str, unit: Unit, *queries: Query, about: str = "", width: int = 8, stacked: bool = False) -> Panel:
    """Draw values over time."""
    return Panel(title, unit, queries, about, width=width, stacked=stacked)


def number(
    title: str,
    unit: Unit,
    expr: str,
    *,
    legend: str = "",
    about: str = "",
    bounds: tuple[float, float] | None = None,
    width: int = 4,
) -> Panel:
    """Show the last value, large; yellow and red from `bounds` on, the other way round if they fall."""
    return Panel(title, unit, (Query(expr, legend),), about, Kind.NUMBER, width, bounds)


def quantiles(
    histogram: str, *by: str, where: str = "", shares: tuple[float, ...] = (0.5, 0.95), label: str = ""
) -> list[Query]:
    """Ask for several quantiles of one histogram."""
    text = label + " ".join(f"{{{{{name}}}}}" for name in by)
    return [
        Query(HERE.quantile(share, histogram, *by, where=where), f"{text} p{share * 100:g}".strip()) for share in shares
    ]
