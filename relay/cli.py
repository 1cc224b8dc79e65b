"""The command line: what it accepts, what it prints, how it exits."""

from __future__ import annotations

import argparse
import asyncio
import errno
import io
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from importlib.metadata import version
from typing import Any

import relay
from relay import event_loop
from relay.audit_cli import add_audit_command
from relay.config import Settings, load_settings
from relay.config_values import is_address, is_loopback, whole
from relay.demo import run_demo
from relay.doctor.command import add_doctor_command
from relay.errors import ConfigError, UnreachableError
from relay.health import add_health_command
from relay.key_cli import add_key_command
from relay.policy_cli import add_policy_command
from relay.policy_files import load_policies
from relay.simulator.settings import SimulatorSettings
from relay.store_cli import add_store_command

DEMO_PORT = 8080
SIMULATOR_PORT = 8090
_LISTEN_ERRORS = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    CANNOT_LISTEN = 4


_MAIN_HELP = """\
A relay between browsers and Azure OpenAI Realtime: it holds the service's key, keeps the administrator's
instructions in force in every session, and forwards the sound untouched."""

_MAIN_EXAMPLES = """\
examples:
  relay demo                              try it: no account, no key, no settings
  relay check --config relay.yaml         read the settings, say what is wrong or where each comes from
  relay doctor --config relay.yaml        look at machine and network too, say what to do
  relay serve --config relay.yaml         run it
  RELAY_UPSTREAM_ENDPOINT=https://my-resource.openai.azure.com \\
  RELAY_UPSTREAM_DEPLOYMENT=gpt-realtime RELAY_UPSTREAM_API_KEY_FILE=/run/secrets/azure \\
  RELAY_CLIENT_KEYS_FILE=/run/secrets/clients RELAY_INSTRUCTIONS_FILE=instructions.txt relay serve

exit codes:
  0  done, or stopped by SIGINT or SIGTERM after sessions ended
  1  failed while running, or the database does not answer; the last lines of the log say why
  2  the command line cannot be understood
  3  the settings cannot be used; each problem is one line
  4  an address or port cannot be listened on (in use, not ours, not allowed)"""

_SERVE_HELP = """\
Run the relay. Settings come from one YAML file and from the environment, which wins; every setting
has a name in both (`upstream.endpoint` is RELAY_UPSTREAM_ENDPOINT), listed in docs/reference/config.md.
SIGTERM and SIGINT stop admitting, let sessions end within limits.drain_seconds, then end them; a second
one ends them now. SIGHUP reads the policies again."""

_SERVE_EXAMPLES = """\
needed in any case:
  RELAY_UPSTREAM_ENDPOINT     base URL of the resource
  RELAY_UPSTREAM_DEPLOYMENT   name of the realtime deployment
  RELAY_UPSTREAM_API_KEY      the resource's key (or RELAY_UPSTREAM_AUTH=entra)
  RELAY_CLIENT_KEYS           keys with which your clients may mint, comma-separated
  RELAY_INSTRUCTIONS          the instructions of every session (or RELAY_INSTRUCTIONS_FILE),
                              or RELAY_POLICIES, a directory of policy documents
Secrets can be read from files: add _FILE to the name and give a path."""

_SERVE_ELSEWHERE = """\
Settings: http.host and http.port (doors), admin.host and admin.port (operations), ice.hosts, ice.udp_port
  and ice.tcp_port (media). `relay doctor` says who has a port."""

_DEMO_HELP = """\
Run the relay on this machine alone, with an embedded stand-in for Azure that answers by speaking back
what it heard. Open the printed address, allow the microphone, speak; the admin console's address and key are
printed too. It reads no settings, and what it keeps is gone with it."""

_SIMULATE_HELP = """\
Run the stand-in for Azure OpenAI Realtime by itself: real HTTP, real WebRTC, no account. What it saw is at
/_state; faults are set with POST /_fault. For tests and for trying a relay without Azure."""

_CHECK_HELP = """\
Read the settings as `relay serve` would and print each with where it came from. Secrets and instructions
are not printed. Exits with 3 and one line a problem if the relay would not start."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is told which
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough; nothing more is to be written at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except ConfigError as error:
        # What is only away comes back: whoever restarts the relay shall try again.
        code = ExitCode.FAILED if isinstance(error, UnreachableError) else ExitCode.CONFIGURATION
        if getattr(arguments, "json", False):
            print(json.dumps({"error": str(error)}))
            return code
        _complain("The settings cannot be used:", *(f"  {line}" for line in str(error).splitlines()))
        return code
    except OSError as error:
        elsewhere = getattr(arguments, "elsewhere", None)  # commands that listen have it
        if elsewhere is None or error.errno not in _LISTEN_ERRORS:
            raise
        _complain(f"Cannot listen: {error.strerror}", f"  {elsewhere}")
        return ExitCode.CANNOT_LISTEN
    except KeyboardInterrupt:
        return ExitCode.OK
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "relay", description=_MAIN_HELP, epilog=_MAIN_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")

    def command(name: str, short: str, text: str, run: Callable[[argparse.Namespace], int], examples: str = "") -> Any:
        added = commands.add_parser(
            name,
            help=short,
            description=text,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    config = {"metavar": "FILE", "help": "the YAML file (default: $RELAY_CONFIG; without it, the environment alone)"}
    serve = command("serve", "run the relay", _SERVE_HELP, _serve, _SERVE_EXAMPLES)
    serve.set_defaults(elsewhere=_SERVE_ELSEWHERE)
    serve.add_argument("-c", "--config", **config)
    serve.add_argument("-w", "--workers", type=_workers, help="processes that carry media (RELAY_WORKERS; default: 1)")
    demo = command("demo", "run it with an embedded stand-in for Azure", _DEMO_HELP, _demo)
    demo.set_defaults(elsewhere="--port names another one, 0 any free one (make demo PORT=0).")
    demo.add_argument("--host", default="127.0.0.1", type=_loopback, help="loopback address (default: %(default)s)")
    demo.add_argument("--port", default=DEMO_PORT, type=_port, help="0: any free one (default: %(default)s)")
    simulate = command("simulate-azure", "run the stand-in for Azure alone", _SIMULATE_HELP, _simulate)
    simulate.set_defaults(elsewhere="--host, --port and --udp-port name others.")
    _add_simulator_options(simulate)
    check = command("check", "read and explain the settings", _CHECK_HELP, _check)
    check.add_argument("-c", "--config", **config)
    check.add_argument("--json", action="store_true", help="print JSON")
    add_doctor_command(commands)
    add_health_command(commands)
    add_audit_command(commands)
    add_policy_command(commands)
    add_store_command(commands)
    add_key_command(commands)
    shown = command("version", "print versions", "Print the version of the relay and of what it stands on.", _version)
    shown.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_simulator_options(parser: Any) -> None:
    known = SimulatorSettings()
    add = parser.add_argument
    add("--host", default=known.host, type=_address, help="address for HTTP and media (default: %(default)s)")
    add("--port", default=SIMULATOR_PORT, type=_port, help="TCP port; 0: any free one (default: %(default)s)")
    add("--udp-port", type=_port, help="one UDP port for all sessions, as the service does (default: one for each)")
    add("--api-key", default=known.api_key, help="the resource key it accepts (default: %(default)s)")
    add("--deployment", action="append", metavar="NAME", help="a deployment it has; can be repeated")
    add("--transcription-deployment", action="append", metavar="NAME", help="likewise, for transcription")
    add("--session-seconds", type=float, default=known.session_seconds, help="life of a session (default: %(default)g)")
    add("--single-use-keys", action="store_true", help="an ephemeral key opens one call")
    add("--ice-lite", action="store_true", help="be an ICE-lite peer")
    add("--consent-quirk", action="store_true", help="ignore checks without USE-CANDIDATE once connected")


def _serve(arguments: argparse.Namespace) -> int:
    environment = dict(os.environ)
    if arguments.workers is not None:
        environment["RELAY_WORKERS"] = arguments.workers
    settings = load_settings(arguments.config, environment)
    settings.require_servable()
    # The rest of the program is loaded only when it is to run: `relay check` stays quick.
    from relay.app import serve  # noqa: PLC0415

    event_loop.run(serve(settings))
    return ExitCode.OK


def _demo(arguments: argparse.Namespace) -> int:
    asyncio.run(run_demo(arguments.host, arguments.port))
    return ExitCode.OK


def _simulate(arguments: argparse.Namespace) -> int:
    known = SimulatorSettings()
    return asyncio.run(
        _run_simulator(
            SimulatorSettings(
                host=arguments.host,
                port=arguments.port,
                ice_addresses=(arguments.host,),
                udp_port=arguments.udp_port,
                api_key=arguments.api_key,
                deployments=tuple(arguments.deployment or known.deployments),
                transcription_deployments=tuple(arguments.transcription_deployment or known.transcription_deployments),
                session_seconds=arguments.session_seconds,
                single_use_keys=arguments.single_use_keys,
                ice_lite=arguments.ice_lite,
                consent_quirk=arguments.consent_quirk,
            )
        )
    )


async def _run_simulator(settings: SimulatorSettings) -> int:
    from relay.simulator.simulator import Simulator  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        print(f"Stand-in for Azure OpenAI Realtime: {simulator.url} (seen: /_state, faults: POST /_fault)")
        print("To point a relay at it:")
        for name, value in _relay_environment(simulator.url, settings).items():
            print(f"  export {name}={value}")
        print("For the preview protocol also:")
        print("  export RELAY_UPSTREAM_PROTOCOL=azure-preview")
        print(f"  export RELAY_UPSTREAM_WEBRTC_ENDPOINT={simulator.url}", flush=True)
        await stop.wait()
    return ExitCode.OK


def _relay_environment(url: str, settings: SimulatorSettings) -> dict[str, str]:
    environment = {
        "RELAY_UPSTREAM_ENDPOINT": url,
        "RELAY_UPSTREAM_API_KEY": settings.api_key,
        "RELAY_UPSTREAM_DEPLOYMENT": settings.deployments[0],
        "RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT": settings.transcription_deployments[0],
    }
    return environment if is_loopback(url) else environment | {"RELAY_UPSTREAM_ALLOW_INSECURE": "true"}


def _check(arguments: argparse.Namespace) -> int:
    settings = None
    problem = None
    try:
        settings = load_settings(arguments.config, os.environ)
        settings.require_servable()
        if settings.policy.documents is not None:
            load_policies(settings.policy.documents, regions=settings.upstream.regions)
    except ConfigError as error:
        problem = error
    if arguments.json:
        print(json.dumps(_check_result(settings, problem)))
        return ExitCode.CONFIGURATION if problem else ExitCode.OK
    if settings:
        _print_settings(settings)
    if problem:
        raise problem
    print("The relay would start with these settings.")
    return ExitCode.OK


def _check_result(settings: Settings | None, problem: ConfigError | None) -> dict[str, Any]:
    return {
        "settings": settings.redacted() if settings else {},
        "warnings": settings.warnings if settings else (),
        "problems": str(problem).splitlines() if problem else (),
    }


def _print_settings(settings: Settings) -> None:
    shown = settings.redacted()
    width = max(map(len, shown))
    for name, facts in shown.items():
        print(f"{name:<{width}}  {_as_written(facts['value']) or '-'}  ({facts['origin']})")
    for warning in settings.warnings:
        _complain(f"warning: {warning}")


def _as_written(value: Any) -> str:
    match value:
        case None:
            return ""
        case list():
            return ", ".join(value)
        case bool():
            return str(value).lower()
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def _version(arguments: argparse.Namespace) -> int:
    versions = {"relay": relay.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("aiortc", "aioice", "aiohttp")}
    print(json.dumps(versions) if arguments.json else "\n".join(f"{name} {found}" for name, found in versions.items()))
    return ExitCode.OK


def _port(text: str) -> int:
    try:
        return whole(0, 65535)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _workers(text: str) -> str:
    try:
        whole(1, 64)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _address(text: str) -> str:
    if not is_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address")
    return text


def _loopback(text: str) -> str:
    if not is_address(text) or not is_loopback(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address of this machine alone; to serve others use `relay serve`"
        )
    return text


def _complain(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)
