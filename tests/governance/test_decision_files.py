"""The files of a chain, step by step: what a crash between any two calls to the system would leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.audit import verify
from relay.core.decision_chain import Chain, Kind
from relay.decision_files import ChainFiles

CALLS = ("open", "write", "fsync", "ftruncate", "unlink", "close")


class Disk:
    """Stands between the files and the system: fails the calls named, and looks after every call at what is there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: set[str] = set()
        self.synced = b""
        self.handed_over = b""
        self.gone = 0
        self._directory = directory
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def content(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self._directory.iterdir()))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            try:
                if name in self.failing:
                    if name == "write" and len(args[1]) > 50:
                        return call(args[0], args[1][:50])
                    raise OSError(5, "Input/output error")
                return call(*args, **more)
            finally:
                self._look()

        return watched

    def _look(self) -> None:
        content = self.content()
        assert content.startswith(self.synced)
        whole = content[: content.rfind(b"\n") + 1]
        self.gone += not whole.startswith(self.handed_over)
        report = verify(self._directory)
        for chain in report.chains if content else ():
            # What a crash in the middle of a write leaves is half a line at the very end; nothing else may be wrong.
            assert all("truncated: " in problem for problem in chain.problems)


class Log:
    """A chain and its files, with what was promised of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk = Disk(directory, monkeypatch)
        self._chain = Chain("c")
        self._files = ChainFiles(directory, 1_000, "c")
        self._pending: list[bytes] = []

    def add(self) -> None:
        kind = Kind.DECISION if self._chain.length else Kind.START
        self._pending.append(self._chain.line(kind, "2026-01-01T00:00:00.000Z", {}))

    def write(self) -> None:
        self._files.write(self._pending)
        self.disk.handed_over += b"".join(self._pending)
        self._pending = []

    def sync(self) -> None:
        self._files.sync()
        self.disk.synced = self.disk.handed_over

    def close(self) -> None:
        self._files.close()
        self.disk.synced = self.disk.handed_over


def fails(call: Callable[[], None]) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        call()


def numbers(directory: Path) -> list[int]:
    return [int(path.stem.rpartition("-")[2]) for path in sorted(directory.iterdir())]


@pytest.fixture
def log(tmp_path, monkeypatch):
    return Log(tmp_path, monkeypatch)


def heal(log: Log, directory: Path, records: int) -> None:
    log.disk.failing.clear()
    log.write()
    log.sync()
    log.add()
    log.write()
    log.close()
    report = verify(directory)
    assert report.sound
    assert report.chains[0].records == records + 1
    assert log.disk.content() == log.disk.synced


@pytest.mark.parametrize("synced", [True, False])
def test_a_full_disk_uses_one_number_again_and_again(tmp_path, log, synced):
    log.add()
    log.write()
    if synced:
        log.sync()
    log.add()
    log.disk.failing = {"write"}
    for _ in range(5):
        fails(log.write)
        assert numbers(tmp_path) == [1]
    heal(log, tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]
    assert not log.disk.gone


def test_failed_syncs_use_one_number_again_and_again(tmp_path, log):
    log.add()
    log.write()
    log.sync()
    log.disk.failing = {"fsync"}
    log.add()
    for _ in range(5):
        log.write()
        fails(log.sync)
        # A relay killed here, long before the next try, must not lose what the system was given.
        assert log.disk.content() == log.disk.handed_over
    heal(log, tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]


def test_a_file_that_holds_records_keeps_its_number(tmp_path, log):
    for _ in range(3):
        log.add()
        log.write()
        log.sync()
        log.add()
        log.disk.failing = {"write"}
        fails(log.write)
        log.disk.failing.clear()
    heal(log, tmp_path, 6)
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_a_first_file_without_a_record_is_removed(tmp_path, log):
    log.add()
    log.disk.failing = {"write"}
    fails(log.write)
    assert numbers(tmp_path) == []
    heal(log, tmp_path, 1)
    assert numbers(tmp_path) == [1]


def test_a_file_that_cannot_be_removed_keeps_its_number(tmp_path, log):
    log.add()
    log.disk.failing = {"write", "unlink"}
    fails(log.write)
    fails(log.write)
    heal(log, tmp_path, 1)
    assert numbers(tmp_path) == [1, 2, 3]


def test_an_empty_file_that_somebody_removed_leaves_no_gap(tmp_path, log):
    log.add()
    log.write()
    log.disk.failing = {"fsync"}
    fails(log.sync)
    log.disk.handed_over = b""
    next(tmp_path.iterdir()).unlink()
    log.disk.failing.clear()
    log.write()
    log.close()
    assert numbers(tmp_path) == [1]
    assert verify(tmp_path).sound


def test_a_file_that_cannot_be_shortened_is_not_written_to_again(tmp_path, log):
    log.add()
    log.write()
    log.add()
    log.disk.failing = {"write", "ftruncate"}
    fails(log.write)
    log.disk.failing.clear()
    assert numbers(tmp_path) == [1]
    half = next(tmp_path.iterdir()).read_bytes()
    log.disk._look = lambda: None  # half a line in the middle stays for good
    log.write()
    log.close()
    assert numbers(tmp_path) == [1, 2]
    assert min(tmp_path.iterdir()).read_bytes() == half


def test_a_failed_sync_and_then_a_full_disk(tmp_path, log):
    log.add()
    log.write()
    log.sync()
    log.add()
    log.write()
    log.add()
    log.disk.failing = {"fsync", "write"}
    fails(log.write)
    log.disk.failing = {"write"}
    fails(log.write)
    log.disk.failing = {"fsync"}
    log.write()
    fails(log.sync)
    heal(log, tmp_path, 3)
    assert numbers(tmp_path) == [1, 2]
