"""A process that stays ready to check a set of policies: starting one takes longer than an administrator should wait.

One request at a time: a frame of JSON with the files goes down its standard input, a frame with the outcome comes up.
Each frame is its length in four bytes, highest first, then so many bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import BinaryIO

from relay.core.policy_check import Severity
from relay.core.policy_resolve import ServiceDefaults
from relay.core.revision_files import Finding
from relay.errors import ConfigError
from relay.policy_loading import LOWER_PRIORITY, LoadedPolicies, environment, fit, packed, unpacked
from relay.policy_revision import check_files, findings

CHECK_SECONDS = 60.0
MOST_WAITING = 16
_CHILD = "from relay.policy_loader import main; main()"
_LENGTH = struct.Struct(">I")


class LoaderBusy(Exception):  # noqa: N818 - a refusal that a door turns into 503
    """More sets wait to be checked than may."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a set. `loaded` None: it cannot be put in force, and `errors` says why in a log's words."""

    findings: tuple[Finding, ...]
    errors: tuple[str, ...] = ()
    loaded: LoadedPolicies | None = None


class PolicyLoader:
    """Checks sets in a process of its own, which is started when first needed and again after it was lost.

    At most `most` callers wait for it; one whose set takes longer than `seconds`, or who goes away, has it ended.
    """

    def __init__(self, defaults: ServiceDefaults, seconds: float = CHECK_SECONDS, most: int = MOST_WAITING) -> None:
        self._defaults = defaults
        self._seconds = seconds
        self._most = most
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._process: Process | None = None

    async def load(self, files: Mapping[str, str]) -> Outcome:
        """Read, lint and test a set. Raises LoaderBusy, and ConfigError if it came to no outcome."""
        if self._waiting >= self._most:
            raise LoaderBusy
        self._waiting += 1
        try:
            async with self._turn:
                # Not before its turn: those who wait hold their files once, not twice.
                request = await asyncio.to_thread(_request, files, self._defaults)
                answer = await self._ask(request)
        finally:
            self._waiting -= 1
        return await asyncio.to_thread(_outcome, answer)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, request: bytes) -> bytes:
        answered = False
        try:
            async with asyncio.timeout(self._seconds):
                process = self._process = self._process or await _start()
                assert process.stdin is not None  # noqa: S101  both are pipes
                assert process.stdout is not None  # noqa: S101
                process.stdin.write(_LENGTH.pack(len(request)) + request)
                await process.stdin.drain()
                (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
                answer = await process.stdout.readexactly(length)
            answered = True
        except TimeoutError:
            raise ConfigError(f"the policies were not checked within {self._seconds:g} seconds") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ConfigError("the process that checks policies failed") from None
        finally:
            if not answered:
                await asyncio.shield(self.close())
        return answer


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, stdin=PIPE, stdout=PIPE, env=environment()
    )


def _request(files: Mapping[str, str], defaults: ServiceDefaults) -> bytes:
    return json.dumps([dict(files), asdict(defaults)]).encode()


def _outcome(answer: bytes) -> Outcome:
    found, errors, loaded = pickle.loads(answer)  # noqa: S301 - our own process wrote it
    return Outcome(found, errors, None if loaded is None else unpacked(loaded))


def main() -> None:
    """Answer requests until the relay closes the pipe: the other end of `PolicyLoader`."""
    os.nice(LOWER_PRIORITY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the relay says when to end
    while (request := _read(sys.stdin.buffer)) is not None:
        answer = _answer(request)
        sys.stdout.buffer.write(_LENGTH.pack(len(answer)) + answer)
        sys.stdout.flush()


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def _answer(request: bytes) -> bytes:
    files, said = json.loads(request)
    defaults = ServiceDefaults(**said)
    try:
        checked = check_files(files, defaults.regions)
        loaded = None if checked.errors else packed(fit(checked, defaults))
    except Exception as error:  # noqa: BLE001 - whatever a document does to the checker is a fault of this set alone
        words = f"{type(error).__name__} while it was checked"
        return pickle.dumps(((Finding("", 0, "", words, Severity.ERROR),), (words,), None))
    return pickle.dumps((findings(checked), checked.public_errors, loaded))
