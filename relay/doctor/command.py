"""`relay doctor`: check and explain what a relay needs from its machine and its network."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

import relay
from relay.doctor.checks import Check, CheckName, Status, failures

_HELP = """\
Look at everything a relay needs and say what is wrong and what to do: settings, policies, ports, advertised addresses,
STUN and TURN servers (by a real allocation), the way to the service (DNS, TCP, proxy, TLS), clock, file limits. It asks
a relay that is already running too. It changes nothing and prints no secret. Every check: docs/reference/doctor.md."""

_EXAMPLES = """\
examples:
  relay doctor --config relay.yaml              before the first start, or beside a running relay
  relay doctor --mint                           also prove the credential: mints one key, costs nothing
  relay doctor --operations http://10.0.0.4:8081
                                                ask that relay what became of its sessions
  relay doctor --json | jq '.checks[] | select(.status == "fail")'

exit codes:
  0  nothing failed; warnings may be there
  1  a check failed
  2  the command line cannot be understood
  3  the settings cannot be used"""

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.1, 60.0
_SIGNS = {Status.OK: ("✓", "32"), Status.WARN: ("!", "33"), Status.FAIL: ("✗", "31"), Status.SKIP: ("-", "2")}


def add_doctor_command(commands: Any) -> None:
    """Add `doctor` to the commands of the parser."""
    doctor = commands.add_parser(
        "doctor",
        help="check settings, machine and network, and explain",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="the YAML file (default: $RELAY_CONFIG; without it, the environment alone)",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument(
        "--mint", action="store_true", help="prove the credential by minting a key (costs nothing, opens no session)"
    )
    doctor.add_argument(
        "--operations", metavar="URL", help="the operations listener of a running relay (default: as in the settings)"
    )
    doctor.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="for one step of a check (default: %(default)g)",
    )
    doctor.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Loaded only here: it brings in what the other commands do without.
    from relay.doctor.round import Wish, examine  # noqa: PLC0415

    wish = Wish(arguments.config, arguments.timeout, mint=arguments.mint, operations=arguments.operations)
    checks = asyncio.run(examine(wish, os.environ))
    if arguments.json:
        json.dump(as_json(checks), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(checks, **_manner(sys.stdout))))
    return exit_code(checks)


def exit_code(checks: Sequence[Check]) -> int:
    """What the shell is told: 3 when the settings cannot be used, 1 when another check failed."""
    failed = failures(checks)
    if any(check.name is CheckName.CONFIGURATION for check in failed):
        return 3
    return 1 if failed else 0


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """`{"version", "ok", "checks": [{name, status, seen, advice, subject}]}`."""
    return {"version": relay.__version__, "ok": not failures(checks), "checks": [asdict(check) for check in checks]}


def lines(checks: Sequence[Check], *, colour: bool = False, plain: bool = False) -> list[str]:
    """The checks for people. `plain`: the status as a word, for an output that cannot show the signs."""
    width = max(len(check.name) for check in checks)
    shown: list[str] = []
    for check in checks:
        sign, code = _SIGNS[check.status]
        sign = f"{check.status:<4}" if plain else sign
        sign = f"\x1b[{code}m{sign}\x1b[0m" if colour else sign
        subject = f"{check.subject}: " if check.subject else ""
        shown.append(f"{sign} {check.name:<{width}}  {subject}{check.seen}")
        if check.advice and check.status is not Status.OK:
            shown.append(f"{' ' * (width + (7 if plain else 4))}→ {check.advice}".replace("→", "->" if plain else "→"))
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    shown.append(", ".join(f"{number} {status}" for status, number in counts.items() if number))
    return shown


def _manner(output: TextIO) -> dict[str, bool]:
    try:
        "".join(sign for sign, _ in _SIGNS.values()).encode(output.encoding or "ascii")
    except UnicodeEncodeError:
        plain = True
    else:
        plain = False
    return {"colour": output.isatty() and not os.environ.get("NO_COLOR"), "plain": plain}


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not _SHORTEST_SECONDS <= number <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {_SHORTEST_SECONDS:g} to 60")
    return number
