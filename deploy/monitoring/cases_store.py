"""Cases of the alerts on the store."""

from __future__ import annotations

from deploy.monitoring.case import Case
from deploy.monitoring.rules import Severity

STORE_CASES = (
    Case(
        "StoreAway",
        Severity.PAGE,
        {"relay_store_up": "1x10 0x30"},
        # Restarted, and back within four minutes.
        {"relay_store_up": "1x10 0x3 1x30"},
        pending_at="13m",
        firing_at="17m",
    ),
    Case(
        "StoreDropping",
        Severity.TICKET,
        {'relay_store_dropped_total{kind="decisions"}': "0x10 500x30"},
        # What was lost long ago.
        {'relay_store_dropped_total{kind="decisions"}': "500x60"},
        firing_at="15m",
    ),
)
