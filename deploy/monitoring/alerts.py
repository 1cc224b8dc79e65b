"""Every alert that is not about an objective's allowance, by what it is about."""

from __future__ import annotations

from deploy.monitoring.objectives import WANTED
from deploy.monitoring.promql import Scope, or_nothing, ratio
from deploy.monitoring.rules import Alert, Severity
from deploy.monitoring.timing import Timing

FLEET = ("job",)
PROCESS = ("job", "instance")
RELAYS = 'job="relay"'
SESSIONS = "sum by (job, instance) (relay_sessions_active)"
QUEUE_BOUND = 16_000  # 80 % of the records that may wait (relay/decision_log.py)
DRAIN_HOLD = "65m"
"""Longer than `limits.drain_seconds`; raise it with that setting."""


def session_alerts(timing: Timing) -> list[Alert]:
    """Sessions that do not come up, or whose media does not flow."""
    ten, five = Scope(timing.window("10m"), kept=FLEET), Scope(timing.window("5m"), kept=FLEET)
    started = ten.counted("relay_sessions_started_total")
    failed = ten.counted("relay_setup_failures_total", where=f'reason!~"{WANTED}"')
    no_ice = ten.counted("relay_setup_failures_total", where='leg="downstream",stage="ice"')
    lost = five.counted("relay_sessions_ended_total", where='reason="service_lost"')
    unreached = five.counted("relay_setup_failures_total", where='leg="upstream",stage="ice"')
    active, few = five.value("relay_sessions_active", where='phase="active"'), timing.needed(5)
    return [
        Alert(
            "SetupSuccessLow",
            Severity.PAGE,
            "{{ $value | humanizePercentage }} of the sessions of the last ten minutes did not come up.",
            f"{ratio(failed, started)} > 0.01 and {failed} >= {few} and {started} >= {timing.needed(20)}",
            "2m",
        ),
        Alert(
            "ClientIceFailing",
            Severity.PAGE,
            "{{ $value | humanizePercentage }} of browsers cannot reach the media port: a network path changed.",
            f"{ratio(no_ice, started)} > 0.05 and {no_ice} >= {few}",
            "10m",
        ),
        Alert(
            "ServiceMediaLost",
            Severity.PAGE,
            "Media to or from the service was lost, or never came up, {{ $value | humanize }} times in five minutes.",
            f"{or_nothing(lost, unreached)} + {or_nothing(unreached, lost)} >= {timing.needed(4)}"
            f" or {lost} >= {timing.needed(4)}",
            "",
        ),
        Alert(
            "OneWayAudio",
            Severity.PAGE,
            "In {{ $value | humanizePercentage }} of sessions sound comes from one side only;"
            " {{ $labels.leg }} is silent.",
            f"{five.per_second('relay_media_one_way_seconds_total', 'leg')}"
            f" / on (job) group_left () ({active} > 0) > 0.8",
            "5m",
        ),
    ]


def quality_alerts(timing: Timing) -> list[Alert]:
    """Sessions that are up and sound bad, or answer late."""
    ten = Scope(timing.window("10m"), kept=FLEET)
    answer = Scope(timing.window("15m"), kept=FLEET)
    latency = answer.quantile(0.95, "relay_turn_latency_seconds", "deployment")
    enough = f"{answer.counted('relay_turn_latency_seconds_count', 'deployment')} >= {timing.needed(20)}"
    late = "One answer in twenty from {{ $labels.deployment }} begins later than {{ $value | humanizeDuration }}."
    return [
        Alert("TurnLatencyHigh", Severity.TICKET, late, f"{latency} > 2 and {enough}", "15m"),
        Alert("TurnLatencyHigh", Severity.PAGE, late, f"{latency} > 4 and {enough}", "15m"),
        Alert(
            "MediaLossHigh",
            Severity.TICKET,
            "One session in ten loses {{ $value | humanizePercentage }} of its packets"
            " (leg {{ $labels.leg }}, {{ $labels.direction }}).",
            f"{ten.quantile(0.9, 'relay_media_loss_ratio', 'leg', 'direction')} > 0.05",
            "10m",
        ),
        Alert(
            "JitterHigh",
            Severity.TICKET,
            "One session in twenty has a jitter of {{ $value | humanizeDuration }} (leg {{ $labels.leg }}).",
            f"{ten.quantile(0.95, 'relay_media_jitter_seconds', 'leg')} > 0.05",
            "10m",
        ),
        Alert(
            "ForwardDelayHigh",
            Severity.TICKET,
            "One packet in a hundred stays in the relay for {{ $value | humanizeDuration }}; promised are 10 ms.",
            f"{ten.quantile(0.99, 'relay_media_forward_seconds')} > 0.02",
            "10m",
        ),
    ]


def upstream_alerts(timing: Timing) -> list[Alert]:
    """The service refuses, fails or is slow."""
    five, ten = Scope(timing.window("5m"), kept=FLEET), Scope(timing.window("10m"), kept=FLEET)
    asked = 'operation=~"mint|call"'
    all_of = five.counted("relay_upstream_requests_total", where=asked)

    def outcome(words: str) -> str:
        return five.counted("relay_upstream_requests_total", where=f'{asked},outcome=~"{words}"')

    down = outcome("failed|timeout|unreachable|invalid_answer|no_deployment")
    throttled, few = outcome("rate_limited"), timing.needed(5)
    slowest = ten.quantile(0.95, "relay_upstream_request_seconds", "operation", where=asked)
    return [
        Alert(
            "UpstreamDown",
            Severity.PAGE,
            "{{ $value | humanizePercentage }} of requests to the service fail.",
            f"{ratio(down, all_of)} > 0.5 and {down} >= {few}",
            "2m",
        ),
        Alert(
            "UpstreamUnauthorized",
            Severity.PAGE,
            "The service refuses the relay's own credential.",
            f"{outcome('unauthorized')} > 0",
            "1m",
        ),
        Alert(
            "UpstreamThrottled",
            Severity.TICKET,
            "{{ $value | humanizePercentage }} of requests to the service are refused for its rate limit.",
            f"{ratio(throttled, all_of)} > 0.02 and {throttled} >= {few}",
            "5m",
        ),
        Alert(
            "UpstreamMemberDown",
            Severity.TICKET,
            "The member {{ $labels.member }} of the upstream pool is down for {{ $labels.instance }}.",
            "max by (job, instance, member) (relay_upstream_member_state) == 2",
            "5m",
        ),
        Alert(
            "UpstreamSlow",
            Severity.TICKET,
            "One {{ $labels.operation }} in twenty takes the service {{ $value | humanizeDuration }}.",
            f"{slowest} > 2.5 and {ten.counted('relay_upstream_request_seconds_count', 'operation', where=asked)}"
            f" >= {few}",
            "10m",
        ),
    ]


def governance_alerts(timing: Timing) -> list[Alert]:
    """Policies: what they refuse, and whether they are in force."""
    hour, quarter = Scope(timing.window("1h"), kept=FLEET), timing.window("15m")
    refusals = hour.counted("relay_policy_decisions_total", where='mode="enforce",verdict=~"refuse|end"')
    return [
        Alert(
            "PolicyRefusalsSpike",
            Severity.SECURITY,
            "Policies refused {{ $value | humanize }} events in an hour, five times as many as a day before or more.",
            _spike(refusals, timing, 5, 50),
            "5m",
        ),
        Alert(
            "PolicyDrift",
            Severity.PAGE,
            "The service ran something else than the policy, {{ $value | humanize }} times.",
            f"{Scope(quarter, kept=FLEET).counted('relay_policy_drift_total')} > 0",
            "",
        ),
        Alert(
            "PolicyReloadFailed",
            Severity.TICKET,
            "Changed policies on {{ $labels.instance }} cannot be put in force; the last good ones stay.",
            "max by (job, instance) (relay_policy_pending) > 0",
            "2m",
        ),
        Alert(
            "KillSwitchOn",
            Severity.TICKET,
            "The kill switch on {{ $labels.instance }} has stopped somebody for an hour.",
            "max by (job, instance) (relay_policy_kill_switch) > 0",
            "1h",
        ),
    ]


def identity_alerts(timing: Timing) -> list[Alert]:
    """Credentials: those that are shown to the relay, and its own."""
    guesses = Scope(timing.window("1h"), kept=FLEET).counted("relay_auth_failures_total")
    old = _old_keys(timing)
    refused = Scope(timing.window("10m"), kept=PROCESS).counted(
        "relay_oidc_refused_total", "section", where='reason="keys_away"'
    )
    return [
        Alert(
            "AuthFailuresSpike",
            Severity.SECURITY,
            "{{ $value | humanize }} credentials were refused in an hour, ten times as many as a day before or more.",
            _spike(guesses, timing, 10, 20),
            "5m",
        ),
        Alert(
            "IssuerKeysOld",
            Severity.TICKET,
            "{{ $labels.instance }} cannot fetch the keys of the issuer of {{ $labels.section }} anew:"
            " those it has are {{ $value | humanizeDuration }} old.",
            old,
            "30m",
        ),
        Alert(
            "IssuerKeysOld",
            Severity.PAGE,
            "{{ $labels.instance }} refuses tokens of {{ $labels.section }}: it has no keys of their issuer.",
            f"{refused} > 0 and {old}",
            "2m",
        ),
        Alert(
            "CredentialExpiring",
            Severity.TICKET,
            "The {{ $labels.credential }} credential ends in {{ $value | humanizeDuration }}.",
            f"{_left('tls_cert')} < 7 * 86400",
            "10m",
        ),
        Alert(
            "CredentialExpiring",
            Severity.PAGE,
            "The {{ $labels.credential }} credential ends in {{ $value | humanizeDuration }}.",
            f"{_left('tls_cert')} < 86400 or {_left('entra')} < 600",
            "2m",
        ),
    ]


def record_alerts(timing: Timing) -> list[Alert]:
    """What is written down: the decision log, what is counted, and the database behind the relay."""
    two, ten = (Scope(timing.window(each), kept=PROCESS) for each in ("2m", "10m"))
    return [
        Alert(
            "DecisionLogFailing",
            Severity.PAGE,
            "The decision log on {{ $labels.instance }} cannot be written: evidence is lost or sessions are ended.",
            f"{two.counted('relay_audit_failures_total')} > 0"
            f" or {two.value('relay_audit_queue_depth')} > {QUEUE_BOUND}",
            "1m",
        ),
        Alert(
            "QuotaStoreFailing",
            Severity.PAGE,
            "{{ $labels.instance }} cannot count {{ $labels.what }}: limits refuse everybody, or hold nobody.",
            f"{two.counted('relay_quota_store_failures_total', 'what')} > 0",
            "1m",
        ),
        Alert(
            "StoreAway",
            Severity.PAGE,
            "The store has not answered {{ $labels.instance }} for five minutes.",
            "min by (job, instance) (relay_store_up) == 0",
            "5m",
        ),
        Alert(
            "StoreDropping",
            Severity.TICKET,
            "{{ $value | humanize }} {{ $labels.kind }} of {{ $labels.instance }} are lost to the store.",
            f"{ten.counted('relay_store_dropped_total', 'kind')} > 0",
            "",
        ),
    ]


def runtime_alerts(_timing: Timing) -> list[Alert]:
    """Whether the process is there, and takes sessions."""
    return [
        Alert(
            "RelayDown",
            Severity.PAGE,
            "{{ $labels.instance }} does not answer scrapes.",
            f"up{{{RELAYS}}} == 0",
            "2m",
        ),
        Alert(
            "RelayNotReady",
            Severity.PAGE,
            "{{ $labels.instance }} can open no session, and is not draining.",
            "relay_ready == 0 unless on (job, instance) relay_draining == 1",
            "2m",
        ),
        Alert(
            "DrainStuck",
            Severity.PAGE,
            "{{ $labels.instance }} should have stopped by now; {{ $value }} sessions keep it.",
            f"{SESSIONS} > 0 and on (job, instance) relay_draining == 1",
            DRAIN_HOLD,
        ),
    ]


def capacity_alerts(timing: Timing) -> list[Alert]:
    """What the process uses, and how it bears it."""
    five = Scope(timing.window("5m"), kept=PROCESS)
    hour, before = timing.window("1h"), timing.window("6h")
    least = f"min_over_time(process_resident_memory_bytes{{{RELAYS}}}[{hour}]"
    grown = f"{least}) - {least} offset {before})"
    return [
        Alert(
            "CapacityHigh",
            Severity.TICKET,
            "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its {{ $labels.resource }}.",
            'max by (job, instance, resource) (relay_capacity_ratio{resource!="setups"}) > 0.8',
            "10m",
        ),
        Alert(
            "LoopLag",
            Severity.PAGE,
            "The event loop of {{ $labels.instance }} runs {{ $value | humanizeDuration }} late: sound suffers.",
            f"{five.quantile(0.99, 'relay_event_loop_lag_seconds')} > 0.05"
            f" or max by (job, instance) (avg_over_time(relay_worker_loop_lag_seconds[{five.window}])) > 0.05",
            "5m",
        ),
        Alert(
            "WorkersRestarting",
            Severity.TICKET,
            "Media workers of {{ $labels.instance }} were lost {{ $value | humanize }} times in half an hour.",
            f"{Scope(timing.window('30m'), kept=PROCESS).counted('relay_worker_restarts_total')} > 2",
            "",
        ),
        Alert(
            "MemoryGrowing",
            Severity.TICKET,
            "{{ $labels.instance }} holds {{ $value | humanize1024 }}B more than six hours ago, with no more sessions.",
            f"{grown} > 2e8 and on (job, instance) avg_over_time(({SESSIONS})[{hour}:])"
            f" <= 1.1 * avg_over_time(({SESSIONS})[{hour}:] offset {before})",
            "1h",
        ),
    ]


def _old_keys(timing: Timing) -> str:
    """The age of an issuer's keys, if it was asked for new ones in the last hour and gave none."""
    hour = Scope(timing.window("1h"), kept=PROCESS)
    failed, fetched = (
        hour.counted("relay_oidc_fetches_total", "section", where=f'result="{result}"') for result in ("failed", "ok")
    )
    return f"max by (job, instance, section) (relay_oidc_keys_age_seconds) and {failed} > 0 unless {fetched} > 0"


def _left(credential: str) -> str:
    soonest = (
        f'min by (job, instance, credential) (relay_credential_expiry_timestamp_seconds{{credential="{credential}"}})'
    )
    return f"{soonest} - time()"


def _spike(now: str, timing: Timing, times: int, at_least: int) -> str:
    """Compare an hour with the same hour of yesterday; where there was no yesterday, with `at_least`."""
    inside, bracket, rest = now.rpartition("]")
    before = f"{inside}{bracket} offset {timing.window('1d')}{rest}"
    return f"{now} > {times} * clamp_min({or_nothing(before, now)}, {timing.needed(at_least)})"
