"""What policies decide, whether it is recorded, and what it all costs."""

from __future__ import annotations

from deploy.monitoring.panels import HERE, Dashboard, Query, Row, Unit, lines, number
from deploy.monitoring.promql import Scope

_DAY = Scope("24h", 'instance=~"$instance"')


def _decisions(*by: str, mode: str) -> str:
    return HERE.per_second("relay_policy_decisions_total", *by, where=f'mode="{mode}"')


GOVERNANCE = Dashboard(
    "relay-governance",
    "Relay: governance and cost",
    "Decisions of policies, the record of them, tokens and estimated cost.",
    (
        Row(
            "Now",
            (
                number(
                    "Kill switch", Unit.YES_NO, 'max(relay_policy_kill_switch{instance=~"$instance"})', bounds=(1, 1)
                ),
                number(
                    "Drift, last day",
                    Unit.COUNT,
                    _DAY.counted("relay_policy_drift_total"),
                    about="Times the service ran something else than the policy. Anything but 0 wants looking at.",
                    bounds=(1, 1),
                ),
                number(
                    "Policies in force",
                    Unit.COUNT,
                    'count(count by (policy) (relay_policy_info{instance=~"$instance"}))',
                ),
                number(
                    "Versions of policies",
                    Unit.COUNT,
                    'max(count by (policy) (count by (policy, hash12) (relay_policy_info{instance=~"$instance"})))',
                    about="More than 1: relays run different revisions of one policy.",
                    bounds=(2, 2),
                ),
                number(
                    "Policies loaded",
                    Unit.DATE,
                    'min(relay_policy_loaded_timestamp_seconds{instance=~"$instance"}) * 1000',
                    about="On the relay that loaded them longest ago.",
                ),
                number(
                    "Estimated cost, last day",
                    Unit.DOLLARS,
                    _DAY.counted("relay_cost_estimate_usd_total"),
                    about="From cost.prices and what the service says was used: an estimate, no bill.",
                ),
            ),
        ),
        Row(
            "Decisions",
            (
                lines(
                    "Enforced, by rule",
                    Unit.PER_SECOND,
                    Query(_decisions("rule", "verdict", mode="enforce"), "{{rule}}: {{verdict}}"),
                    stacked=True,
                ),
                lines(
                    "Only watched (audit), by rule",
                    Unit.PER_SECOND,
                    Query(_decisions("rule", "verdict", mode="audit"), "{{rule}}: {{verdict}}"),
                    stacked=True,
                    about="What would have been refused or changed if these policies were enforced.",
                ),
                lines(
                    "By policy",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_policy_decisions_total", "policy", "mode"), "{{policy}} {{mode}}"),
                ),
                lines(
                    "Reloads",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_policy_reload_total", "result"), "{{result}}"),
                    Query(HERE.value("relay_policy_pending"), "relays with changes that are refused"),
                    about="refused: the last good policies stay.",
                ),
                lines(
                    "Running sessions given a new policy",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_policy_live_total", "result"), "{{result}}"),
                    about="confirmed follows sent, or the session ends.",
                ),
                lines(
                    "No policy found",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_policy_unresolved_total", "reason"), "{{reason}}"),
                ),
            ),
        ),
        Row(
            "Quotas",
            (
                lines(
                    "Refused for a quota",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_quota_refused_total", "scope", "limit"), "{{scope}}: {{limit}}"),
                ),
                lines(
                    "Ended for a quota",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_quota_ended_total", "limit"), "{{limit}}"),
                ),
                lines(
                    "Quotas that could not be counted",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_quota_store_failures_total", "what"), "{{what}}"),
                    about="The store or Redis did not answer.",
                ),
            ),
        ),
        Row(
            "Record",
            (
                lines(
                    "Records written", Unit.PER_SECOND, Query(HERE.per_second("relay_audit_records_total"), "records")
                ),
                lines(
                    "Writes that failed, records lost",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_audit_failures_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "Records that wait",
                    Unit.COUNT,
                    Query('max by (instance) (relay_audit_queue_depth{instance=~"$instance"})', "{{instance}}"),
                    about="20,000 are kept; then records are lost.",
                ),
                lines(
                    "Credentials refused",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_auth_failures_total", "method"), "{{method}}"),
                    width=12,
                ),
                lines(
                    "Events, by verdict",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_channel_events_total", "leg", "verdict"), "{{leg}}: {{verdict}}"),
                    width=12,
                ),
            ),
        ),
        Row(
            "Store and administrators",
            (
                lines(
                    "Store answers",
                    Unit.YES_NO,
                    Query('min by (instance) (relay_store_up{instance=~"$instance"})', "{{instance}}"),
                    about="As of the last question; it is asked every 15 s at least.",
                    width=6,
                ),
                lines(
                    "Questions without an answer",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_store_failures_total", "operation"), "{{operation}}"),
                    about="By what was asked for. The log has the database's own word: store_failed.",
                    width=6,
                ),
                lines(
                    "Rows lost to the store",
                    Unit.COUNT,
                    Query(HERE.counted("relay_store_dropped_total", "kind"), "{{kind}}"),
                    about="Too many waited, the store refused them, or the relay ended first. Never comes back.",
                    width=6,
                ),
                lines(
                    "Requests of administrators",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_admin_requests_total", "route", "status"), "{{route}}: {{status}}"),
                    about="401 and 403: somebody without the right key or role.",
                    width=6,
                ),
            ),
        ),
        Row(
            "Identity",
            (
                lines(
                    "Tokens refused",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_oidc_refused_total", "section", "reason"), "{{section}}: {{reason}}"),
                ),
                lines(
                    "Issuers asked for their keys",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_oidc_fetches_total", "section", "result"), "{{section}}: {{result}}"),
                ),
                lines(
                    "Age of keys",
                    Unit.SECONDS,
                    Query('max by (section) (relay_oidc_keys_age_seconds{instance=~"$instance"})', "{{section}}"),
                    Query('max(relay_stored_keys_age_seconds{instance=~"$instance"})', "keys of the store"),
                    about="An issuer's may be a day older than jwks_seconds, those of the store 60 s.",
                ),
            ),
        ),
        Row(
            "Cost",
            (
                lines(
                    "Tokens",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_tokens_total", "direction", "kind"), "{{direction}}: {{kind}}"),
                    stacked=True,
                ),
                lines(
                    "Tokens, by deployment",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_tokens_total", "deployment"), "{{deployment}}"),
                ),
                lines(
                    "Estimated cost in an hour",
                    Unit.DOLLARS,
                    Query(f"3600 * {HERE.per_second('relay_cost_estimate_usd_total', 'deployment')}", "{{deployment}}"),
                    about="At the pace of this moment.",
                ),
                lines(
                    "Speech transcribed",
                    Unit.SECONDS,
                    Query(HERE.per_second("relay_transcription_seconds_total", "deployment"), "{{deployment}}"),
                    about="Seconds of speech in a second, of transcription that is billed by time.",
                ),
            ),
        ),
    ),
)
