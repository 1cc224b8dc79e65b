"""What sessions and policies leave behind, put together: the decision log, the store, and what writes into both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from relay.config import Settings
from relay.decision_log import DecisionLog, DecisionLogPlace
from relay.store import RetentionDays, Store, open_store
from relay.store_writer import StoreWriter
from relay.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class RecordKeeping:
    """Where records go; `log` is None where no decision log is wanted."""

    log: DecisionLog | None
    store: Store

    def can_record(self) -> bool:
        """Whether what is decided now will be in the decision log, if there is one."""
        return self.log is None or not self.log.failing


@contextlib.asynccontextmanager
async def record_keeping(settings: Settings, telemetry: Telemetry) -> AsyncIterator[RecordKeeping]:
    """Keep what telemetry is told of; on leaving, what waits is written before anything is closed.

    Raises ConfigError for a place that cannot be written.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = _decision_log(settings, telemetry)
        if log is not None:
            stack.push_async_callback(log.close)
        store = await _open_store(settings, telemetry)
        stack.push_async_callback(store.close)
        writer = StoreWriter(store, telemetry.store.dropped)
        stack.push_async_callback(writer.close)
        telemetry.sessions.keep(writer.session_ended)
        telemetry.decisions.keep(writer.decided)
        yield RecordKeeping(log, store)


def _decision_log(settings: Settings, telemetry: Telemetry) -> DecisionLog | None:
    wanted = settings.decision_log
    if wanted.directory is None:
        return None
    place = DecisionLogPlace(Path(wanted.directory), wanted.file_bytes, wanted.sync_seconds, wanted.head_seconds)
    log = DecisionLog(place, telemetry.decisions)
    telemetry.decisions.keep(log.write, lambda: log.queue_depth)
    return log


async def _open_store(settings: Settings, telemetry: Telemetry) -> Store:
    wanted = settings.store
    days = RetentionDays(wanted.sessions_days, wanted.decisions_days, wanted.usage_days, wanted.audit_days)
    store = await open_store(settings.store_url.reveal(), days)
    telemetry.store.opened(store.kind)
    store.listen(telemetry.store.asked)
    return store
