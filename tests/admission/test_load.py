"""What is measured of this process, and the CPU that a container leaves it."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from relay.load import available_cores, open_files, watch_load


@pytest.fixture
def fake_root(tmp_path):
    """A function that makes a root with the given cgroup line and `cpu.max` files, by group."""

    def make(own: str | None, **quotas: str):
        if own is not None:
            (tmp_path / "proc/self").mkdir(parents=True)
            (tmp_path / "proc/self/cgroup").write_text(own)
        for name, text in quotas.items():
            group = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").removeprefix("root").strip("/")
            group.mkdir(parents=True, exist_ok=True)
            (group / "cpu.max").write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("own", "quotas", "cores"),
    [
        ("0::/\n", {"root": "50000 100000\n"}, 0.5),
        ("0::/pod/box\n", {"pod__box": "max 100000\n", "pod": "25000 100000\n"}, 0.25),
        ("0::/pod/box\n", {"pod__box": "20000 100000\n", "pod": "90000 100000\n"}, 0.2),
        ("9:cpu:/\n0::/box\n", {"box": "10000 100000\n"}, 0.1),
        ("0::/../other\n", {"root": "75000 100000\n"}, 0.75),
        (None, {"root": "50000 100000\n"}, 0.5),
        ("0::/\n", {"root": "max 100000\n"}, None),
        ("0::/\n", {"root": "nonsense\n"}, None),
        ("0::/\n", {"root": "50000 0\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_the_quota_of_the_container_and_of_what_is_around_it_counts(fake_root, own, quotas, cores):
    assert available_cores(fake_root(own, **quotas)) == (cores or len(os.sched_getaffinity(0)))


def test_a_quota_above_the_cores_there_are_changes_nothing(fake_root):
    assert available_cores(fake_root("0::/\n", root="100000000 100000\n")) == len(os.sched_getaffinity(0))


def test_open_files_are_counted_and_unknown_where_the_system_does_not_tell(tmp_path):
    before = open_files()
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        assert open_files() == before + 2
    assert open_files(tmp_path) == 0


async def test_a_sample_shows_cpu_and_how_late_the_loop_was():
    got: asyncio.Queue = asyncio.Queue()
    began = time.monotonic()
    late: list[float] = []
    watching = asyncio.create_task(watch_load(got.put_nowait, late.append))
    await asyncio.sleep(0)
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    sample = await got.get()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    # 0.3 s of work, however long that took, which made one timer of ten at least 0.2 s late.
    assert sample.cpu * (time.monotonic() - began) >= 0.3
    assert sample.loop_lag_seconds > 0.015
    assert sample.loop_lag_seconds == pytest.approx(sum(late) / len(late))
    assert 0 < sample.open_files < sample.max_files
    assert sample.cores == available_cores()
