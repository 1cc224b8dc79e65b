"""Cases of the alerts on the process itself."""

from __future__ import annotations

from deploy.monitoring.case import Case
from deploy.monitoring.rules import Severity


def _state(ready: str, draining: str, active: str = "0x60") -> dict[str, str]:
    return {"relay_ready": ready, "relay_draining": draining, 'relay_sessions_active{phase="active"}': active}


def _late(within_50_ms: int) -> dict[str, str]:
    buckets = {"0.025": within_50_ms, "0.05": within_50_ms, "0.1": 120, "+Inf": 120}
    return {f'relay_event_loop_lag_seconds_bucket{{le="{bound}"}}': f"0+{each}x60" for bound, each in buckets.items()}


def _memory(megabytes: str, sessions: str) -> dict[str, str]:
    return {"process_resident_memory_bytes": megabytes, 'relay_sessions_active{phase="active"}': sessions}


PROCESS_CASES = (
    Case("RelayDown", Severity.PAGE, {"up": "1x10 0x30"}, {"up": "1x10 0 1x30"}, pending_at="12m", firing_at="15m"),
    Case(
        "RelayNotReady",
        Severity.PAGE,
        _state("1x10 0x30", "0x60"),
        _state("1x10 0x30", "0x10 1x30"),
        pending_at="12m",
        firing_at="15m",
    ),
    Case(
        "DrainStuck",
        Severity.PAGE,
        _state("0x90", "1x90", "4x90"),
        # Draining for as long, and empty.
        _state("0x90", "1x90", "4x10 0x80"),
        pending_at="64m",
        firing_at="70m",
    ),
    Case(
        "CapacityHigh",
        Severity.TICKET,
        {'relay_capacity_ratio{resource="cpu"}': "0.9x60"},
        {'relay_capacity_ratio{resource="cpu"}': "0.7x60"},
        pending_at="8m",
        firing_at="12m",
    ),
    Case("LoopLag", Severity.PAGE, _late(100), _late(120), pending_at="4m", firing_at="10m"),
    Case(
        "LoopLag",
        Severity.PAGE,
        {
            'relay_worker_loop_lag_seconds{worker="2"}': "0.08x60",
            'relay_worker_loop_lag_seconds{worker="1"}': "0.001x60",
        },
        {'relay_worker_loop_lag_seconds{worker="2"}': "0.001x10 0.08 0.001x49"},
        pending_at="4m",
        firing_at="12m",
    ),
    Case(
        "CapacityHigh",
        Severity.TICKET,
        {'relay_capacity_ratio{resource="sessions"}': "0.85x60", 'relay_capacity_ratio{resource="setups"}': "1x60"},
        # A burst of set-ups alone is the admission at work.
        {'relay_capacity_ratio{resource="setups"}': "1x60"},
        pending_at="8m",
        firing_at="12m",
    ),
    Case(
        "WorkersRestarting",
        Severity.TICKET,
        {"relay_worker_restarts_total": "0x10 0+1x30"},
        {"relay_worker_restarts_total": "0x10 0 1x30"},
        firing_at="16m",
    ),
    Case(
        "MemoryGrowing",
        Severity.TICKET,
        # A megabyte a minute for twelve hours, with the same forty sessions.
        _memory("100000000+1000000x720", "40x720"),
        # The same growth, because there are more and more sessions.
        _memory("100000000+1000000x720", "40+1x720"),
        pending_at="6h40m",
        firing_at="10h",
        every="5m",
    ),
)
