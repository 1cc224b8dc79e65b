"""What the proof of a decision log finds in files that somebody touched, and what it says it cannot know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.decisions import RECORD

from relay.audit import verify
from relay.cli import main
from relay.core.decision_chain import Chain, Kind, line_hash

NAME = "20261120t101500z-0badcafe"
TIME = "2026-11-20T10:15:00.000Z"


def chain(decisions: int = 5, *, ended: bool = True) -> list[bytes]:
    written = Chain(NAME)
    lines = [written.line(Kind.START, TIME, {"host": "relay-0", "pid": 7, "relay": "1.0"})]
    lines += [written.line(Kind.DECISION, TIME, RECORD.fields()) for _ in range(decisions)]
    if ended:
        lines.append(written.line(Kind.END, TIME, {}))
    return lines


def put(directory: Path, *files: list[bytes], first: int = 1) -> Path:
    for number, lines in enumerate(files, start=first):
        (directory / f"decisions-{NAME}-{number:06d}.jsonl").write_bytes(b"".join(lines))
    return directory


def problems(directory: Path, *heads: str) -> list[str]:
    report = verify(directory, frozenset(heads))
    return [problem for each in report.chains for problem in each.problems]


def head_of(line: bytes) -> str:
    return line_hash(line.rstrip(b"\n"))


def test_a_whole_chain_over_two_files_is_sound_and_its_head_proves_all_of_it(tmp_path):
    lines = chain()
    report = verify(put(tmp_path, lines[:3], lines[3:]), frozenset({head_of(lines[-1])}))
    (found,) = report.chains
    assert report.sound
    assert (found.files, found.records, found.covered, found.ended) == (2, 7, 7, True)
    assert found.process == "relay-0 pid 7"
    assert len(report.unproved()) == 1  # a chain deleted as a whole leaves no trace


def test_a_directory_without_a_chain_proves_nothing(tmp_path, capsys):
    assert not verify(tmp_path).sound
    assert main(["audit", "verify", str(tmp_path)]) == 1
    assert "there is no chain at all" in capsys.readouterr().out


def test_a_head_proves_nothing_beyond_the_first_problem(tmp_path):
    lines = chain()
    head = head_of(lines[-1])
    lines[2] = lines[2].replace(b"strip", b"allow")
    report = verify(put(tmp_path, lines), frozenset({head}))
    assert report.missing_heads == ()
    assert report.chains[0].covered == 0
    assert any("no head was given that covers it" in what for what in report.unproved())


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("bogus", {"ts": TIME}, "of a kind that the relay does not write"),
        ("decision", {}, "says no time"),
        ("lost", {"ts": TIME, "records": -5}, "says not how many were lost"),
    ],
)
def test_a_well_linked_record_that_no_relay_writes_is_a_problem(tmp_path, kind, fields, words):
    lines = chain(2, ended=False)
    record = {"chain": NAME, "seq": 3, "prev_hash": head_of(lines[-1]), "kind": kind, **fields}
    (problem,) = problems(put(tmp_path, [*lines, json.dumps(record).encode() + b"\n"]))
    assert words in problem


@pytest.mark.parametrize("index", range(6))
def test_a_changed_record_breaks_the_link_after_it(tmp_path, index):
    lines = chain()
    lines[index] = lines[index].replace(b"2026-11-20T10", b"2026-11-20T11")
    (problem,) = problems(put(tmp_path, lines))
    assert f":{index + 2}: broken" in problem


def test_a_changed_last_record_shows_only_against_a_head(tmp_path):
    lines = chain()
    kept = head_of(lines[-1])
    lines[-1] = lines[-1].replace(b"2026-11-20T10", b"2026-11-20T11")
    put(tmp_path, lines)
    assert verify(tmp_path).sound
    report = verify(tmp_path, frozenset({kept}))
    assert not report.sound
    assert report.missing_heads == (kept,)


def test_a_record_taken_out_is_missing(tmp_path):
    lines = chain()
    del lines[3]
    (problem,) = problems(put(tmp_path, lines))
    assert "missing: 1 record(s)" in problem


def test_two_records_exchanged_are_found(tmp_path):
    lines = chain()
    lines[2], lines[3] = lines[3], lines[2]
    assert problems(put(tmp_path, lines))


def test_a_file_taken_out_of_the_middle_is_missing(tmp_path):
    lines = chain(8)
    put(tmp_path, lines[:3], lines[3:6], lines[6:])
    (tmp_path / f"decisions-{NAME}-000002.jsonl").unlink()
    found = problems(tmp_path)
    assert found[0] == "missing: file 000002"
    assert "missing: 3 record(s)" in found[1]


def test_the_first_file_taken_away_is_missing(tmp_path):
    found = problems(put(tmp_path, chain()[3:], first=2))
    assert "missing: file 000001" in found
    assert any("missing: 3 record(s)" in problem for problem in found)


def test_a_line_cut_off_is_truncated(tmp_path):
    lines = chain()
    put(tmp_path, [*lines[:-1], lines[-1][:40]])
    (problem,) = problems(tmp_path)
    assert "truncated" in problem


def test_an_emptied_file_is_truncated(tmp_path):
    assert problems(put(tmp_path, [])) == ["truncated: the chain has no record at all"]


def test_a_cut_off_tail_is_said_to_be_unprovable_without_a_head_and_found_with_one(tmp_path):
    lines = chain()
    put(tmp_path, lines[:-3])
    report = verify(tmp_path)
    assert report.sound
    assert any("a cut-off end would not show" in what for what in report.unproved())
    assert verify(tmp_path, frozenset({head_of(lines[-1])})).missing_heads


def test_records_after_the_end_and_of_another_chain_are_broken(tmp_path):
    other = Chain("another").line(Kind.DECISION, TIME, {})
    found = problems(put(tmp_path, [*chain(), other]))
    assert any("after the end" in problem for problem in found)
    assert any("another chain" in problem for problem in found)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"\xff\n", b'{"seq":"0"}\n', b"[" * 60_000 + b"\n"])
def test_what_is_no_record_is_broken_and_never_raises(tmp_path, line):
    assert any("not a record" in problem for problem in problems(put(tmp_path, [*chain(), line])))


def test_lost_records_are_counted(tmp_path):
    written = Chain(NAME)
    lines = [written.line(Kind.START, TIME, {}), written.line(Kind.LOST, TIME, {"records": 12})]
    report = verify(put(tmp_path, lines))
    assert report.sound
    assert report.chains[0].lost == 12


def test_the_command_tells_and_exits(tmp_path, capsys):
    lines = chain()
    put(tmp_path, lines)
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["audit", "verify", str(tmp_path), "--head", head_of(lines[-1])]) == 0
    shown = capsys.readouterr().out
    assert "7 records in 1 file(s)" in shown
    assert "proved up to record 6" in shown
    assert "passed over: notes.txt" in shown

    put(tmp_path, lines[1:])
    assert main(["audit", "verify", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    assert told["chains"][0]["problems"]

    assert main(["audit", "verify", str(tmp_path / "nowhere")]) == 3
    with pytest.raises(SystemExit):
        main(["audit", "verify", str(tmp_path), "--head", "abc"])
