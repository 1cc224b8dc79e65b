"""Policies loaded in a process of their own: checking many documents takes seconds, and sound must not wait for it."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import relay
from relay.core.policy_check import Source
from relay.core.policy_document import PolicyDocument
from relay.core.policy_resolve import ServiceDefaults, merged, revision_of
from relay.core.policy_rules import OnSinkFailure
from relay.errors import ConfigError
from relay.policy_files import CheckedPolicies, PolicyLoadError, load_policies

LOAD_SECONDS = 600.0
_CHILD = "from relay.policy_loading import main; main()"
_REFUSED = 3
_ROOT = str(Path(relay.__file__).resolve().parent.parent)
LOWER_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """Documents fit to be put in force, without their tests; `revisions` of those that sessions can get.

    `fail_closed`: one of these allows nothing that cannot be recorded.
    """

    documents: tuple[PolicyDocument, ...]
    revisions: dict[str, str]
    fail_closed: bool
    warnings: tuple[str, ...]


def load(path: str, defaults: ServiceDefaults) -> LoadedPolicies:
    """Load here. Raises ConfigError, in words that may stand in a log."""
    try:
        checked = load_policies(path, regions=defaults.regions)
    except PolicyLoadError as error:
        raise ConfigError(error.public) from None
    return fit(checked, defaults)


def fit(checked: CheckedPolicies, defaults: ServiceDefaults) -> LoadedPolicies:
    """What is put in force of documents that were found good."""
    documents = checked.documents
    said = {each.name: merged(documents, each.name)[0] for each in documents if each.match is not None}
    return LoadedPolicies(
        tuple(_bare(document) for document in documents),
        {name: revision_of(name, whole, defaults) for name, whole in said.items()},
        any(whole["onSinkFailure"] == OnSinkFailure.FAIL_CLOSED for whole in said.values()),
        checked.public_warnings,
    )


async def load_apart(path: str, defaults: ServiceDefaults, seconds: float = LOAD_SECONDS) -> LoadedPolicies:
    """Load in another process, at most for so long. Raises ConfigError; cancelled, it leaves no process behind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, path, json.dumps(asdict(defaults))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise ConfigError(f"{path}: not loaded within {seconds:g} seconds") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == _REFUSED:
        raise ConfigError(output.decode(errors="replace").rstrip("\n"))
    if process.returncode != 0:
        raise ConfigError(f"{path}: the process that loads the policies failed")
    return await asyncio.to_thread(unpacked, output)


def environment() -> dict[str, str]:
    """The environment of a process that is to find this very program."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}


def main() -> None:
    """Load the path on the command line and write the outcome to standard output: the other end of `load_apart`."""
    os.nice(LOWER_PRIORITY)
    path, defaults = sys.argv[1:]
    try:
        loaded = load(path, ServiceDefaults(**json.loads(defaults)))
    except ConfigError as error:
        sys.stdout.buffer.write(str(error).encode(errors="replace"))
        sys.stdout.flush()
        sys.exit(_REFUSED)
    sys.stdout.buffer.write(packed(loaded))


def packed(loaded: LoadedPolicies) -> bytes:
    """Documents one by one: while one is unpacked nothing else in the process can run."""
    return pickle.dumps(([pickle.dumps(document) for document in loaded.documents], replace(loaded, documents=())))


def unpacked(data: bytes) -> LoadedPolicies:
    """What another process of ours packed."""
    both: tuple[list[bytes], LoadedPolicies] = pickle.loads(data)  # noqa: S301 - our own process wrote it
    documents, loaded = both
    return replace(loaded, documents=tuple(pickle.loads(one) for one in documents))  # noqa: S301 - as above


def _bare(document: PolicyDocument) -> PolicyDocument:
    spec = {key: value for key, value in document.spec.items() if key != "tests"}
    return replace(document, spec=spec, tests=(), source=Source(document.source.file))
