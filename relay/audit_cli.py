"""`relay audit verify`: proof of the decision log on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relay.audit import HEAD, AuditReport, ChainReport, verify

VERIFY_HELP = """\
Read every chain of a decision log (decision_log.directory) and say whether it is whole: no record changed, missing or
cut off. A chain proves itself only up to a head that was kept elsewhere: the relay tells its heads to its ordinary log
(decision_log_head); give the latest of each chain with --head. What cannot be proved is said."""

VERIFY_EXAMPLES = """\
examples:
  relay audit verify /var/log/relay/decisions
  relay audit verify /var/log/relay/decisions --head 9f2c…64 digits… --json

exit codes:
  0  nothing is broken, missing or cut off, as far as can be told
  1  something is; each finding is one line
  3  the directory cannot be read"""


def add_audit_command(commands: Any) -> None:
    """Add `audit` to the commands of the parser."""
    plain = argparse.RawDescriptionHelpFormatter
    audit = commands.add_parser("audit", help="prove the decision log", description="Tools for the decision log.")
    verbs = audit.add_subparsers(title="commands", required=True, metavar="command")
    check = verbs.add_parser(
        "verify", help="check the chains", description=VERIFY_HELP, epilog=VERIFY_EXAMPLES, formatter_class=plain
    )
    check.add_argument("directory", metavar="DIR", type=Path, help="the directory of the log")
    check.add_argument(
        "--head", action="append", default=[], type=_head, metavar="HASH", help="a head that was kept; can be repeated"
    )
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    report = verify(arguments.directory, frozenset(arguments.head))
    if arguments.json:
        shown = {**asdict(report), "sound": report.sound, "unproved": report.unproved()}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(report)))
    return 0 if report.sound else 1


def _lines(report: AuditReport) -> list[str]:
    lines = [line for chain in report.chains for line in _chain_lines(chain)]
    lines += [
        f"head {head}: no record has it; what it stood for is gone or was changed" for head in report.missing_heads
    ]
    lines += [f"passed over: {name} is no file of a decision log" for name in report.strangers]
    lines += [] if report.chains else ["there is no chain at all"]
    lines += [f"not proved: {what}" for what in report.unproved()]
    lines.append("Sound, as far as can be told." if report.sound else "NOT SOUND.")
    return lines


def _chain_lines(chain: ChainReport) -> list[str]:
    state = "ended" if chain.ended else "no end record: still being written, or its process died"
    lines = [
        (
            f"chain {chain.name}: {chain.records} records in {chain.files} file(s), {chain.first_at} to "
            f"{chain.last_at}, {chain.process or 'process unknown'}; {state}"
        ),
        f"  head {chain.head}" + (f", proved up to record {chain.covered - 1}" if chain.covered else ""),
    ]
    if chain.lost:
        lines.append(f"  {chain.lost} decision(s) were lost by the relay itself, and said so")
    return [*lines, *(f"  {problem}" for problem in chain.problems)]


def _head(text: str) -> str:
    if HEAD.match(text.lower()) is None:
        raise argparse.ArgumentTypeError("a head is 64 hexadecimal digits")
    return text.lower()
