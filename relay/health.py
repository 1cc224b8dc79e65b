"""`relay health`: ask the relay on this machine how it is, by its operations listener; for containers without a shell.

`python -m relay.health` is the same and loads less: it is what the image runs every few seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from relay.config import load_settings
from relay.errors import ConfigError

_HELP = """\
Ask the relay that runs on this machine how it is, at its operations listener (admin.host, admin.port), and exit
accordingly. For health commands of containers; Kubernetes and load balancers ask the same addresses themselves."""

_EXAMPLES = """\
examples:
  relay health                        is it alive? stays true while it drains
  relay health readyz                 would it take a session now?
  relay health readyz --operations http://10.0.0.4:8081

exit codes:
  0  yes
  1  no, or nobody answers
  2  the command line cannot be understood
  3  the settings cannot be used"""

_ANSWER_MAX_BYTES = 65_536
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what to connect to for them


class Probe(StrEnum):
    """What can be asked, by the path at which it is."""

    ALIVE = "livez"
    STARTED = "startupz"
    READY = "readyz"


def add_health_command(commands: Any) -> None:
    """Add `health` to the commands of the parser."""
    added = commands.add_parser(
        "health",
        help="ask the running relay how it is",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(added)
    added.set_defaults(run=_run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command by itself; the exit code."""
    try:
        return _run(_parser().parse_args(argv))
    except ConfigError as error:
        sys.stderr.write(f"The settings cannot be used: {error}\n")
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m relay.health",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("probe", nargs="?", type=Probe, choices=list(Probe), default=Probe.ALIVE, help="(default: %(default)s)")
    add("-c", "--config", metavar="FILE", help="the YAML file (default: $RELAY_CONFIG; without it, the environment)")
    add("--operations", metavar="URL", help="the operations listener (default: as in the settings)")
    add("--timeout", type=_seconds, default=4.0, metavar="SECONDS", help="to wait for it (default: %(default)g)")


def _run(arguments: argparse.Namespace) -> int:
    host, port = _place(arguments)
    try:
        status, body = _ask(host, port, f"/{arguments.probe}", arguments.timeout)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer from {host} port {port}: {type(error).__name__}\n")
        return 1
    told = _told(body)
    if told is None:
        # Its own words are not repeated: whose they are is not known.
        sys.stderr.write(f"what answers at {host} port {port} is not a relay's operations listener\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0 if status == http.client.OK else 1


def _place(arguments: argparse.Namespace) -> tuple[str, int]:
    """Host and port of the operations listener. Raises ConfigError."""
    if arguments.operations is not None:
        try:
            parts = urlsplit(arguments.operations)
            port = parts.port or http.client.HTTP_PORT
        except ValueError:
            raise ConfigError("--operations is not a URL") from None
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError("--operations is not a URL such as http://127.0.0.1:8081")
        return parts.hostname, port
    admin = load_settings(arguments.config, os.environ).admin
    if admin.port == 0:
        raise ConfigError("admin.port is 0: give the address of the running relay with --operations")
    return _WILDCARDS.get(admin.host, admin.host), admin.port


def _ask(host: str, port: int, path: str, seconds: float) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError and HTTPException."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_MAX_BYTES)
    finally:
        connection.close()


def _told(body: bytes) -> str | None:
    """What a relay says of itself, with its reasons, in one line; None if it is not a relay's answer."""
    try:
        answer = json.loads(body)
        reasons = sorted(answer.get("reasons", {}).items())
        return "; ".join([str(answer["status"]), *(f"{name}: {why}" for name, why in reasons)])
    except (ValueError, KeyError, AttributeError):
        return None


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 60:  # noqa: PLR2004  stated in the message
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 60")
    return number


if __name__ == "__main__":
    sys.exit(main())
