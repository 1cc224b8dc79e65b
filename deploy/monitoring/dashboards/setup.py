"""Where set-ups get stuck, stage by stage and leg by leg."""

from __future__ import annotations

from deploy.monitoring.objectives import WANTED
from deploy.monitoring.panels import HERE, Dashboard, Panel, Query, Row, Unit, lines, quantiles
from deploy.monitoring.promql import or_nothing, ratio

_STAGES = (
    ("downstream", "ice", "A browser reaches our media port. Blocked UDP shows here."),
    ("downstream", "dtls", "Handshake with the browser."),
    ("downstream", "channel", "The browser's data channel is open."),
    ("upstream", "mint", "The service's HTTP answer with a key."),
    ("upstream", "call", "The service's HTTP answer with its SDP."),
    ("upstream", "ice", "We reach the service's media address. A closed egress shows here."),
    ("upstream", "dtls", "Handshake with the service."),
    ("upstream", "channel", "The data channel to the service is open."),
    ("upstream", "policy", "The service confirmed the policy; now media passes."),
)
_STARTED = HERE.per_second("relay_sessions_started_total")
_FAILED = HERE.per_second("relay_setup_failures_total", where=f'reason!~"{WANTED}"')


def _stage(leg: str, stage: str, about: str) -> Panel:
    where = f'leg="{leg}",stage="{stage}"'
    return lines(
        f"{leg}: {stage}", Unit.SECONDS, *quantiles("relay_setup_stage_seconds", where=where), about=about, width=8
    )


SETUP_FUNNEL = Dashboard(
    "relay-setup",
    "Relay: set-up funnel",
    "From the click to sound. Which stage is slow, which one fails, on which leg.",
    (
        Row(
            "Outcome",
            (
                lines(
                    "Started, and failed",
                    Unit.PER_SECOND,
                    Query(_STARTED, "started"),
                    Query(or_nothing(_FAILED, _STARTED), "failed"),
                    width=8,
                ),
                lines(
                    "Share that fails",
                    Unit.SHARE,
                    Query(ratio(or_nothing(_FAILED, _STARTED), _STARTED), "failed"),
                    about="Promised: below 0.5 %.",
                    width=8,
                ),
                lines(
                    "Failed, by leg, stage and reason",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_setup_failures_total", "leg", "stage", "reason") + " > 0",
                        "{{leg}} {{stage}}: {{reason}}",
                    ),
                    width=8,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "How far they come",
            (
                lines(
                    "Legs that reach a stage",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_setup_stage_seconds_count", "leg", "stage"), "{{leg}} {{stage}}"),
                    width=12,
                    about="A funnel: a line far below the one before it is where set-ups are lost.",
                ),
                lines(
                    "Started, by door",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_sessions_started_total", "door"), "{{door}}"),
                    width=12,
                ),
            ),
        ),
        Row("Time to reach a stage", tuple(_stage(*each) for each in _STAGES)),
        Row(
            "Early, and again",
            (
                lines(
                    "Sessions begun before the click",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_early_sessions_total", "outcome"), "{{outcome}}"),
                    width=8,
                    about="With upstream.early only.",
                ),
                lines(
                    "Clients that came back",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_session_reattached_total", "result"), "{{result}}"),
                    width=8,
                ),
                lines("Time to come back", Unit.SECONDS, *quantiles("relay_session_reattach_seconds"), width=8),
            ),
        ),
    ),
)
