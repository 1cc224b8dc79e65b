"""The service as the relay sees it."""

from __future__ import annotations

from deploy.monitoring.panels import HERE, Dashboard, Query, Row, Unit, lines, quantiles
from deploy.monitoring.promql import or_nothing, ratio

_ALL = HERE.per_second("relay_upstream_requests_total")
_LIMITED = HERE.per_second("relay_upstream_requests_total", where='outcome="rate_limited"')
_EXPIRY = 'relay_credential_expiry_timestamp_seconds{instance=~"$instance"}'
_ENDED = HERE.per_second("relay_sessions_ended_total")

UPSTREAM = Dashboard(
    "relay-upstream",
    "Relay: the service",
    "Requests, limits, errors and turns. What is red here is seldom mended on our side.",
    (
        Row(
            "Requests",
            (
                lines(
                    "Requests, by outcome",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_upstream_requests_total", "operation", "outcome"),
                        "{{operation}}: {{outcome}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "How long they take",
                    Unit.SECONDS,
                    *quantiles("relay_upstream_request_seconds", "operation", shares=(0.5, 0.95)),
                ),
                lines(
                    "Refused for the rate limit",
                    Unit.SHARE,
                    Query(ratio(or_nothing(_LIMITED, _ALL), _ALL), "429"),
                    about="Above 2 % ask for more quota.",
                ),
                lines(
                    "Remaining of the limits",
                    Unit.SHARE,
                    Query(
                        'min by (deployment, limit) (relay_upstream_limit_remaining_ratio{instance=~"$instance"})',
                        "{{deployment}}: {{limit}}",
                    ),
                    about="What the service said last, in rate_limits.updated.",
                ),
                lines(
                    "Errors in sessions, by code",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_upstream_errors_total", "deployment", "code"), "{{deployment}}: {{code}}"
                    ),
                ),
                lines(
                    "Sessions the service ended",
                    Unit.PER_SECOND,
                    Query(
                        or_nothing(HERE.per_second("relay_sessions_ended_total", where='side="service"'), _ENDED),
                        "by the service",
                    ),
                    Query(
                        or_nothing(
                            HERE.per_second("relay_sessions_ended_total", where='reason="session_expired"'), _ENDED
                        ),
                        "of these at their longest time",
                    ),
                ),
            ),
        ),
        Row(
            "Pool",
            (
                lines(
                    "Members of the pool",
                    Unit.COUNT,
                    Query('max by (member) (relay_upstream_member_state{instance=~"$instance"})', "{{member}}"),
                    about="0 ready, 1 cooling down, 2 down.",
                    width=6,
                ),
                lines(
                    "Sessions, by member",
                    Unit.COUNT,
                    Query(HERE.value("relay_upstream_member_sessions", "member"), "{{member}}"),
                    width=6,
                    stacked=True,
                ),
                lines(
                    "Failovers, by reason",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_upstream_failovers_total", "member", "reason"), "{{member}}: {{reason}}"
                    ),
                    about="Set-ups that went on to another member. Users felt a delay, no refusal.",
                    width=6,
                ),
                lines(
                    "Requests refused, by member",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second(
                            "relay_upstream_member_requests_total", "member", "outcome", where='outcome!="ok"'
                        ),
                        "{{member}}: {{outcome}}",
                    ),
                    width=6,
                ),
            ),
        ),
        Row(
            "Turns",
            (
                lines(
                    "Answers begin after",
                    Unit.SECONDS,
                    *quantiles("relay_turn_latency_seconds", "deployment", shares=(0.5, 0.95, 0.99)),
                ),
                lines(
                    "Answers, by status",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_turns_total", "deployment", "status"), "{{deployment}}: {{status}}"),
                    about="content_filter: the service's filter cut the answer.",
                    stacked=True,
                ),
                lines(
                    "Interruptions",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_interruptions_total", "deployment"), "{{deployment}}"),
                    about="People who talk over the answer. A rise may mean echo, or answers that are too long.",
                ),
            ),
        ),
        Row(
            "Media",
            (
                lines(
                    "Ways to the service",
                    Unit.PER_SECOND,
                    Query(
                        HERE.per_second("relay_ice_pairs_total", "transport", where='leg="upstream"'), "{{transport}}"
                    ),
                    width=8,
                ),
                lines(
                    "Credentials end",
                    Unit.SECONDS,
                    Query(
                        f"min by (credential) ({_EXPIRY}) - time()",
                        "{{credential}}",
                    ),
                    about="Time that is left.",
                    width=8,
                ),
                lines(
                    "Calls hung up late",
                    Unit.COUNT,
                    Query(HERE.value("relay_late_hang_ups_waiting"), "waiting"),
                    Query(HERE.counted("relay_late_hang_ups_total", "result"), "{{result}}"),
                    about="Calls still open at the service, which cost. given_up: until the service's own limit.",
                    width=8,
                ),
            ),
        ),
    ),
)
