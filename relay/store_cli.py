"""`relay store …`: look at the store, bring it to the form of this program, prove its audit log."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from relay.config import load_settings
from relay.core.stored import AuditRow, ChainVerdict, StoreError
from relay.errors import ConfigError

_HELP = """\
Tools for the store: the database in which the relay keeps policy revisions, keys, session records, usage, decisions
and the audit log (store.url, else relay.db in state.directory)."""

_CHECK_HELP = """\
Say which database the settings name, whether it answers, and whether it has the form this version needs. Changes
nothing."""

_MIGRATE_HELP = """\
Bring the database to the form this version needs, in one transaction; make it if it is not there. `relay serve` does
the same when it starts. Make a copy first: there is no way back but the copy."""

_VERIFY_HELP = """\
Read the whole audit log and say whether a row was changed, inserted or taken out. A chain proves itself only up to a
head that was kept elsewhere: the relay tells its head to the ordinary log once an hour (audit_head: rows, head); give
one with --head, or rows cut off at the end are not seen."""

_EXITS = """\
exit codes:
  0  all is well
  1  it is not; each finding is one line
  3  the settings or the database cannot be used"""

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})\Z")


def add_store_command(commands: Any) -> None:
    """Add `store` to the commands of the parser."""
    store = commands.add_parser("store", help="look after the store", description=_HELP)
    verbs = store.add_subparsers(title="commands", required=True, metavar="command")

    def verb(name: str, short: str, text: str, run: Callable[[argparse.Namespace], int]) -> Any:
        plain = argparse.RawDescriptionHelpFormatter
        added = verbs.add_parser(name, help=short, description=text, epilog=_EXITS, formatter_class=plain)
        added.add_argument(
            "-c", "--config", metavar="FILE", help="the YAML file (default: $RELAY_CONFIG; without it, the environment)"
        )
        added.add_argument("--json", action="store_true", help="print JSON")
        added.set_defaults(run=run)
        return added

    verb("check", "say what the store is", _CHECK_HELP, _check)
    verb("migrate", "bring it to the form of this version", _MIGRATE_HELP, _migrate)
    verify = verb("audit-verify", "prove the audit log", _VERIFY_HELP, _audit_verify)
    verify.add_argument(
        "--head", action="append", default=[], type=_head, metavar="ROWS:HASH", help="a head that was kept; repeatable"
    )


def _check(arguments: argparse.Namespace) -> int:
    return _show_facts(arguments, bring_up=False)


def _migrate(arguments: argparse.Namespace) -> int:
    return _show_facts(arguments, bring_up=True)


def _show_facts(arguments: argparse.Namespace, *, bring_up: bool) -> int:
    # SQLAlchemy is loaded only where it is asked for: other commands stay quick.
    from relay.store import look_at  # noqa: PLC0415

    facts = asyncio.run(look_at(_url(arguments), bring_up=bring_up))
    if arguments.json:
        _print(json.dumps({**asdict(facts), "ready": facts.ready}))
    else:
        _print(f"{facts.kind}: {facts.place}")
        _print(f"form {facts.form or 'none, it is empty'}; this version needs {facts.newest}")
    if not facts.ready:
        sys.stderr.write("`relay store migrate` brings it there; so does the start of this version of the relay\n")
    return 0 if facts.ready else 1


def _audit_verify(arguments: argparse.Namespace) -> int:
    return asyncio.run(_verify(_url(arguments), arguments.head, as_json=arguments.json))


async def _verify(url: str, heads: list[tuple[int, str]], *, as_json: bool) -> int:
    from relay.store import look_at, open_store  # noqa: PLC0415

    facts = await look_at(url)
    if not facts.ready:
        raise ConfigError(f"store.url: {facts.place} has not the form of this version: `relay store check` says more")
    store = await open_store(url)
    try:
        verdict = await store.audit.verify()
        missing = [number for number, digest in heads if not _is_head(await store.audit.get(number), digest)]
    except StoreError as error:
        raise ConfigError(f"store.url: {facts.place} cannot be used: {error}") from None
    finally:
        await store.close()
    if as_json:
        _print(json.dumps({**asdict(verdict), "missing_heads": missing}))
    else:
        _say(verdict, missing)
    return 0 if verdict.ok and not missing else 1


def _say(verdict: ChainVerdict, missing: list[int]) -> None:
    if verdict.ok:
        _print(f"{verdict.rows} rows, a whole chain")
    else:
        _print(f"broken at row {verdict.first_bad}: it, or what should be there, was changed or taken out")
    for number in missing:
        _print(f"head of {number} rows: the log has no such row any more, or another one")


def _is_head(row: AuditRow | None, digest: str) -> bool:
    return row is not None and row.hash == digest


def _url(arguments: argparse.Namespace) -> str:
    settings = load_settings(arguments.config, os.environ)
    if not settings.store_lasts:
        raise ConfigError("neither store.url nor state.directory is set: the store is the memory of each process")
    return settings.store_url.reveal()


def _head(text: str) -> tuple[int, str]:
    found = _HEAD.match(text)
    if found is None:
        raise argparse.ArgumentTypeError("is not ROWS:HASH, such as 12:9f2c… with 64 digits")
    return int(found[1]), found[2]


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
