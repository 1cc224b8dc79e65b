"""The file of calls that are not hung up: what survives a crash, what it tolerates, that it stays small."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.kept_calls import FILE_NAME, KeptCall, KeptCalls

ROOT = Path(__file__).resolve().parents[2]


def call(number: int) -> KeptCall:
    return KeptCall(f"rtc_{number}", "https://one.example", 1000.5 + number)


def reopened(directory: Path) -> dict[str, KeptCall]:
    kept = KeptCalls(directory)
    found = dict(kept.calls)
    kept.close()
    return found


@pytest.fixture
def kept(tmp_path):
    kept = KeptCalls(tmp_path / "state")
    yield kept
    kept.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / FILE_NAME


def test_what_is_not_over_is_found_again(kept, tmp_path):
    for number in (1, 2, 3):
        kept.add(call(number))
    kept.remove("rtc_2")
    kept.close()
    assert reopened(tmp_path / "state") == {"rtc_1": call(1), "rtc_3": call(3)}


def test_every_change_is_in_the_file_when_it_was_made(kept, path):
    kept.add(call(1))
    line = {"call": "rtc_1", "service": "https://one.example", "at": 1001.5, "member": ""}
    assert json.loads(path.read_text()) == line
    kept.remove("rtc_1")
    assert json.loads(path.read_text().splitlines()[-1]) == {"over": "rtc_1"}


def test_only_the_owner_may_read_it(kept, path):
    kept.add(call(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_stays_small_whatever_number_of_calls_passes(kept, path):
    for number in range(5000):
        kept.add(call(number))
        kept.remove(f"rtc_{number - 20}")
    assert len(path.read_text().splitlines()) < 1000
    assert list(kept.calls) == [f"rtc_{number}" for number in range(4980, 5000)]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_that_a_crash_cut_off_is_no_fault(tmp_path, path, cut):
    kept = KeptCalls(tmp_path / "state")
    kept.add(call(1))
    kept.add(call(2))
    kept.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = KeptCalls(tmp_path / "state")
    assert list(again.calls) == ["rtc_1"]
    assert again.unreadable == 0
    again.add(call(3))
    again.close()
    assert list(reopened(tmp_path / "state")) == ["rtc_1", "rtc_3"]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[1]",
        b'{"call": 1, "service": "s", "at": 1}',
        b'{"call": "../../v1/other", "service": "s", "at": 1}',
        b'{"call": "rtc_1\\n", "service": "s", "at": 1}',
        b'{"call": "rtc_9", "service": "s"}',
        b'{"call": "rtc_9", "service": "s", "at": 1%s}' % (b"0" * 400),
        b'{"call": "rtc_9", "service": "s", "at": 1e999}',
        b'{"call": "rtc_9", "service": "s", "at": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_lines_that_make_no_sense_are_counted_and_the_others_kept(tmp_path, path, line):
    path.parent.mkdir()
    path.write_bytes(line + b'\n{"call":"rtc_5","service":"s","at":1}\n')
    kept = KeptCalls(path.parent)
    assert list(kept.calls) == ["rtc_5"]
    assert kept.unreadable == 1
    kept.close()


def test_a_directory_serves_one_relay_at_a_time(kept, tmp_path):
    script = "import sys, pathlib; from relay.kept_calls import KeptCalls; KeptCalls(pathlib.Path(sys.argv[1]))"
    second = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state")],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "another relay uses it" in second.stderr
    kept.close()
    third = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state")],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert third.returncode == 0, third.stderr


def test_a_place_that_cannot_be_used_is_a_reason_not_to_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state\.directory"):
        KeptCalls(tmp_path / "file" / "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).symlink_to(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"state\.directory"):
        KeptCalls(tmp_path / "state")


def test_after_a_failed_write_the_next_one_writes_everything(kept, path, monkeypatch):
    kept.add(call(1))
    real = os.write

    def half(file, data):
        real(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        kept.add(call(2))
    monkeypatch.undo()
    kept.remove("rtc_1")
    kept.close()
    assert list(reopened(path.parent)) == ["rtc_2"]


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = KeptCalls(None)
    kept.add(call(1))
    assert (list(kept.calls), kept.lasting) == (["rtc_1"], False)
    kept.close()
    assert list(tmp_path.iterdir()) == []
