"""What is done with the store once an hour: old rows are deleted, and the log is told how far the audit log came."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import NoReturn

from relay.core.stored import StoreError
from relay.store import Store
from relay.telemetry.store import StoreTelemetry

_HOUR_SECONDS = 3_600.0
_RETRY_SECONDS = 60.0


async def keep_up(store: Store, telemetry: StoreTelemetry) -> NoReturn:
    """Do it now and once an hour, for ever; a store that is away is asked again after a minute."""
    while True:
        try:
            await look_after(store, telemetry)
        except StoreError:
            # Told by the store itself.
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            await asyncio.sleep(_HOUR_SECONDS)


async def look_after(store: Store, telemetry: StoreTelemetry) -> None:
    """Do it once. Raises StoreError."""
    telemetry.old_deleted(**asdict(await store.retention.delete_old()))
    head = await store.audit.head()
    if head is not None:
        telemetry.audit_head(head.number, head.hash)
