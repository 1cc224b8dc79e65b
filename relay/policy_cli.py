"""`relay policy …`: check policies, run their tests, and ask what they would do, without a relay running."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from relay.core.events import SERVER_EVENT_TYPES, EventError, parse_json_object
from relay.core.policy import ConfigRefusal
from relay.core.policy_check import Severity
from relay.core.policy_diff import Change, Direction, diff
from relay.core.policy_document import PolicyDocument
from relay.core.policy_inherit import LEAVES
from relay.core.policy_resolve import (
    Identity,
    PolicyRequest,
    Resolved,
    ServiceDefaults,
    Unresolved,
    resolve,
    resolve_document,
)
from relay.core.policy_rules import Mode
from relay.core.policy_schema import POLICY_SCHEMA
from relay.core.policy_tests import DRY_DEPLOYMENTS, DrySession, Judgement, judge_mint
from relay.core.tool_rules import schema_hash
from relay.errors import ConfigError
from relay.policy_files import CheckedPolicies, check_policies
from relay.policy_reference import reference_markdown
from relay.policy_store_cli import add_store_commands

POLICIES_ENV = "RELAY_POLICIES"
_EVENT_FILE_BYTES = 16 * 1024 * 1024


class PolicyExit(IntEnum):
    """What the shell is told."""

    OK = 0
    FOUND = 1
    USAGE = 2
    UNUSABLE = 3


_EXITS = """\

exit codes:
  0  {ok}
  1  {found}
  2  the command line cannot be understood
  3  the policies cannot be read or used; each problem is one line"""

_HELP = "Check policy documents, run the tests inside them, ask what they would do. No relay need be running."
_EXAMPLES = """\
examples:
  relay policy lint --policies policies/                    what is wrong, with file and line
  relay policy test --policies policies/                    run the documents' own tests
  relay policy resolve --tenant desk --claim department=sales
                                                            which policy such a session gets, and why
  relay policy explain event.json --tenant desk             what becomes of this event, and by which rule
  relay policy diff policies.old/ policies/ --fail-on unproved
                                                            what a change means; for continuous integration
  relay policy hash tool.json                               the schemaHash of a function
  relay policy schema                                       the JSON Schema, for your editor
  relay policy import policies/ --note "quieter evenings"   publish them into the store

--policies is a file or a directory; without it RELAY_POLICIES is read."""


def add_policy_command(commands: Any) -> None:
    """Add `policy` to the commands of the parser."""
    plain = argparse.RawDescriptionHelpFormatter
    policy = commands.add_parser(
        "policy", help="check, test and explain policies", description=_HELP, epilog=_EXAMPLES, formatter_class=plain
    )
    verbs = policy.add_subparsers(title="commands", required=True, metavar="command")

    def verb(name: str, text: str, run: Callable[[argparse.Namespace], int], ok: str, found: str) -> Any:
        exits = _EXITS.format(ok=ok, found=found)
        added = verbs.add_parser(name, help=text, description=text + ".", epilog=exits, formatter_class=plain)
        added.set_defaults(run=run)
        return added

    lint = verb(
        "lint", "say what is wrong with the documents", _lint, "no errors", "errors; with --strict warnings too"
    )
    _add_policies(lint)
    lint.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")
    lint.add_argument(
        "--deployment", action="append", metavar="NAME", help="one that exists at the service; names others as unknown"
    )
    lint.add_argument("--region", action="append", metavar="NAME", help="one that has a member; names others likewise")
    test = verb("test", "run the tests inside the documents", _test, "all passed", "some failed, or there are none")
    _add_policies(test)
    test.add_argument("document", nargs="*", help="only the tests of these documents")
    shown = verb("resolve", "show which policy a session gets, and why", _resolve, "there is one", "it is refused")
    _add_policies(shown)
    _add_identity(shown)
    shown.add_argument("--instructions", action="store_true", help="print the instructions too")
    explain = verb("explain", "show what becomes of one event", _explain, "it was judged", "the session is refused")
    explain.add_argument("event", metavar="EVENT.json", help="an event in GA form; - reads standard input")
    explain.add_argument(
        "--from", dest="side", choices=("client", "server", "mint"), help="who sends it (default: by its type)"
    )
    _add_policies(explain)
    _add_identity(explain)
    change = verb("diff", "say what a change means: tighter or looser", _diff, "nothing to fail on", "see --fail-on")
    change.add_argument("old", metavar="OLD")
    change.add_argument("new", metavar="NEW")
    change.add_argument(
        "--fail-on",
        choices=("looser", "unproved", "any"),
        help="exit with 1 if something became looser; or is not shown to be tighter (for continuous integration); "
        "or at any difference",
    )
    _add_json(change)
    hashed = verb("hash", "print the schemaHash of a function's definition", _hash, "printed", "no function definition")
    hashed.add_argument("tool", metavar="TOOL.json", help="the function as a client sends it; - reads standard input")
    schema = verb("schema", "print the JSON Schema of documents", _schema, "printed", "never")
    schema.add_argument("--markdown", action="store_true", help="print the reference page instead")
    add_store_commands(verbs)


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_policies(parser: Any) -> None:
    given = os.environ.get(POLICIES_ENV) or None
    parser.add_argument(
        "--policies", metavar="PATH", default=given, help=f"file or directory (default: ${POLICIES_ENV})"
    )
    _add_json(parser)


def _add_identity(parser: Any) -> None:
    parser.add_argument("--tenant", default="default", help="default: %(default)s")
    parser.add_argument(
        "--claim", action="append", default=[], type=_claim, metavar="NAME=VALUE", help="can be repeated"
    )
    parser.add_argument("--origin", help="the page's origin")
    parser.add_argument("--model", help="the model the client asks for")
    parser.add_argument("--document", metavar="NAME", help="this document, whatever matches")


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


# --- the commands ----------------------------------------------------------------------------------------------------


def _lint(arguments: argparse.Namespace) -> int:
    checked = check_policies(_path(arguments), arguments.deployment, arguments.region)
    errors = [problem for problem in checked.problems if problem.severity is Severity.ERROR]
    warnings = [problem for problem in checked.problems if problem.severity is Severity.WARNING]
    if arguments.json:
        _print_json({"documents": [_listed(one) for one in checked.documents], "problems": _problems(checked)})
    else:
        for problem in sorted(checked.problems, key=lambda one: (one.file, one.line)):
            _say(str(problem), "red" if problem.severity is Severity.ERROR else "yellow")
        words = f"{_count(len(checked.documents), 'document')}, {_count(len(errors), 'error')}"
        _say(f"{words}, {_count(len(warnings), 'warning')}", "red" if errors else "green")
    return PolicyExit.FOUND if errors or (arguments.strict and warnings) else PolicyExit.OK


def _test(arguments: argparse.Namespace) -> int:
    checked = _usable(_path(arguments), tests_may_fail=True)
    unknown = set(arguments.document) - {document.name for document in checked.documents}
    if unknown:
        raise ConfigError(f"no such document: {', '.join(sorted(unknown))}")
    wanted = arguments.document
    results = [one for one in checked.tests if not wanted or (one.tried_on or one.document) in wanted]
    failed = sum(result.binding and not result.passed for result in results)
    if arguments.json:
        _print_json({"results": [{**asdict(result), "passed": result.passed} for result in results]})
    else:
        for result in results:
            if result.passed:
                _say(f"passed  {result.label}", "green")
            else:
                word, colour = ("failed", "red") if result.binding else ("warning", "yellow")
                _say(f"{word}  {result.label}", colour)
                _say(f"        {result.file}:{result.line}: {result.why}")
        _say(f"{_count(len(results), 'test')}, {failed} failed", "red" if failed or not results else "green")
    return PolicyExit.FOUND if failed or not results else PolicyExit.OK


def _resolve(arguments: argparse.Namespace) -> int:
    checked = _usable(_path(arguments))
    try:
        resolved = _resolved(checked.documents, arguments)
    except Unresolved as refusal:
        return _refused(refusal, arguments)
    policy = _plain(resolved.policy)
    text = resolved.policy.instructions.text
    shown: dict[str, Any] = {"characters": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    policy["instructions"] = {**policy["instructions"], **shown}
    policy["canary"]["words"] = len(policy["canary"]["words"])
    if not arguments.instructions:
        del policy["instructions"]["text"]
    if arguments.json:
        _print_json({"policy": policy, "documents": resolved.documents, "considered": _plain(resolved.considered)})
        return PolicyExit.OK
    _say(f"{resolved.policy.name}, revision {resolved.policy.revision}", "bold")
    _print_considered(resolved.considered)
    _say(f"{'made of':<11} {', '.join(resolved.documents)}")
    _say(f"{'told':<11} {len(text)} characters, sha256 {shown['sha256'][:12]}; --instructions prints them")
    _say("decided beside the defaults:")
    for name, value in _decided(resolved):
        _say(f"  {name:<44} {json.dumps(value, ensure_ascii=False)}")
    if arguments.instructions:
        _say(f"instructions:\n{text}")
    return PolicyExit.OK


def _explain(arguments: argparse.Namespace) -> int:
    text = _read(arguments.event)
    side = arguments.side or _side_of(text)
    checked = _usable(_path(arguments))
    try:
        resolved = _resolved(checked.documents, arguments)
        judgement = _judged(resolved, text, side, arguments.model)
    except Unresolved as refusal:
        return _refused(refusal, arguments)
    except ConfigRefusal as refusal:
        raise ConfigError(f"{resolved.policy.name} cannot be minted: {refusal}") from None
    policy = resolved.policy
    judgement = _without_instructions(judgement, policy.instructions.text)
    if arguments.json:
        _print_json({"policy": policy.name, "revision": policy.revision, "mode": policy.mode, **_plain(judgement)})
        return PolicyExit.OK
    _say(f"{judgement.decision}  by {judgement.rule or 'no rule'}", _COLOUR_OF.get(judgement.decision, "bold"))
    _say(f"policy     {policy.name}, revision {policy.revision[:12]}, {policy.mode}")
    if policy.mode is Mode.AUDIT:
        _say("           in this mode the decision is written down and not carried out", "yellow")
    if policy.mode is Mode.DISABLED:
        _say("           in this mode no rule is applied", "yellow")
    if judgement.code:
        _say(f"refused    {judgement.code} at {judgement.param}")
    if judgement.ended:
        _say(f"ends with  {judgement.ended}")
    _print_events("to service", judgement.to_service)
    _print_events("to client ", judgement.to_client)
    return PolicyExit.OK


def _diff(arguments: argparse.Namespace) -> int:
    old, new = _usable(arguments.old), _usable(arguments.new)
    changes = list(diff(old.documents, new.documents))
    if arguments.json:
        _print_json({"changes": _plain(changes)})
    else:
        _print_changes(changes)
    failing = _FAILING.get(arguments.fail_on, frozenset())
    return PolicyExit.FOUND if any(change.direction in failing for change in changes) else PolicyExit.OK


_FAILING = {
    "looser": frozenset({Direction.LOOSER}),
    "unproved": frozenset({Direction.LOOSER, Direction.CHANGED}),
    "any": frozenset(Direction),
}


def _hash(arguments: argparse.Namespace) -> int:
    try:
        tool = parse_json_object(_read(arguments.tool))
    except EventError:
        raise ConfigError(f"{arguments.tool}: not one JSON object") from None
    if not isinstance(tool.get("name"), str):
        _complain(f"{arguments.tool}: not the definition of a function: it has no name")
        return PolicyExit.FOUND
    _say(schema_hash(tool))
    return PolicyExit.OK


def _schema(arguments: argparse.Namespace) -> int:
    sys.stdout.write(reference_markdown() if arguments.markdown else json.dumps(POLICY_SCHEMA, indent=2) + "\n")
    return PolicyExit.OK


# --- what they share -------------------------------------------------------------------------------------------------


def _path(arguments: argparse.Namespace) -> str:
    path: str | None = arguments.policies
    if not path:
        raise ConfigError(f"no policies: give --policies PATH or set {POLICIES_ENV}")
    return path


def _usable(path: str, *, tests_may_fail: bool = False) -> CheckedPolicies:
    """The documents, if nothing is wrong with them but what their tests say. Raises ConfigError."""
    checked = check_policies(path)
    errors = [str(problem) for problem in checked.problems if problem.severity is Severity.ERROR]
    if errors:
        raise ConfigError("\n".join(errors))
    if not tests_may_fail:
        for result in checked.tests:
            if not result.passed and result.binding:
                _complain(f"warning: {result}")
    return checked


def _resolved(documents: Sequence[PolicyDocument], arguments: argparse.Namespace) -> Resolved:
    claims: dict[str, Any] = {}
    for name, value in arguments.claim:
        claims[name] = (
            [*claims[name], value]
            if isinstance(claims.get(name), list)
            else ([claims[name], value] if name in claims else value)
        )
    identity = Identity(arguments.tenant, claims=claims, origin=arguments.origin)
    request = PolicyRequest(arguments.model)
    # The relay's own deployments where they are known: they count in the revision of a document that names none.
    defaults = ServiceDefaults(
        os.environ.get("RELAY_UPSTREAM_DEPLOYMENT") or DRY_DEPLOYMENTS.deployment,
        os.environ.get("RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT") or DRY_DEPLOYMENTS.transcription_deployment,
    )
    if arguments.document:
        return resolve_document(documents, arguments.document, identity, request, defaults)
    return resolve(documents, identity, request, defaults)


def _refused(refusal: Unresolved, arguments: argparse.Namespace) -> int:
    if arguments.json:
        considered = _plain(refusal.considered)
        _print_json({"refused": refusal.reason, "message": str(refusal), "considered": considered})
    else:
        _say(f"refused ({refusal.reason}): {refusal}", "red")
        _print_considered(refusal.considered)
    return PolicyExit.FOUND


def _judged(resolved: Resolved, text: str, side: str, model: str | None) -> Judgement:
    if side == "mint":
        try:
            body = parse_json_object(text)
        except EventError:
            raise ConfigError("the session configuration is not one JSON object") from None
        session = body.get("session", body)
        if not isinstance(session, dict):
            raise ConfigError("`session` is not an object")
        return judge_mint(resolved.policy, session)
    session = DrySession(resolved.policy, model)
    return session.client(text) if side == "client" else session.server(text)


def _without_instructions(judgement: Judgement, text: str) -> Judgement:
    """The judgement with the policy's own words cut out of what goes to the service: it may be shown to a colleague."""

    def cut(value: Any) -> Any:
        match value:
            case str() if text:
                return value.replace(text, f"(the policy's {len(text)} characters)")
            case list():
                return [cut(entry) for entry in value]
            case dict():
                return {key: cut(entry) for key, entry in value.items()}
            case _:
                return value

    return replace(judgement, to_service=tuple(cut(list(judgement.to_service))))


def _side_of(text: str) -> str:
    """Who sends such an event: the client, unless only the service can."""
    try:
        event = parse_json_object(text, max_bytes=_EVENT_FILE_BYTES)
    except EventError:
        return "client"
    kind = event.get("type")
    if kind in (None, "realtime"):
        return "mint"
    return "server" if kind in SERVER_EVENT_TYPES else "client"


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read(_EVENT_FILE_BYTES + 1) if name == "-" else Path(name).read_bytes()
        if len(data) > _EVENT_FILE_BYTES:
            raise ConfigError(f"{name}: larger than {_EVENT_FILE_BYTES} bytes")
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: not UTF-8") from None


# --- printing --------------------------------------------------------------------------------------------------------

_CODES = {"red": 31, "green": 32, "yellow": 33, "bold": 1}
_COLOUR_OF = {
    "forward": "green",
    "refuse": "red",
    "end": "red",
    "withhold": "red",
    "strip": "yellow",
    "rewrite": "yellow",
}


def _say(text: str, colour: str = "") -> None:
    """One line on standard output, coloured on a terminal unless NO_COLOR is set."""
    coloured = bool(colour) and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.write(f"\x1b[{_CODES[colour]}m{text}\x1b[0m\n" if coloured else f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print_considered(considered: Sequence[Any]) -> None:
    for entry in sorted(considered, key=lambda one: -one.priority):
        word = "matches" if entry.matched else "passed over"
        _say(f"{word:<11} {entry.name} (priority {entry.priority}): {entry.why}")


def _print_events(word: str, events: Sequence[dict[str, Any]]) -> None:
    if not events:
        _say(f"{word} nothing")
    for event in events:
        _say(f"{word} {json.dumps(event, ensure_ascii=False)}")


_SIGNS = {Direction.TIGHTER: ("-", "green"), Direction.LOOSER: ("+", "red"), Direction.CHANGED: ("~", "yellow")}


def _print_changes(changes: Sequence[Change]) -> None:
    for change in changes:
        sign, colour = _SIGNS[change.direction]
        where = f"{change.document}: {change.path}" if change.path else change.document
        _say(f"{sign} {change.direction.value:<7} {where}: {change.old} -> {change.new}", colour)
    if not changes:
        _say("no difference in meaning")


def _decided(resolved: Resolved) -> list[tuple[str, Any]]:
    """What the documents decide otherwise than the relay would, as they write it."""
    rows = [
        (path, value)
        for path, value in resolved.said.items()
        if path not in _TOLD_APART and value != LEAVES[path].get("default") and value not in ({}, [])
    ]
    session = resolved.said["session"]
    rows += [("session.default", session["default"])] if session["default"] != "allow" else []
    rows += [(f"session.fields[{path}]", rule) for path, rule in session["fields"].items() if rule]
    if words := resolved.said["canary.words"]:
        rows.append(("canary.words", f"{_count(len(words), 'word')}, not shown"))
    return sorted(rows)


_TOLD_APART = frozenset({"session", "instructions.text", "canary.words"})


def _listed(document: PolicyDocument) -> dict[str, Any]:
    return {"name": document.name, "version": document.version, "owner": document.owner, "file": document.source.file}


def _problems(checked: CheckedPolicies) -> list[dict[str, Any]]:
    names = ("severity", "message", "file", "line", "document", "path")
    return [{name: _plain(getattr(problem, name)) for name in names} for problem in checked.problems]


def _plain(value: Any) -> Any:
    """Values as JSON has them: sets sorted, enums as their words."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    match value:
        case StrEnum():
            return value.value
        case frozenset() | set():
            return sorted(value)
        case dict():
            return {key: _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case _:
            return value


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
