"""`relay policy export` and `import`: the policies of the store as files, without a relay running."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from relay.config import Settings, load_settings
from relay.core.access import Role
from relay.core.revision_files import UnfitFiles, files_hash, require_fit
from relay.core.stored import NOTE_MOST, AuditNote, StaleRevision, StoreError, UnfitText
from relay.errors import ConfigError
from relay.policy_revision import check_files, files_at
from relay.revisions import fit_hash, told

if TYPE_CHECKING:
    from relay.store import Store

T = TypeVar("T")

_FOUND = 1
_EXITS = """\

exit codes:
  0  done
  1  {found}
  2  the command line cannot be understood
  3  the settings, the files or the store cannot be used"""
_EXPORT = """\
Write the files of the newest revision (or of another) into a directory that is new or empty. Works also when no relay
starts, for instance because a newer one published what this one cannot read."""
_IMPORT = """\
Check the documents at a path as a relay would, their own tests included, and publish them as the newest revision.
Relays on this store put it in force within a second. Only the documents and the texts they name are taken."""


def add_store_commands(verbs: Any) -> None:
    """Add `export` and `import` to the commands of `relay policy`."""
    plain = argparse.RawDescriptionHelpFormatter
    export = verbs.add_parser(
        "export",
        help="write the policies in the store into a directory",
        description=_EXPORT,
        epilog=_EXITS.format(found="there is no such revision"),
        formatter_class=plain,
    )
    export.add_argument("directory", metavar="DIR", type=Path, help="new, or empty")
    export.add_argument("--revision", metavar="NUMBER", type=int, help="default: the newest")
    export.set_defaults(run=_export)
    taken = verbs.add_parser(
        "import",
        help="publish documents into the store",
        description=_IMPORT,
        epilog=_EXITS.format(found="the documents have errors, each one line, or somebody published meanwhile"),
        formatter_class=plain,
    )
    taken.add_argument("path", metavar="DIR", help="a directory of documents, or one file")
    taken.add_argument("--note", required=True, type=_note, help="why; kept with the revision and in the audit log")
    taken.set_defaults(run=_import)
    for parser in (export, taken):
        parser.add_argument("-c", "--config", metavar="FILE", help="the YAML file (default: $RELAY_CONFIG)")


def _export(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{directory}: exists and is no empty directory")
    wanted: int | None = arguments.revision

    async def read(store: Store) -> Any:
        return await (store.revisions.head() if wanted is None else store.revisions.get(wanted))

    revision = asyncio.run(_with_store(_settings(arguments), read))
    if revision is None:
        return _complain("the store holds no policies" if wanted is None else f"there is no revision {wanted}")
    # Whoever can write the database must not be able to write elsewhere on this machine.
    try:
        require_fit(revision.files)
    except UnfitFiles as error:
        raise ConfigError(f"revision {revision.number}: {error}") from None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in revision.files.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8", newline="")
    if files_hash(revision.files) != revision.hash:
        _complain("warning: these are not the files it was published with: the store was changed by somebody else")
    sys.stdout.write(f"revision {revision.number} by {revision.author}: {len(revision.files)} files in {directory}\n")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    files = files_at(arguments.path)
    checked = check_files(files)
    for line in (*checked.errors, *checked.warnings):
        _complain(line)
    if checked.errors:
        return _FOUND
    digest = fit_hash(files)
    author = f"cli:{_user()}"

    async def publish(store: Store) -> int:
        head = await store.revisions.head()
        number = None if head is None else head.number
        body = told(files, digest) | {"note": arguments.note}
        audit = AuditNote(author, Role.OWNER.value, "policy.publish", target=str((number or 0) + 1), body=body)
        added = await store.revisions.publish(files, digest, author, arguments.note, number, audit, time.time())
        return added.number

    try:
        published = asyncio.run(_with_store(settings, publish))
    except StaleRevision as error:
        return _complain(f"somebody else published meanwhile: {error}; look at it, then try again")
    if not settings.policy.managed:
        _complain("warning: policy.managed is false: a relay with these settings does not read the store's policies")
    sys.stdout.write(f"revision {published} published, {len(files)} files\n")
    return 0


async def _with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    from relay.store import open_store  # noqa: PLC0415 - `relay policy lint` needs no database's client

    try:
        store = await open_store(settings.store_url.reveal())
        try:
            return await work(store)
        finally:
            await store.close()
    except (StoreError, UnfitText) as error:
        raise ConfigError(f"the store cannot be used: {error}") from None


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = load_settings(arguments.config, os.environ)
    if settings.store_url.reveal() == "sqlite://":
        raise ConfigError("there is no store that outlives a process: set state.directory")
    return settings


def _note(text: str) -> str:
    if not text.strip() or len(text) > NOTE_MOST:
        raise argparse.ArgumentTypeError(f"say why, in {NOTE_MOST} characters at most")
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return _FOUND
