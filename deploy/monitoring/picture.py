"""A dashboard's panels as one page of HTML, drawn from a Prometheus's own answers: a look without Grafana.

`python -m deploy.monitoring.picture --prometheus http://127.0.0.1:9090 --minutes 60 relay-overview > overview.html`
"""

from __future__ import annotations

import argparse
import asyncio
import html
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.panels import Dashboard, Kind, Panel, Query, Unit

_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
_POINTS = 240
_MOST_LINES = 8
_WIDTH, _HEIGHT = 400, 120
_TEN, _THOUSAND, _MILLION = 10, 1000, 1_000_000
_STYLE = """
body{font:13px sans-serif;width:1240px;margin:12px;background:#fff}
h1{font-size:18px} h2{font-size:14px;margin:14px 0 4px}
section{display:grid;grid-template-columns:repeat(24,1fr);gap:8px}
div{border:1px solid #ddd;padding:6px;overflow:hidden}
h3{font-size:12px;margin:0 0 4px} b{font-size:24px} p{margin:2px 0;font-size:11px;line-height:1.25}
svg{width:100%;height:120px} path{fill:none;stroke-width:1.5;vector-effect:non-scaling-stroke}
"""


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in Unix seconds; `window` stands for Grafana's $__rate_interval."""

    start: float
    end: float
    window: str = "1m"

    @property
    def step(self) -> float:
        """Seconds between two points."""
        return max(1.0, (self.end - self.start) / _POINTS)


@dataclass(frozen=True, slots=True)
class Line:
    """One series as Prometheus answered; times in Unix seconds."""

    legend: str
    points: tuple[tuple[float, float], ...]


async def page(http: aiohttp.ClientSession, prometheus: str, dashboard: Dashboard, span: Span) -> str:
    """Draw one dashboard. Raises aiohttp.ClientError when Prometheus does not answer."""
    parts = [f"<!doctype html><meta charset=utf-8><title>{dashboard.title}</title><style>{_STYLE}</style>"]
    parts.append(f"<h1>{html.escape(dashboard.title)}</h1>")
    for row in dashboard.rows:
        parts.append(f"<h2>{html.escape(row.title)}</h2><section>")
        for panel in row.panels:
            answers = await asyncio.gather(*(_lines(http, prometheus, query, span) for query in panel.queries))
            parts.append(_panel(panel, [line for answer in answers for line in answer], span))
        parts.append("</section>")
    return "\n".join(parts) + "\n"


async def _lines(http: aiohttp.ClientSession, prometheus: str, query: Query, span: Span) -> list[Line]:
    expr = query.expr.replace("$__rate_interval", span.window).replace("$instance", ".*")
    asked = {"query": expr, "start": f"{span.start:.3f}", "end": f"{span.end:.3f}", "step": f"{span.step:.3f}"}
    async with http.get(f"{prometheus}/api/v1/query_range", params=asked) as response:
        answer = await response.json()
    found = answer["data"]["result"] if answer["status"] == "success" else []
    return [Line(_legend(query, series["metric"]), _points(series["values"])) for series in found]


def _legend(query: Query, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), query.legend) or "value"


def _points(values: list[Any]) -> tuple[tuple[float, float], ...]:
    return tuple((float(at), float(value)) for at, value in values if math.isfinite(float(value)))


def _panel(panel: Panel, lines: list[Line], span: Span) -> str:
    lines = sorted((line for line in lines if line.points), key=lambda line: -max(value for _, value in line.points))
    head = f'<div style="grid-column:span {panel.width}"><h3>{html.escape(panel.title)}</h3>'
    if not lines:
        return head + "<p>no data</p></div>"
    if panel.kind is Kind.NUMBER:
        return head + f"<b>{_written(lines[0].points[-1][1], panel.unit)}</b></div>"
    highest = max(value for line in lines for _, value in line.points)
    shown = list(zip(lines[:_MOST_LINES], _COLOURS, strict=False))
    drawn = "".join(_drawn(line, colour, highest, span) for line, colour in shown)
    legend = " ".join(
        f'<span style="color:{colour}">■ {html.escape(line.legend)} {_written(line.points[-1][1], panel.unit)}</span>'
        for line, colour in shown
    )
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    top = f"<p>max {_written(highest, panel.unit)}</p>"
    frame = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{drawn}</svg>'
    return f"{head}{top}{frame}<p>{legend}{more}</p></div>"


def _drawn(line: Line, colour: str, highest: float, span: Span) -> str:
    """Draw a line, broken where there was nothing."""
    moves, before = [], -math.inf
    for at, value in line.points:
        x = (at - span.start) / (span.end - span.start) * _WIDTH
        y = _HEIGHT - 2 - max(0.0, value) / (highest or 1.0) * (_HEIGHT - 6)
        moves.append(f"{'M' if at - before > 1.5 * span.step else 'L'}{x:.1f} {y:.1f}")
        before = at
    return f'<path d="{"".join(moves)}" stroke="{colour}"/>'


def _written(value: float, unit: Unit) -> str:
    plain = f"{value:.0f}" if value >= _TEN or value == int(value) else f"{value:.2g}"
    return _FORMS[unit](value) if unit in _FORMS else plain


def _bytes(value: float) -> str:
    return f"{value / _MILLION:.3g} MB" if value >= _MILLION else f"{value / _THOUSAND:.3g} kB"


_FORMS: dict[Unit, Callable[[float], str]] = {
    Unit.SHARE: lambda value: f"{value * 100:.3g} %",
    Unit.SECONDS: lambda value: f"{value * _THOUSAND:.3g} ms" if abs(value) < 1 else f"{value:.4g} s",
    Unit.BYTES: _bytes,
    Unit.BYTES_PER_SECOND: _bytes,
    Unit.YES_NO: lambda value: "yes" if value else "no",
    Unit.DATE: lambda value: time.strftime("%H:%M:%S", time.gmtime(value / _THOUSAND)),
    Unit.DOLLARS: lambda value: f"${value:.4f}",
}


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.monitoring.picture", description=__doc__.splitlines()[0])
    parser.add_argument("dashboard", choices=[each.uid for each in DASHBOARDS])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="base URL (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back (default: %(default)g)")
    arguments = parser.parse_args()
    wanted = next(each for each in DASHBOARDS if each.uid == arguments.dashboard)
    now = time.time()
    async with aiohttp.ClientSession() as http:
        text = await page(http, arguments.prometheus, wanted, Span(now - 60 * arguments.minutes, now))
    sys.stdout.write(text)


if __name__ == "__main__":
    asyncio.run(_main())
