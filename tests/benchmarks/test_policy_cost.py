"""The cost of a policy is measured; how good the figures are is not judged here."""

from __future__ import annotations

from benchmarks.policy import loads, measure


def test_v265_judging_is_measured_for_every_kind_of_event() -> None:
    names = []
    for load in loads():
        cost = measure(load, 100)
        assert 0 < cost.best <= cost.median <= cost.p99
        assert 0 < cost.cpu_median <= cost.cpu_p99
        names.append(load.name)
    assert len(names) == len(set(names))
    assert any("16 kB" in name for name in names)
