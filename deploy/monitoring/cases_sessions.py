"""Cases of the alerts on sessions: they do not come up, are dropped, or sound bad."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.monitoring.case import Case
from deploy.monitoring.rules import Severity

_NOT_UP = frozenset({("SetupSuccessLow", "page"), ("SetupBudgetBurning", "page")})


def _setups(leg: str, stage: str, reason: str, failed: str, started: str = "0+6x120") -> dict[str, str]:
    return {
        'relay_sessions_started_total{door="ga_calls"}': started,
        f'relay_setup_failures_total{{leg="{leg}",stage="{stage}",reason="{reason}"}}': failed,
    }


def _ends(reason: str, side: str, count: str, ended: str = "0+6x600") -> dict[str, str]:
    return {
        f'relay_sessions_ended_total{{side="{side}",reason="{reason}"}}': count,
        'relay_sessions_ended_total{side="client",reason="client_hung_up"}': ended,
    }


def _histogram(name: str, labels: str, buckets: Mapping[str, int], minutes: int = 90) -> dict[str, str]:
    """Counters of a histogram that each grow by so many a minute."""
    comma = "," if labels else ""
    found = {f'{name}_bucket{{{labels}{comma}le="{bound}"}}': f"0+{each}x{minutes}" for bound, each in buckets.items()}
    return {**found, f"{name}_count{{{labels}}}": f"0+{buckets['+Inf']}x{minutes}"}


def _turns(at_2: int, at_4: int, at_6: int) -> dict[str, str]:
    buckets = {"0.5": 0, "2": at_2, "4": at_4, "6": at_6, "+Inf": 100}
    return _histogram("relay_turn_latency_seconds", 'deployment="gpt-realtime"', buckets)


def _one_way(seconds: int) -> dict[str, str]:
    silent = 'relay_media_one_way_seconds_total{leg="downstream"}'
    return {silent: f"0+{seconds}x60", 'relay_sessions_active{phase="active"}': "10x60"}


SESSION_CASES = (
    Case(
        "SetupSuccessLow",
        Severity.PAGE,
        _setups("upstream", "mint", "service_failed", "0x10 0+1x30"),
        # Whoever closes the page while it connects has not been failed.
        _setups("downstream", "ice", "request_cancelled", "0x10 0+1x30"),
        pending_at="17m",
        firing_at="24m",
        also=frozenset({("SetupBudgetBurning", "page")}),
    ),
    Case(
        "SetupBudgetBurning",
        Severity.PAGE,
        # One session a minute: too few for SetupSuccessLow, and one in three fails.
        _setups(
            "upstream",
            "call",
            "service_timeout",
            "0x60 0 0 1 1 1 2 2 2 3 3 3 4 4 4 5 5 5 6 6 6 7 7 7 8 8 8 9 9 9",
            "0+1x120",
        ),
        # As many failures, all long ago: the short windows have forgotten them.
        _setups("upstream", "call", "service_timeout", "0 1 2 3 4 5 6 7x120", "0+20x130"),
        firing_at="88m",
    ),
    Case(
        "SetupBudgetBurning",
        Severity.TICKET,
        # One in a hundred, for ten hours.
        _setups("upstream", "ice", "service_unreachable", " ".join(f"{n}x19" for n in range(30)), "0+5x600"),
        _setups("upstream", "ice", "service_unreachable", " ".join(f"{n}x99" for n in range(6)), "0+5x600"),
        firing_at="9h",
        every="5m",
    ),
    Case(
        "DropBudgetBurning",
        Severity.PAGE,
        _ends("relay_failed", "relay", "0x60 0+1x60"),
        # An operator who ends sessions, and a drain, drop nobody.
        _ends("relay_draining", "relay", "0x60 0+1x60"),
        firing_at="75m",
    ),
    Case(
        "DropBudgetBurning",
        Severity.TICKET,
        _ends("worker_lost", "relay", " ".join(f"{n}x99" for n in range(6))),
        _ends("worker_lost", "relay", "0x599", ended="0+6x600"),
        firing_at="9h",
        every="5m",
    ),
    Case(
        "ClientIceFailing",
        Severity.PAGE,
        _setups("downstream", "ice", "client_unreachable", "0x10 0+1x60"),
        # The same share, of four sessions in all: one person with a bad network.
        _setups("downstream", "ice", "client_unreachable", "0x10 1x60", "0x7 1 2 3 4x60"),
        pending_at="24m",
        firing_at="30m",
        also=_NOT_UP,
    ),
    Case(
        "ServiceMediaLost",
        Severity.PAGE,
        _ends("service_lost", "service", "0x10 0+2x30"),
        _ends("service_lost", "service", "0x10 0 1x30"),
        firing_at="16m",
    ),
    Case(
        "ServiceMediaLost",
        Severity.PAGE,
        _setups("upstream", "ice", "service_unreachable", "0x10 0+1x30", "0+100x60"),
        _setups("upstream", "ice", "service_unreachable", "0x10 0 1x30", "0+100x60"),
        firing_at="16m",
    ),
    Case(
        # Nothing comes from the browsers while the service sounds, in 9 of 10 sessions.
        "OneWayAudio",
        Severity.PAGE,
        _one_way(540),
        _one_way(180),
        pending_at="8m",
        firing_at="15m",
    ),
    Case(
        "TurnLatencyHigh",
        Severity.TICKET,
        _turns(50, 100, 100),
        _turns(97, 100, 100),
        pending_at="10m",
        firing_at="20m",
    ),
    Case(
        "TurnLatencyHigh",
        Severity.PAGE,
        _turns(50, 80, 100),
        {'relay_turn_latency_seconds_count{deployment="a"}': "0+9x60"},
        pending_at="10m",
        firing_at="20m",
        also=frozenset({("TurnLatencyHigh", "ticket")}),
    ),
    Case(
        "MediaLossHigh",
        Severity.TICKET,
        _histogram(
            "relay_media_loss_ratio",
            'leg="downstream",direction="in"',
            {"0.02": 80, "0.05": 85, "0.1": 100, "+Inf": 100},
        ),
        _histogram(
            "relay_media_loss_ratio",
            'leg="downstream",direction="in"',
            {"0.02": 80, "0.05": 95, "0.1": 100, "+Inf": 100},
        ),
        pending_at="8m",
        firing_at="15m",
    ),
    Case(
        "JitterHigh",
        Severity.TICKET,
        _histogram("relay_media_jitter_seconds", 'leg="upstream"', {"0.03": 80, "0.05": 90, "0.1": 100, "+Inf": 100}),
        _histogram("relay_media_jitter_seconds", 'leg="upstream"', {"0.03": 80, "0.05": 98, "0.1": 100, "+Inf": 100}),
        pending_at="8m",
        firing_at="15m",
    ),
    Case(
        "ForwardDelayHigh",
        Severity.TICKET,
        _histogram(
            "relay_media_forward_seconds", 'leg="downstream"', {"0.01": 900, "0.025": 950, "0.05": 1000, "+Inf": 1000}
        ),
        _histogram(
            "relay_media_forward_seconds", 'leg="downstream"', {"0.01": 995, "0.025": 1000, "0.05": 1000, "+Inf": 1000}
        ),
        pending_at="8m",
        firing_at="15m",
    ),
)
