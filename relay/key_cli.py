"""`relay key …`: make, list and revoke the keys in the store, also before there is any administrator."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from relay.config import load_settings
from relay.core.access import Role
from relay.core.stored import KEYS_MOST, AuditNote, KeyKind, KeyRow, StoreError, UnfitText
from relay.errors import ConfigError

_HELP = """\
Keys of tenants, for the mint doors, and of administrators, for the admin API. The store keeps a hash of each: a key is
shown once, when it is made. Every change is written to the audit log under your user name. A running relay sees a
change within five seconds."""

_EXAMPLES = """\
examples:
  relay key create --kind admin --name ann --role owner        the first administrator
  relay key create --kind tenant --tenant sales --name backend --days 365
  relay key list
  relay key rotate key_0f3c… --overlap 3600                   the old one goes on for an hour
  relay key revoke key_0f3c…

exit codes:
  0  done
  1  there is no such key, or the store did not take it
  3  the settings or the database cannot be used"""

_DAY = 86_400
_MOST_DAYS = 36_500
_IN_MEMORY = "sqlite://"


def add_key_command(commands: Any) -> None:
    """Add `key` to the commands of the parser."""
    plain = argparse.RawDescriptionHelpFormatter
    key = commands.add_parser(
        "key", help="make, list and revoke keys", description=_HELP, epilog=_EXAMPLES, formatter_class=plain
    )
    verbs = key.add_subparsers(title="commands", required=True, metavar="command")

    def verb(name: str, short: str, work: Callable[[argparse.Namespace, Any], Awaitable[int]]) -> Any:
        added = verbs.add_parser(name, help=short, description=_HELP, formatter_class=plain)
        added.add_argument(
            "-c", "--config", metavar="FILE", help="the YAML file (default: $RELAY_CONFIG; without it, the environment)"
        )
        added.add_argument("--json", action="store_true", help="print JSON")
        added.set_defaults(run=lambda arguments: _run(arguments, work))
        return added

    create = verb("create", "make a key and show it, once", _create)
    create.add_argument("--kind", required=True, type=KeyKind, choices=list(KeyKind), help="what it opens")
    create.add_argument("--name", required=True, help="whose it is; keys of one tenant and name are one principal")
    create.add_argument("--tenant", help="of a tenant's key: which; of an administrator's: the only one it reaches")
    create.add_argument("--role", type=Role, choices=list(Role), help="of an administrator's key")
    create.add_argument("--days", type=_days, metavar="N", help="for how many days it is good (default: for ever)")
    listed = verb("list", "list keys, also those that open nothing any more", _list)
    listed.add_argument("--kind", type=KeyKind, choices=list(KeyKind))
    listed.add_argument("--tenant")
    rotate = verb("rotate", "make a key that takes the place of another", _rotate)
    rotate.add_argument("id", help="as `list` shows it")
    rotate.add_argument(
        "--overlap", type=_seconds, default=0, metavar="SECONDS", help="for how long the old one goes on (default: 0)"
    )
    verb("revoke", "let a key open nothing from now on", _revoke).add_argument("id", help="as `list` shows it")


def _run(arguments: argparse.Namespace, work: Callable[[argparse.Namespace, Any], Awaitable[int]]) -> int:
    url = load_settings(arguments.config, os.environ).store_url.reveal()
    if url == _IN_MEMORY:
        raise ConfigError("set store.url or state.directory: a store in memory is gone with this command")
    try:
        return asyncio.run(_with_office(url, arguments, work))
    except (StoreError, UnfitText) as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _with_office(
    url: str, arguments: argparse.Namespace, work: Callable[[argparse.Namespace, Any], Awaitable[int]]
) -> int:
    # Both bring in what other commands do without.
    from relay.identity.key_office import KeyOffice  # noqa: PLC0415
    from relay.store import open_store  # noqa: PLC0415

    store = await open_store(url)
    try:
        return await work(arguments, KeyOffice(store.keys))
    finally:
        await store.close()


async def _create(arguments: argparse.Namespace, office: Any) -> int:
    kind, tenant, role = arguments.kind, arguments.tenant, arguments.role
    if kind is KeyKind.TENANT and (tenant is None or role is not None):
        raise ConfigError("a tenant's key needs --tenant, and has no --role")
    if kind is KeyKind.ADMIN and role is None:
        raise ConfigError("an administrator's key needs --role")
    expires_at = None if arguments.days is None else time.time() + arguments.days * _DAY
    told = {"kind": kind.value, "name": arguments.name, "role": role, "expires_at": expires_at}
    note = _note("key.create", tenant=tenant or "", **told)
    row, key = await office.create(kind, arguments.name, tenant, role, expires_at, note)
    return _show_key(arguments, row, key)


async def _list(arguments: argparse.Namespace, office: Any) -> int:
    rows = await office.list(arguments.kind, arguments.tenant)
    if len(rows) >= KEYS_MOST:
        sys.stderr.write(f"These are the newest {KEYS_MOST}; --kind and --tenant show fewer keys, and older ones.\n")
    if arguments.json:
        _print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print("\n".join(_line(row) for row in rows) or "There are no keys.")
    return 0


async def _rotate(arguments: argparse.Namespace, office: Any) -> int:
    made = await office.rotate(arguments.id, arguments.overlap, _note("key.rotate", overlap_seconds=arguments.overlap))
    return _unknown(arguments.id) if made is None else _show_key(arguments, *made)


async def _revoke(arguments: argparse.Namespace, office: Any) -> int:
    row = await office.revoke(arguments.id, _note("key.revoke"))
    if row is None:
        return _unknown(arguments.id)
    _print(json.dumps(asdict(row), indent=2) if arguments.json else _line(row))
    return 0


def _note(action: str, tenant: str = "", **body: Any) -> AuditNote:
    # Whoever may write to the store owns it, whatever else is said.
    return AuditNote(f"command line {_user()}", Role.OWNER.value, action, tenant=tenant, body=body)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"  # a container's user need not have a name


def _show_key(arguments: argparse.Namespace, row: KeyRow, key: str) -> int:
    if arguments.json:
        _print(json.dumps(asdict(row) | {"key": key}, indent=2))
    else:
        _print(key)
        sys.stderr.write(f"{_line(row)}\nThe key is shown this once and kept nowhere.\n")
    return 0


def _line(row: KeyRow) -> str:
    state = "open" if row.opens(time.time()) else "revoked" if row.revoked_at is not None else "expired"
    whose = f"tenant {row.tenant}" if row.tenant else "all tenants"
    ends = "" if row.expires_at is None else f", until {_day(row.expires_at)}"
    used = "never used" if row.used_at is None else f"used {_day(row.used_at)}"
    role = f" {row.role.value}" if row.role is not None else ""
    return f"{row.id}  {row.kind.value}{role}  {row.name}  {whose}  {state}{ends}, made {_day(row.created_at)}, {used}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _unknown(key_id: str) -> int:
    sys.stderr.write(f"{key_id[:60]!r} is no key that opens anything; `relay key list` shows all\n")
    return 1


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _days(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to {_MOST_DAYS}")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) > 30 * _DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {30 * _DAY}")
    return int(text)
