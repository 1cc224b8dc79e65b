"""The decision log on a real disk: whole chains, files that turn over, disks that fill up, directories that vanish."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.decisions import RECORD, Listener, open_log

from relay import decision_log
from relay.audit import verify
from relay.core.decision_chain import Chain, Kind
from relay.decision_log import DecisionLog, DecisionLogPlace, _process
from relay.errors import ConfigError


def lines(directory: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(directory.iterdir()) for line in path.read_text().splitlines()]


async def test_a_life_is_one_chain_with_start_and_end(tmp_path):
    log, listener = open_log(tmp_path / "deep" / "log")
    for _ in range(3):
        log.write(RECORD)
    await log.close()
    written = lines(tmp_path / "deep" / "log")
    assert [line["kind"] for line in written] == ["start", "decision", "decision", "decision", "end"]
    assert written[0]["pid"] > 0
    assert written[0]["prev_hash"] == "0" * 64
    assert {"ts", "seq", "prev_hash", "session", "tenant", "subject_hash", "policy", "revision", "event_type", "rule",
            "verdict", "mode", "content_sha256"} <= set(written[1])  # fmt: skip
    (chain, records, head) = listener.heads[-1]
    assert (chain, records) == (written[0]["chain"], 5)
    report = verify(tmp_path / "deep" / "log", frozenset({head}))
    assert report.sound
    assert report.chains[0].covered == 5


def test_every_member_of_a_line_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "decision-log.md").read_text()
    first_cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    documented = {word for cell in first_cells for word in re.findall(r"`(\w+)`", cell)}
    chain = Chain("c")
    lines = [
        json.loads(chain.line(Kind.START, "", _process())),
        json.loads(chain.line(Kind.DECISION, "", RECORD.fields())),
        json.loads(chain.line(Kind.LOST, "", {"records": 1})),
    ]
    assert documented == {name for line in lines for name in line}


async def test_two_processes_or_lives_share_a_directory(tmp_path):
    first, _ = open_log(tmp_path)
    second, _ = open_log(tmp_path)
    first.write(RECORD)
    second.write(RECORD)
    await first.close()
    await second.close()
    report = verify(tmp_path)
    assert report.sound
    assert [chain.records for chain in report.chains] == [3, 3]


async def test_files_turn_over_by_size_and_belong_to_their_owner_alone(tmp_path):
    log, listener = open_log(tmp_path, file_bytes=2_000)
    for count in range(1, 41):
        log.write(RECORD)
        await listener.written_at_least(count)
    await log.close()
    files = list(tmp_path.iterdir())
    assert len(files) > 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    report = verify(tmp_path, frozenset({listener.heads[-1][2]}))
    assert report.sound
    assert report.chains[0].records == 42


async def test_heads_are_told_now_and_then(tmp_path):
    log, listener = open_log(tmp_path, head_seconds=0)
    log.write(RECORD)
    await listener.until(lambda: len(listener.heads) >= 1)
    log.write(RECORD)
    await listener.until(lambda: len(listener.heads) >= 2)
    await log.close()
    heads = frozenset(head for _, _, head in listener.heads)
    assert len(heads) == len(listener.heads)
    assert verify(tmp_path, heads).missing_heads == ()


async def test_a_directory_that_vanishes_fails_the_log_and_its_return_heals_it(tmp_path):
    place = tmp_path / "log"
    log, listener = open_log(place)
    log.write(RECORD)
    await listener.written_at_least(1)
    shutil.rmtree(place)
    log.write(RECORD)
    await listener.until(lambda: listener.failures)
    assert log.failing
    assert listener.began_failing == 1
    place.mkdir()
    await listener.until(lambda: listener.recoveries)
    assert not log.failing
    await log.close()
    # What was deleted is missing, what was kept waiting is there.
    assert [line["kind"] for line in lines(place)] == ["decision", "end"]
    assert any("missing: file 000001" in problem for problem in verify(place).chains[0].problems)


async def test_a_full_disk_leaves_no_half_line_and_nothing_is_lost(tmp_path):
    log, listener = open_log(tmp_path)
    for _ in range(3):
        log.write(RECORD)
    await listener.written_at_least(3)
    size = next(tmp_path.iterdir()).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # To this process a file that may not grow looks like a disk that is full: part of the write is taken, then none.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        for _ in range(3):
            log.write(RECORD)
        await listener.until(lambda: listener.failures)
        assert next(tmp_path.iterdir()).stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await listener.until(lambda: listener.recoveries)
    await log.close()
    report = verify(tmp_path, frozenset({listener.heads[-1][2]}))
    assert report.sound
    assert report.chains[0].records == 8


async def test_a_failed_sync_is_healed_and_what_it_left_in_doubt_is_written_again(tmp_path, monkeypatch):
    log, listener = open_log(tmp_path, sync_seconds=0)
    sync, failures = os.fsync, [OSError(5, "Input/output error")]

    def fail_once(file: int) -> None:
        if failures:
            raise failures.pop()
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_once)
    log.write(RECORD)
    await listener.until(lambda: listener.failures)
    # Nobody writes any more: a relay that fails closed admits nobody. It must heal by itself.
    await listener.until(lambda: listener.recoveries)
    assert not log.failing
    assert listener.written >= 1
    await log.close()
    report = verify(tmp_path, frozenset({listener.heads[-1][2]}))
    assert report.sound
    assert (report.chains[0].records, report.chains[0].files) == (3, 2)


async def test_a_record_that_has_no_form_is_lost_alone_and_the_chain_says_so(tmp_path):
    log, listener = open_log(tmp_path)
    log.write(replace(RECORD, at=1e18))
    log.write(RECORD)
    await listener.until(lambda: listener.written >= 2)
    assert listener.failures[0][1].startswith("a record has no form")
    await log.close()
    report = verify(tmp_path)
    assert report.sound
    assert report.chains[0].lost == 1
    assert sum(line["kind"] == "decision" for line in lines(tmp_path)) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_log_whose_writer_died_fails(tmp_path, monkeypatch):
    log, listener = open_log(tmp_path)

    def broken(**_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(log._writer, "flush", broken)
    log.write(RECORD)
    await listener.until(lambda: listener.failures)
    await asyncio.to_thread(log._thread.join)
    assert log.failing
    assert listener.began_failing == 1


async def test_records_above_the_bound_are_lost_and_the_chain_says_so(tmp_path):
    log, listener = open_log(tmp_path, most_queued=10)
    for _ in range(50):  # without giving the loop, let alone the thread, much time
        log.write(RECORD)
    lost = len(listener.failures)
    await log.close()
    report = verify(tmp_path)
    assert report.sound
    assert report.chains[0].lost == lost
    assert sum(line["kind"] == "decision" for line in lines(tmp_path)) == 50 - lost


async def test_a_log_that_cannot_be_written_ends_all_the_same(tmp_path):
    log, listener = open_log(tmp_path / "log")
    shutil.rmtree(tmp_path / "log")
    log.write(RECORD)
    async with asyncio.timeout(10):
        await log.close()
    assert listener.failures


async def test_a_directory_that_cannot_be_made_is_a_fault_of_the_settings(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"decision_log\.directory"):
        DecisionLog(DecisionLogPlace(tmp_path / "file" / "log"), Listener())


def refuse_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)


def refuse_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [100]

    def fill_up(file: int, data: bytes) -> int:
        # As a full disk does: part of it is taken, then nothing.
        if not room:
            room.append(100)
            raise OSError(28, "No space left on device")
        return write(file, data[: room.pop()])

    monkeypatch.setattr(os, "write", fill_up)


@pytest.mark.parametrize("place", [{}, {"sync_seconds": 60, "head_seconds": 0, "file_bytes": 2_000}])
async def test_the_bound_holds_while_writes_work_and_syncs_fail(tmp_path, monkeypatch, place):
    monkeypatch.setattr(decision_log, "_RETRY_SECONDS", 0.01)
    log, listener = open_log(tmp_path, most_queued=30, **place)
    log.write(RECORD)
    await listener.written_at_least(1)
    written = 1
    with monkeypatch.context() as patch:
        refuse_syncs(patch)
        async with asyncio.timeout(5):
            while not any(reason == "overflow" for reason, _ in listener.failures):
                log.write(RECORD)
                written += 1
                await asyncio.sleep(0.005)
        assert log.queue_depth == 30
        assert not listener.recoveries
    await listener.until(lambda: listener.recoveries)
    await log.close()
    report = verify(tmp_path, frozenset({listener.heads[-1][2]}))
    assert report.sound
    assert report.chains[0].lost == sum(reason == "overflow" for reason, _ in listener.failures)
    assert sum(line["kind"] == "decision" for line in lines(tmp_path)) == written - report.chains[0].lost


@pytest.mark.parametrize("refuse", [refuse_writes, refuse_syncs])
async def test_a_disk_that_fails_for_long_is_not_littered_with_files(tmp_path, monkeypatch, refuse):
    monkeypatch.setattr(decision_log, "_RETRY_SECONDS", 0.01)
    log, listener = open_log(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch)
        log.write(RECORD)
        await listener.until(lambda: len(listener.failures) >= 10)
        assert len(list(tmp_path.iterdir())) <= 2
    await listener.until(lambda: listener.recoveries)
    await log.close()
    report = verify(tmp_path, frozenset({listener.heads[-1][2]}))
    assert report.sound
    assert (report.chains[0].records, report.chains[0].files) == (3, 2)


async def test_a_start_on_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    refuse_writes(monkeypatch)
    with pytest.raises(ConfigError, match=r"decision_log\.directory"):
        DecisionLog(DecisionLogPlace(tmp_path), Listener())
    assert not list(tmp_path.iterdir())
