"""Proof of the decision log: which chains are whole, which are broken, and what cannot be told from the files alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.core.decision_chain import GENESIS, Kind, line_hash
from relay.errors import ConfigError

_FILE = re.compile(r"decisions-(?P<chain>[0-9a-z-]{1,64})-(?P<number>[0-9]{6,})\.jsonl\Z")
_LINE_BYTES = 65_536
_MOST_PROBLEMS = 20
HEAD = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(slots=True)
class ChainReport:
    """What the files of one chain show.

    `covered` is how many of its records a given head proves: none beyond the first problem.
    """

    name: str
    files: int = 0
    records: int = 0
    lost: int = 0
    head: str = GENESIS
    first_at: str = ""
    last_at: str = ""
    process: str = ""
    ended: bool = False
    covered: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Note what is wrong; only the first of many are kept."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All chains of a directory. `missing_heads` are those given that no record has: what they stood for is gone."""

    chains: tuple[ChainReport, ...]
    missing_heads: tuple[str, ...]
    strangers: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is broken, missing or truncated, as far as can be told."""
        return bool(self.chains) and not self.missing_heads and not any(chain.problems for chain in self.chains)

    def unproved(self) -> tuple[str, ...]:
        """What these files cannot show, in words."""
        found = []
        for chain in self.chains:
            if chain.covered == chain.records:
                continue
            after = f"after record {chain.covered - 1}" if chain.covered else "at all"
            found.append(
                f"{chain.name}: no head was given that covers it {after}; whoever can write the files could have "
                "rewritten those records with all hashes"
                + ("" if chain.ended else ", and a cut-off end would not show (it has no end record)")
            )
        found.append(
            "a whole chain that was deleted leaves no trace here: compare with the heads in the relay's log "
            "(decision_log_head)"
        )
        return tuple(found)


def verify(directory: Path, heads: frozenset[str] = frozenset()) -> AuditReport:
    """Read every chain in `directory`. `heads` are hashes that were kept elsewhere. Raises ConfigError."""
    chains: dict[str, list[tuple[int, Path]]] = {}
    strangers = []
    try:
        for path in sorted(directory.iterdir()):
            if (found := _FILE.match(path.name)) is None:
                strangers.append(path.name)
            else:
                chains.setdefault(found["chain"], []).append((int(found["number"]), path))
        seen: set[str] = set()
        reports = [_verify_chain(name, sorted(files), heads, seen) for name, files in sorted(chains.items())]
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: cannot be read: {error.strerror}") from None
    return AuditReport(tuple(reports), tuple(sorted(heads - seen)), tuple(strangers))


def _verify_chain(name: str, files: list[tuple[int, Path]], heads: frozenset[str], seen: set[str]) -> ChainReport:
    report = ChainReport(name)
    expected = 1
    for number, path in files:
        if number != expected:
            report.problem(f"missing: file {expected:06d}" + (f" to {number - 1:06d}" if number - 1 > expected else ""))
        expected = number + 1
        report.files += 1
        for line_number, line, whole in _lines(path):
            where = f"{path.name}:{line_number}"
            if not whole:
                report.problem(f"{where}: truncated: the last line was cut off or is too long")
            else:
                _verify_line(report, where, line, heads, seen)
    if not report.records:
        report.problem("truncated: the chain has no record at all")
    return report


def _verify_line(report: ChainReport, where: str, line: bytes, heads: frozenset[str], seen: set[str]) -> None:
    record = _record(line)
    if record is None:
        report.problem(f"{where}: broken: not a record")
        return
    sequence = record["seq"]
    if report.ended:
        report.problem(f"{where}: broken: a record after the end of the chain")
    if record.get("chain") != report.name:
        report.problem(f"{where}: broken: a record of another chain")
    if sequence != report.records:
        gap = sequence - report.records
        report.problem(
            f"{where}: missing: {gap} record(s) before this one"
            if gap > 0
            else f"{where}: broken: record {sequence} again"
        )
    elif record["prev_hash"] != report.head:
        report.problem(f"{where}: broken: this record or the one before it was changed")
    if (record["kind"] == Kind.START) != (sequence == 0):
        report.problem(f"{where}: broken: the chain's start is not at its start")
    report.records = sequence + 1
    report.head = line_hash(line)
    if report.head in heads:
        seen.add(report.head)
        if not report.problems:
            report.covered = report.records
    _note(report, where, record)


def _note(report: ChainReport, where: str, record: dict[str, Any]) -> None:
    timestamp = record.get("ts")
    if not isinstance(timestamp, str):
        report.problem(f"{where}: broken: says no time")
    report.last_at = str(timestamp)
    match record["kind"]:
        case Kind.START:
            report.first_at = report.last_at
            report.process = f"{record.get('host')} pid {record.get('pid')}"
        case Kind.DECISION:
            pass
        case Kind.LOST:
            match record.get("records"):
                case int(count) if count > 0:
                    report.lost += count
                case _:
                    report.problem(f"{where}: broken: says not how many were lost")
        case Kind.END:
            report.ended = True
        case _:
            report.problem(f"{where}: broken: of a kind that the relay does not write")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match record:
        case {"seq": int(sequence), "prev_hash": str(), "kind": str()} if sequence >= 0:
            return dict(record)
        case _:
            return None


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Every line with its number; False with one that has no end."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LINE_BYTES):
            number += 1
            yield number, line.rstrip(b"\n"), line.endswith(b"\n")
            if not line.endswith(b"\n"):
                return
