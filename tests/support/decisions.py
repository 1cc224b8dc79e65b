"""A decision log with somebody who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.core.decision_chain import DecisionRecord
from relay.decision_log import DecisionLog, DecisionLogPlace

RECORD = DecisionRecord(
    at=1_800_000_000.0,
    session="rs_1",
    tenant="default",
    subject="ab12",
    policy="desk",
    revision="f" * 64,
    leg="downstream",
    event_type="session.update",
    rule="session.instructions",
    verdict="strip",
    mode="enforce",
    content_sha256="0" * 64,
)


class Listener:
    """Remembers what the log tells."""

    def __init__(self) -> None:
        self.written = 0
        self.failures: list[tuple[str, str]] = []
        self.recoveries = 0
        self.heads: list[tuple[str, int, str]] = []
        self.began_failing = 0
        self._news = asyncio.Event()

    def decision_log_written(self, records: int) -> None:
        self.written += records
        self._news.set()

    def decision_log_failed(self, reason: str, detail: str) -> None:
        self.failures.append((reason, detail))
        self._news.set()

    def decision_log_recovered(self) -> None:
        self.recoveries += 1
        self._news.set()

    def decision_log_head(self, chain: str, records: int, head: str) -> None:
        self.heads.append((chain, records, head))
        self._news.set()

    async def until(self, wanted: Callable[[], Any], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not wanted():
                self._news.clear()
                await self._news.wait()

    async def written_at_least(self, records: int) -> None:
        await self.until(lambda: self.written >= records)


def open_log(directory: Path, *, most_queued: int = 20_000, **place: Any) -> tuple[DecisionLog, Listener]:
    listener = Listener()

    def on_failing() -> None:
        listener.began_failing += 1

    log = DecisionLog(DecisionLogPlace(directory, **place), listener, most_queued=most_queued)
    log.on_failing = on_failing
    return log, listener
