"""The first page in every incident: are users served, and who ends their sessions."""

from __future__ import annotations

from deploy.monitoring.objectives import DROPS, SETUP
from deploy.monitoring.panels import HERE, Dashboard, Query, Row, Unit, lines, number, quantiles
from deploy.monitoring.promql import Scope

_HOUR = Scope("1h", 'instance=~"$instance"')

OVERVIEW = Dashboard(
    "relay-overview",
    "Relay: overview",
    "Are users served? Read from left to right; the other five dashboards say why not.",
    (
        Row(
            "Promises",
            (
                number(
                    "Set-ups that succeed, last hour",
                    Unit.SHARE,
                    f"1 - ({SETUP.share(_HOUR)})",
                    about="Promised: 99.5 %. What clients gave up by themselves does not count.",
                    bounds=(0.999, 0.995),
                ),
                number(
                    "Sessions we dropped, last hour",
                    Unit.SHARE,
                    DROPS.share(_HOUR),
                    about="Promised: below 0.1 %. Ends that are neither side's doing nor an operator's.",
                    bounds=(0.0005, 0.001),
                ),
                number(
                    "Added delay, p99",
                    Unit.SECONDS,
                    _HOUR.quantile(0.99, "relay_media_forward_seconds"),
                    about="What the relay itself adds to a packet's way. Promised: below 10 ms.",
                    bounds=(0.01, 0.02),
                ),
                number(
                    "Active sessions",
                    Unit.COUNT,
                    HERE.value("relay_sessions_active", where='phase="active"'),
                ),
                number(
                    "Capacity used",
                    Unit.SHARE,
                    'max(relay_capacity_ratio{instance=~"$instance",resource!="setups"})',
                    about="The fullest resource of the fullest relay; at 1 new sessions are refused.",
                    bounds=(0.7, 0.9),
                ),
                number(
                    "Relays ready",
                    Unit.COUNT,
                    HERE.value("relay_ready"),
                    about="Relays that would take a session now. Compare with how many you run.",
                ),
            ),
        ),
        Row(
            "Sessions",
            (
                lines(
                    "Sessions by phase",
                    Unit.COUNT,
                    Query(HERE.value("relay_sessions_active", "phase"), "{{phase}}"),
                    stacked=True,
                ),
                lines(
                    "Ended, by reason",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_sessions_ended_total", "side", "reason") + " > 0", "{{side}}: {{reason}}"
                    ),
                    about="The first panel in every incident. Each reason: docs/reference/errors.md.",
                    stacked=True,
                ),
                lines(
                    "Refused at the door, by code",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_admission_total", "reason", where='result="refused"') + " > 0",
                        "{{reason}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Answers begin after",
                    Unit.SECONDS,
                    *quantiles("relay_turn_latency_seconds"),
                    about="From the end of speech, as the service tells it, to the first packet of the answer.",
                ),
                lines(
                    "Events the policy refused",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_policy_decisions_total", "verdict", where='mode="enforce"'),
                        "{{verdict}}",
                    ),
                ),
                lines(
                    "Requests to the service that failed",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_upstream_requests_total", "operation", "outcome", where='outcome!="ok"')
                        + " > 0",
                        "{{operation}}: {{outcome}}",
                    ),
                ),
            ),
        ),
        Row(
            "What runs",
            (
                lines(
                    "Draining", Unit.YES_NO, Query('relay_draining{instance=~"$instance"}', "{{instance}}"), width=12
                ),
                lines(
                    "Versions",
                    Unit.COUNT,
                    Query(HERE.value("relay_build_info", "version"), "{{version}}"),
                    width=12,
                    about="How many relays run which version.",
                ),
            ),
        ),
    ),
)
