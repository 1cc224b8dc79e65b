"""The benchmarks run and their figures can be read. How good the figures are is not judged here."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_packets_flow_and_every_figure_is_there(tmp_path):
    target = tmp_path / "figures.json"
    sizes = ("--sessions", "2", "--seconds", "1", "--stock-sessions", "0")
    code, out, err = await run("benchmarks.forwarding", *sizes, "--json", str(target))
    # 1 is a missed target: what a shared machine gives is no fault of the code.
    assert code in {0, 1}, err
    document = json.loads(target.read_text())
    direct, relay = document["runs"]
    assert (direct["name"], relay["name"]) == ("direct", "relay")
    for figures in (direct, relay):
        assert figures["packets_sent"] > 0
        assert figures["packets_arrived"] > 0
        assert figures["latency_by"] == "stamp"
        assert figures["latency_samples"] > 0
        assert 0 < figures["to_service_ms_p50"] <= figures["to_service_ms_p95"] <= figures["to_service_ms_p99"]
        assert 0 < figures["to_client_ms_p50"] <= figures["to_client_ms_p95"] <= figures["to_client_ms_p99"]
    assert relay["threads"] >= 1
    assert relay["setup_ms_p50"] > 0
    assert [each["limit"] for each in document["targets"]] == [2.0]
    assert document["machine"]["cpu"] in out
    assert "relay" in out


async def test_sizes_that_make_no_sense_are_refused():
    code, out, err = await run("benchmarks.forwarding", "--sessions", "0")
    assert code == 2
    assert "sessions must be 1 or more" in err
    assert not out


async def test_judging_events_is_timed():
    code, out, err = await run("benchmarks.events", "--rounds", "1")
    assert code == 0, err
    figures = [float(line.split()[-2]) for line in out.splitlines() if line.endswith(" us")]
    assert len(figures) == 2
    assert min(figures) > 0


@pytest.mark.parametrize("direction", [(), ("--upward", "--delayed")])
async def test_forwarding_events_is_timed(direction):
    code, out, err = await run("benchmarks.event_path", "--sessions", "2", "--seconds", "1", *direction)
    assert code == 0, err
    figures = [float(line.split()[-2]) for line in out.splitlines() if line.endswith(" us")]
    assert len(figures) == 2
    assert 0 < figures[1] <= figures[0]
