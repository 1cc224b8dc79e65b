"""What forwarding costs: added one-way latency, CPU per packet and memory, beside the stock aiortc way in the same run.

The relay has a core to itself, the load (clients and service) another. Exit code: 0 both targets are met, 1 one is
missed, 2 it could not be measured. docs/performance.md tells the method.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from benchmarks.load import Load, Run, percentile
from benchmarks.machine import Cores, describe
from benchmarks.processes import CLIENT_KEY, relay_command, relay_environment, relay_process
from benchmarks.service import Service

ADDED_P50_MS = 2.0
STOCK_CPU_RATIO = 20.0
_OTHERS = ("foreign_cpu_relay_core", "foreign_cpu_load_core", "stolen_cpu")
_MET, _MISSED, _FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and what was measured of it."""

    name: str
    measured: float
    limit: float
    met: bool


async def measure(sessions: int, stock_sessions: int, seconds: float) -> list[Run]:
    """Measure direct calls and the relay in turns; with `stock_sessions`, the relay and the stock way under that load.

    Raises ConnectionError or TimeoutError when a process or a call does not come about.
    """
    cores = Cores.choose()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    certificate = RTCCertificate.generateCertificate()
    try:
        async with Service(certificate).served() as service, aiohttp.ClientSession() as http:
            load = Load(service, certificate, cores, http)
            async with (
                relay_process(relay_command(), relay_environment(service.url), cores) as relay,
                load.calls("direct", service.url, "", sessions, None) as direct,
                load.calls("relay", relay.url, CLIENT_KEY, sessions, relay.pid) as relayed,
            ):
                await load.measure([direct, relayed], seconds)
            runs = [direct.run, relayed.run]
            if stock_sessions:
                async with (
                    relay_process(relay_command(), relay_environment(service.url), cores) as relay,
                    load.calls("relay, stock's load", relay.url, CLIENT_KEY, stock_sessions, relay.pid) as few,
                ):
                    await load.measure([few], seconds)
                async with (
                    relay_process(_stock_command(service.url), {}, cores) as stock,
                    load.calls("stock aiortc", stock.url, "", stock_sessions, stock.pid) as transcoded,
                ):
                    await load.measure([transcoded], seconds)
                runs += [few.run, transcoded.run]
            return runs
    finally:
        os.sched_setaffinity(0, usable)


def _stock_command(service_url: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.stock_relay", "--service", service_url]


# --- figures -------------------------------------------------------------------------------------------------------


def figures(run: Run, direct: Run) -> dict[str, Any]:
    """All figures of one run; added latency is its percentile less the direct run's.

    Of runs that took turns, the added median is that of the differences slice by slice: a slice in which the machine
    was taken away counts once, however many packets waited in it.
    """
    found: dict[str, Any] = {
        "name": run.name,
        "sessions": run.sessions,
        "seconds": round(run.seconds, 2),
        "packets_sent": run.sent,
        "packets_arrived": run.arrived,
        "latency_by": run.measured_by,
        "latency_samples": len(run.to_service_ms) + len(run.to_client_ms),
        "setup_ms_p50": round(statistics.median(run.setup_ms), 1),
        "cpu_us_per_packet": round(run.cpu_us_per_packet, 1),
        "cpu_percent": round(100 * run.cpu_seconds / run.seconds, 1),
        "rss_kb_per_session": round(run.rss_kb_per_session),
        "threads": run.threads,
        "foreign_cpu_relay_core_percent": round(100 * run.foreign_relay_core),
        "foreign_cpu_load_core_percent": round(100 * run.foreign_load_core),
        "stolen_cpu_percent": round(100 * run.stolen),
        "slice_medians_ms": [[round(each, 3) for each in pair] for pair in run.slice_medians_ms],
        "load_cpu_percent": round(100 * run.load_cpu),
    }
    for direction, times, base in (
        ("to_service", run.to_service_ms, direct.to_service_ms),
        ("to_client", run.to_client_ms, direct.to_client_ms),
    ):
        for percent in (50, 95, 99):
            here = percentile(times, percent)
            found[f"{direction}_ms_p{percent}"] = round(here, 3)
            found[f"{direction}_added_ms_p{percent}"] = round(here - percentile(base, percent), 3)
    if len(run.slice_medians_ms) == len(direct.slice_medians_ms):
        pairs = list(zip(run.slice_medians_ms, direct.slice_medians_ms, strict=True))
        for at, direction in enumerate(("to_service", "to_client")):
            added = statistics.median(here[at] - base[at] for here, base in pairs)
            found[f"{direction}_added_ms_p50"] = round(added, 3)
    return found


def targets(runs: list[dict[str, Any]]) -> list[Target]:
    """Judge the relay: its median against the limit in the worse direction, its CPU against stock if that ran."""
    by_name = {run["name"]: run for run in runs}
    relay, stock = by_name["relay"], by_name.get("stock aiortc")
    added = max(relay["to_service_added_ms_p50"], relay["to_client_added_ms_p50"])
    flowed = relay["packets_arrived"] > 0
    judged = [Target("added one-way latency, median, ms", added, ADDED_P50_MS, flowed and added <= ADDED_P50_MS)]
    if stock is not None:
        ratio = stock["cpu_us_per_packet"] / relay["cpu_us_per_packet"] if relay["cpu_us_per_packet"] else 0.0
        judged.append(Target("stock CPU per packet / ours", ratio, STOCK_CPU_RATIO, ratio >= STOCK_CPU_RATIO))
    return judged


def report(runs: list[dict[str, Any]], judged: list[Target]) -> str:
    """Lay the figures out for a reader."""
    lines = [f"{name:<10}{value}" for name, value in describe().items()]
    head = (
        f"{'':<21}{'sessions':>9}{'to service, ms':>27}{'to client, ms':>27}"
        f"{'CPU us/':>10}{'RSS kB/':>9}{'threads':>9}{'arrived':>9}{'setup':>8}{'other CPU %':>18}"
    )
    under = (
        f"{'':<30}{'p50/p95/p99':>27}{'p50/p95/p99':>27}"
        f"{'packet':>10}{'session':>9}{'':>9}{'%':>9}{'ms':>8}{'relay/load/stolen':>18}"
    )
    lines += ["", head, under]
    for run in runs:
        relayed = run["name"] != "direct"
        to_service, to_client = _triple(run, "to_service_ms"), _triple(run, "to_client_ms")
        arrived = 100 * run["packets_arrived"] / run["packets_sent"] if run["packets_sent"] else 0.0
        noise = "/".join(str(run[f"{whose}_percent"]) for whose in _OTHERS)
        lines.append(
            f"{run['name']:<21}{run['sessions']:>9}{to_service:>27}{to_client:>27}"
            f"{run['cpu_us_per_packet'] if relayed else '':>10}{run['rss_kb_per_session'] if relayed else '':>9}"
            f"{run['threads'] if relayed else '':>9}{arrived:>9.2f}{run['setup_ms_p50']:>8}{noise:>18}"
        )
        if relayed:
            to_service, to_client = _triple(run, "to_service_added_ms"), _triple(run, "to_client_added_ms")
            lines.append(f"{'  added to direct':<30}{to_service:>27}{to_client:>27}")
    lines.append("")
    for target in judged:
        verdict = "met" if target.met else "MISSED"
        lines.append(f"{target.name:<36}{target.measured:>9.2f}   target {target.limit:g}   {verdict}")
    by_name = {run["name"]: run["cpu_us_per_packet"] for run in runs}
    few, stock = by_name.get("relay, stock's load", 0.0), by_name.get("stock aiortc", 0.0)
    if few:
        lines.append(f"{'the same at equal load':<36}{stock / few:>9.2f}   not judged")
    return "\n".join(lines)


def _triple(run: dict[str, Any], name: str) -> str:
    return " / ".join(f"{run[f'{name}_p{percent}']:.2f}" for percent in (50, 95, 99))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forwarding", description="What forwarding costs, beside the stock aiortc way."
    )
    parser.add_argument("--sessions", type=int, default=20, help="sessions of the relay (20)")
    parser.add_argument("--stock-sessions", type=int, default=2, help="sessions of the stock way; 0 leaves it out (2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measured window (10)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--nice", type=int, default=0, help="niceness of relays and load; below 0 needs privilege (0)")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("needs Linux: CPU and memory are read from /proc", file=sys.stderr)
        return _FAILED
    if arguments.sessions < 1 or arguments.stock_sessions < 0 or arguments.seconds <= 0:
        parser.error("sessions must be 1 or more, stock sessions 0 or more, seconds above 0")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
        runs = asyncio.run(measure(arguments.sessions, arguments.stock_sessions, arguments.seconds))
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        print(f"could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        return _FAILED
    found = [figures(run, runs[0]) for run in runs]
    judged = targets(found)
    print(report(found, judged))
    if arguments.json is not None:
        document = {
            "machine": describe(),
            "runs": found,
            "targets": [
                {"name": each.name, "measured": each.measured, "limit": each.limit, "met": each.met} for each in judged
            ],
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return _MET if all(target.met for target in judged) else _MISSED


if __name__ == "__main__":
    sys.exit(main())
