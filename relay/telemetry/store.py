"""What is told of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.stored import StoreOperation, StoreQueue

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from relay.core.stored import StoreError
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget


class StoreTelemetry:
    """The facts of the store."""

    def __init__(self, families: Families, log: FilteringBoundLogger, lines: LineBudget) -> None:
        self._log = log
        self._lines = lines
        self._is_up = False
        self._up = families.gauge("relay_store_up", "Whether the store answered when it was asked last")
        self._failures = families.counter(
            "relay_store_failures_total",
            "Questions that the store did not answer",
            "operation",
            each=[[operation.value] for operation in StoreOperation],
        )
        self._dropped = families.counter(
            "relay_store_dropped_total",
            "Rows that were not kept",
            "kind",
            each=[[kind.value] for kind in StoreQueue],
        )

    @property
    def is_up(self) -> bool:
        """Whether the store answered when it was asked last."""
        return self._is_up

    def opened(self, kind: str) -> None:
        """Record that the store is open."""
        self._is_up = True
        self._up.set(1)
        self._log.info("store_opened", kind=kind)

    def asked(self, operation: StoreOperation, error: StoreError | None) -> None:
        """Record that the store was asked, and why it did not answer, if it did not."""
        was_up, self._is_up = self._is_up, error is None
        self._up.set(self._is_up)
        if error is not None:
            self._failures.labels(operation.value).inc()
        if was_up is not self._is_up and (suppressed := self._lines.spend()) is not None:
            if error is None:
                self._log.warning("store_recovered", **suppressed)
            else:
                self._log.error("store_failed", operation=operation, detail=str(error), **suppressed)

    def dropped(self, kind: StoreQueue, rows: int) -> None:
        """Record that rows are lost to the store: too many waited, or it did not take them."""
        self._dropped.labels(kind.value).inc(rows)
        if (suppressed := self._lines.spend()) is not None:
            self._log.error("store_dropped", kind=kind, rows=rows, **suppressed)

    def old_deleted(self, **rows: int) -> None:
        """Record how many old rows were deleted, by table."""
        if any(rows.values()):
            self._log.info("store_old_deleted", **rows)

    def audit_head(self, number: int, head: str) -> None:
        """Keep, where nobody who can write the store can change it, how far the audit log came."""
        self._log.info("audit_head", rows=number, head=head)
