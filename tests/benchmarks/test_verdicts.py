"""What the benchmarks conclude from figures: rows, ratios, promises, growth, and the page they are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.growth import Sample, growths
from benchmarks.rounds import CallSlice, Noise, Slice, percentile
from benchmarks.table import BEGIN, END, Promise, Row, in_markdown, in_terminal, put_into, ratios

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def sample(at, **more):
    figures = {"rss_kb": 90_000, "descriptors": 60, "threads": 2, "tasks": 100, "objects": 9_000, **more}
    return Sample(at=at, opened=1, failed=0, living={}, loop_lag_ms=0.0, lost_percent=0.0, p99_ms=1.0, **figures)


def test_a_row_is_judged_by_its_median():
    row = Row("CPU", "ours", 100, (40.0, 90.0, 50.0), promise=Promise(50.0))
    assert row.kept
    assert row.cells()[3:8] == ("50.0", "40.0", "90.0", "≤ 50", "met")
    assert not Row("CPU", "ours", 100, (51.0,), promise=Promise(50.0)).kept
    assert not Row("ratio", "ours", 100, (39.0,), promise=Promise(40.0, at_most=False)).kept


def test_relays_are_compared_turn_by_turn():
    ours, other = Row("CPU", "ours", 100, (10.0, 30.0)), Row("CPU", "Go relay", 100, (20.0, 40.0))
    assert ratios("of", ours, other).values == (0.5, 0.75)
    assert ratios("over", ours, other, inverse=True).values == (2.0, 40 / 30)


def test_a_slice_counts_what_every_process_took():
    call = CallSlice(arrived=99, talked=120, lost=3, to_service=range(1, 100), to_client=range(100))
    turn = Slice(1.0, [call, call], (0.001, 0.002), 3, 0.1, Noise())
    assert turn.arrived == 198
    assert turn.cpu_us_per_packet == pytest.approx(3_000 / 198)
    assert turn.loss == pytest.approx(6 / 240)


def test_a_percentile_is_one_of_the_values():
    assert percentile([], 50) == 0
    assert percentile([1, 2, 3, 4], 50) == 3
    assert percentile([1, 2, 3, 4], 99) == 4


@pytest.mark.parametrize(
    ("name", "each_time"), [("rss_kb", 300), ("descriptors", 1), ("threads", 1), ("tasks", 2), ("objects", 150)]
)
def test_steady_growth_is_found(name, each_time):
    level = {"rss_kb": 90_000, "descriptors": 60, "threads": 2, "tasks": 100, "objects": 9_000}[name]
    grown = growths([sample(at, **{name: level + at * each_time}) for at in range(40)])
    assert [each.name for each in grown if not each.kept] == [name]


def test_warm_up_and_a_bad_moment_are_no_growth():
    early = [sample(at, rss_kb=60_000 + at * 3_000) for at in range(10)]
    late = [sample(at, rss_kb=200_000 if at == 30 else 90_000 + at % 3 * 200) for at in range(10, 41)]
    assert all(each.kept for each in growths(early + late))


def test_too_few_samples_say_nothing():
    assert growths([sample(at) for at in range(3)]) == []


def test_figures_replace_those_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    rows = [Row("CPU", "ours", 100, (40.0, 50.0), Noise(0.1, 0.2, 0.3), Promise(50.0))]
    for _ in range(2):
        put_into(page, in_markdown(rows, "2026-11-22", "whole run"))
    before, _, rest = page.read_text().partition(BEGIN)
    figures, _, after = rest.partition(END)
    assert "| CPU | ours | 100 | 45.0 | 40.0 | 50.0 | ≤ 50 | met | 10 / 20 / 30 |" in figures
    assert figures.count("CPU") == 1
    whole = PAGE.read_text()
    assert whole.startswith(before)
    assert whole.endswith(after)
    assert "40.0" in in_terminal(rows)


def test_a_page_without_a_place_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="no place"):
        put_into(page, "figures")
