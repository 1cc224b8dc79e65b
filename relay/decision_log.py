"""The decision log: hash-chained lines, written to files by a thread of its own so that sound never waits for a disk.

A process writes one chain. Lines are handed to the operating system at once, and to the disk (fsync) every
`sync_seconds`, when a file is full and at the close. The relay never deletes a file that holds a record.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import relay
from relay.core.decision_chain import Chain, DecisionRecord, Kind
from relay.decision_files import ChainFiles
from relay.errors import ConfigError

_MOST_QUEUED = 20_000
_BATCH = 500
_STEP_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_HEAD_RECORDS = 1_000
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DecisionLogPlace:
    """Where the log goes; `head_seconds` is how often the chain's head is told to the ordinary log."""

    directory: Path
    file_bytes: int = 67_108_864
    sync_seconds: float = 1.0
    head_seconds: float = 60.0


class DecisionLogListener(Protocol):
    """Who hears of the log's state, in the event loop."""

    def decision_log_written(self, records: int) -> None:
        """Hear that so many more records are in the file."""
        ...

    def decision_log_failed(self, reason: str, detail: str) -> None:
        """Hear that a write failed (`write`) or a record was lost (`overflow`)."""
        ...

    def decision_log_recovered(self) -> None:
        """Hear that records are written again."""
        ...

    def decision_log_head(self, chain: str, records: int, head: str) -> None:
        """Hear that the chain has so many records, and the hash of the last."""
        ...


class DecisionLog:
    """Takes records in the event loop and writes them in a thread. Opening raises ConfigError.

    `on_failing` is called, in the loop, whenever the log begins to fail.
    """

    def __init__(
        self,
        place: DecisionLogPlace,
        listener: DecisionLogListener,
        clock: Callable[[], float] = time.time,
        most_queued: int = _MOST_QUEUED,
    ) -> None:
        """`clock` gives Unix seconds."""
        self.on_failing: Callable[[], None] = lambda: None
        self._listener = listener
        self._clock = clock
        self._failing = False
        self._loop = asyncio.get_running_loop()
        self._queue: queue.Queue[DecisionRecord] = queue.Queue(most_queued)
        self._lost = 0  # counted in the loop, read in the thread
        self._lost_told = 0
        self._unwritable = 0
        self._told_well = True
        self._closing = threading.Event()
        self._writer = _Writer(place)
        try:
            place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer.add(Kind.START, clock(), _process())
            self._writer.flush()
        except OSError as error:
            problem = f"decision_log.directory: {place.directory} cannot be written: {error.strerror}"
            raise ConfigError(problem) from None
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether a record could not be written and none has been since, or nobody is there to write one."""
        return self._failing or not self._thread.is_alive()

    @property
    def queue_depth(self) -> int:
        """How many records wait to be written."""
        return self._queue.qsize()

    def write(self, record: DecisionRecord) -> None:
        """Take a record; never waits. One above the bound is lost, and the chain will say so."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._lost += 1
            self._failed("overflow", "more records wait than are kept")

    async def close(self) -> None:
        """Write what waits, end the chain, tell its head; a log that cannot be written is given up after one try."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)
        await asyncio.sleep(0)  # what the thread told last is heard first

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except BaseException as error:
            self._tell(self._failed, "write", f"the writer ended with {type(error).__name__}")
            raise

    def _write_until_closed(self) -> None:
        while not self._closing.is_set():
            self._collect(_STEP_SECONDS)
            if not self._flush():
                self._closing.wait(_RETRY_SECONDS)
        # One pass more than there is to write: what was pending from a failure comes first.
        while True:
            more = self._collect(0)
            if not self._flush():
                return
            if not more:
                break
        self._writer.add(Kind.END, self._clock(), {})
        self._flush(last=True)

    def _collect(self, wait: float) -> bool:
        """Take what waits into the chain, unless older lines still wait for the disk: the queue has a bound."""
        if self._writer.in_doubt:
            return True
        taken = 0
        try:
            record = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            while True:
                taken += 1
                self._add(record)
                if taken == _BATCH:
                    break
                record = self._queue.get_nowait()
        except queue.Empty:
            pass
        if (lost := self._lost + self._unwritable) != self._lost_told:
            self._writer.add(Kind.LOST, self._clock(), {"records": lost - self._lost_told})
            self._lost_told = lost
        return taken > 0

    def _add(self, record: DecisionRecord) -> None:
        try:
            self._writer.add(Kind.DECISION, record.at, record.fields())
        except (ArithmeticError, TypeError, ValueError, OSError) as error:
            # One record that has no form must not keep all others from being written; it is lost, and told to be.
            self._unwritable += 1
            self._tell(self._failed, "write", f"a record has no form: {type(error).__name__}")

    def _flush(self, *, last: bool = False) -> bool:
        try:
            written = self._writer.flush(last=last)
        except OSError as error:
            self._told_well = False
            self._tell(self._failed, "write", error.strerror or type(error).__name__)
            return False
        if written or not self._told_well:
            self._told_well = True
            self._tell(self._written, written)
        if (head := self._writer.head_to_tell(last=last)) is not None:
            self._tell(self._listener.decision_log_head, *head)
        return True

    def _tell(self, hear: Callable[..., None], *facts: object) -> None:
        self._loop.call_soon_threadsafe(hear, *facts)

    # --- in the loop -------------------------------------------------------------------------------------------------

    def _failed(self, reason: str, detail: str) -> None:
        self._listener.decision_log_failed(reason, detail)
        if not self._failing:
            self._failing = True
            self.on_failing()

    def _written(self, records: int) -> None:
        self._listener.decision_log_written(records)
        if self._failing:
            self._failing = False
            self._listener.decision_log_recovered()


class _Writer:
    """The chain and its files; `pending` lines are in the chain and not yet in a file."""

    def __init__(self, place: DecisionLogPlace) -> None:
        self.pending: list[bytes] = []
        self._place = place
        self._chain = Chain(f"{datetime.now(UTC):%Y%m%dt%H%M%Sz}-{secrets.token_hex(4)}")
        self._files = ChainFiles(place.directory, place.file_bytes, self._chain.name)
        now = time.monotonic()
        self._next_sync, self._next_head = now + place.sync_seconds, now + place.head_seconds
        self._told_length = 0
        self._untold = 0

    @property
    def in_doubt(self) -> bool:
        """Whether there are lines that are in no file, or that a failed sync may have lost."""
        return bool(self.pending) or self._files.doubtful

    def add(self, kind: Kind, at: float, fields: dict[str, Any]) -> None:
        """Put a record into the chain; `at` is Unix seconds."""
        timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.pending.append(self._chain.line(kind, timestamp, fields))

    def flush(self, *, last: bool = False) -> int:
        """Write what is pending, sync when that is due; return how many more are written. May raise OSError."""
        again = self._files.doubtful
        if self.in_doubt:
            self._files.write(self.pending)
            self._untold += len(self.pending)
            self.pending = []
        if last:
            self._files.close()
        elif (now := time.monotonic()) >= self._next_sync or not self._told_length or again:
            # What is written again is synced at once: before that nobody knows whether the disk is well.
            self._files.sync()
            self._next_sync = now + self._place.sync_seconds
        count, self._untold = self._untold, 0
        return count

    def head_to_tell(self, *, last: bool) -> tuple[str, int, str] | None:
        """Name, length and head of the chain if they are due to be told."""
        length, now = self._chain.length, time.monotonic()
        grown = length - self._told_length
        if not grown or not (last or grown >= _HEAD_RECORDS or now >= self._next_head):
            return None
        self._told_length, self._next_head = length, now + self._place.head_seconds
        return self._chain.name, length, self._chain.head


def _process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "relay": relay.__version__}
