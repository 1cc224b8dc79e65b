"""The project's benchmark: `python -m benchmarks`. Every section adds rows to one table. See docs/performance.md."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import churn, early, forwarding, workers
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.stage import Exit, Stage, common_options, keep, machine_lines, need_linux, run, stage
from benchmarks.table import Row, in_markdown, in_terminal, put_into

_PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_SECTIONS: dict[str, Callable[[Stage, Plan], Awaitable[list[Row]]]] = {
    "forwarding": forwarding.rows,
    "clicks": churn.click_rows,
    "early": early.rows,
    "churn": churn.rows,
    "workers": workers.rows,
}


async def measure(plan: Plan, sections: list[str], found: list[Row]) -> None:
    """Run sections one after the other, each in front of a fresh service, and add what was found as it is found.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    for name in sections:
        began = time.monotonic()
        async with stage() as everything:
            found += await _SECTIONS[name](everything, plan)
        print(f"{name} took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What the relay costs, beside the stock aiortc way and one in Go."
    )
    parser.add_argument("--quick", action="store_true", help="half the sessions, fewer and shorter turns")
    parser.add_argument("--only", default=",".join(_SECTIONS), help=f"sections, of {', '.join(_SECTIONS)}")
    parser.add_argument("--go", default="", help="program of the Go relay, measured beside ours if given")
    parser.add_argument(
        "--sessions", type=int, help=f"sessions of ours and Go's ({FULL.sessions}; {FULL.few} for latency)"
    )
    parser.add_argument("--stock", type=int, help="sessions of the stock way")
    parser.add_argument("--seconds", type=float, help="length of each turn")
    parser.add_argument("--rounds", type=int, help="turns of each relay")
    parser.add_argument("--opened", type=int, help="calls opened and closed for their CPU, and clicks")
    parser.add_argument("--rate", type=float, help="calls opened a second beside those that talk")
    parser.add_argument("--waits", type=float, help="waiting between measurements, as a share of the usual (1)")
    parser.add_argument("--update", action="store_true", help="write the table to docs/performance.md")
    common_options(parser)
    arguments = parser.parse_args()
    plan = _plan(parser, arguments)
    need_linux()
    sections = [name for name in arguments.only.split(",") if name]
    if unknown := set(sections) - set(_SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if arguments.update and set(sections) != set(_SECTIONS):
        parser.error("only a run of all sections is written to the page")
    print("\n".join(machine_lines()), flush=True)
    rows: list[Row] = []
    try:
        run(measure(plan, sections, rows), arguments.nice)
    finally:
        if rows:
            print(f"\n{in_terminal(rows)}")
    keep(arguments.json, {"rows": [row.document() for row in rows]})
    if arguments.update:
        mode = "quick mode" if arguments.quick else "whole run"
        put_into(_PAGE, in_markdown(rows, dt.datetime.now(dt.UTC).date().isoformat(), mode))
    return Exit.MET if all(row.kept for row in rows) else Exit.MISSED


def _plan(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Plan:
    plan = QUICK if arguments.quick else FULL
    sizes = [
        *(arguments.sessions, arguments.stock, arguments.seconds, arguments.rounds, arguments.opened),
        *(arguments.rate, arguments.waits),
    ]
    if any(size is not None and size <= 0 for size in sizes):
        parser.error("every size must be above 0")
    if arguments.go:
        if shutil.which(arguments.go) is None:
            parser.error(f"not a program: {arguments.go}")
        plan = replace(plan, go=os.path.realpath(arguments.go))
    if arguments.sessions:
        plan = replace(plan, sessions=arguments.sessions, few=min(plan.few, arguments.sessions))
    if arguments.stock:
        plan = replace(plan, stock=(arguments.stock,))
    if arguments.opened:
        plan = replace(plan, clicks=arguments.opened, opened=arguments.opened)
    if arguments.rounds:
        plan = replace(plan, visits=arguments.rounds)
    given = {
        name: getattr(arguments, name) for name in ("seconds", "rounds", "rate", "waits") if getattr(arguments, name)
    }
    return replace(plan, **given)


if __name__ == "__main__":
    sys.exit(main())
