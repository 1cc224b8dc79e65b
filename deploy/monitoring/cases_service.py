"""Cases of the alerts on the service, the policies and those who try their luck."""

from __future__ import annotations

from deploy.monitoring.case import Case
from deploy.monitoring.rules import Severity

DAY = 1440


def _asked(outcome: str, count: str, well: str = "0+10x90") -> dict[str, str]:
    return {
        f'relay_upstream_requests_total{{operation="mint",outcome="{outcome}"}}': count,
        'relay_upstream_requests_total{operation="mint",outcome="ok"}': well,
    }


def _took(within_2500_ms: int) -> dict[str, str]:
    name = "relay_upstream_request_seconds"
    buckets = {"1": within_2500_ms, "2.5": within_2500_ms, "5": 100, "+Inf": 100}
    found = {f'{name}_bucket{{operation="mint",le="{bound}"}}': f"0+{each}x60" for bound, each in buckets.items()}
    return {**found, f'{name}_count{{operation="mint"}}': "0+100x60"}


def _expires(credential: str, after_minutes: int) -> dict[str, str]:
    # promtool's clock begins at 0, so a time is the seconds since then.
    return {f'relay_credential_expiry_timestamp_seconds{{credential="{credential}"}}': f"{after_minutes * 60}x60"}


def _keys(failed: str, fetched: str, refused: str = "0x90") -> dict[str, str]:
    fetches = 'relay_oidc_fetches_total{section="oidc",result="%s"}'
    return {
        'relay_oidc_keys_age_seconds{section="oidc"}': "60+60x90",
        fetches % "failed": failed,
        fetches % "ok": fetched,
        'relay_oidc_refused_total{section="oidc",reason="keys_away"}': refused,
    }


def _decisions(values: str, verdict: str = "refuse") -> dict[str, str]:
    labels = f'policy="base",rule="items.role",verdict="{verdict}",mode="enforce"'
    return {f"relay_policy_decisions_total{{{labels}}}": values}


SERVICE_CASES = (
    Case(
        "UpstreamDown",
        Severity.PAGE,
        _asked("unreachable", "0x10 0+10x30", "0+10x10 100x30"),
        _asked("unreachable", "0x10 0+4x30"),
        pending_at="14m",
        firing_at="18m",
    ),
    Case(
        "UpstreamUnauthorized",
        Severity.PAGE,
        _asked("unauthorized", "0x10 0 1x30"),
        _asked("bad_offer", "0x10 0 1x30"),
        pending_at="12m",
        firing_at="14m",
    ),
    Case(
        "UpstreamThrottled",
        Severity.TICKET,
        _asked("rate_limited", "0x10 0+2x30"),
        _asked("rate_limited", "0x10 0+2x30", "0+200x90"),
        pending_at="16m",
        firing_at="22m",
    ),
    Case(
        "UpstreamMemberDown",
        Severity.TICKET,
        {'relay_upstream_member_state{member="sweden"}': "0x10 2x30"},
        # At its limit for long, and down for a moment.
        {'relay_upstream_member_state{member="sweden"}': "1x10 2x2 1x30"},
        pending_at="12m",
        firing_at="17m",
    ),
    Case("UpstreamSlow", Severity.TICKET, _took(80), _took(99), pending_at="8m", firing_at="15m"),
    Case(
        "CredentialExpiring",
        Severity.TICKET,
        _expires("tls_cert", 3 * DAY),
        _expires("tls_cert", 9 * DAY),
        pending_at="5m",
        firing_at="20m",
    ),
    Case(
        "CredentialExpiring",
        Severity.PAGE,
        _expires("entra", 25),
        _expires("entra", 60),
        pending_at="16m",
        firing_at="20m",
    ),
    Case(
        "CredentialExpiring",
        Severity.PAGE,
        _expires("tls_cert", DAY // 2),
        _expires("tls_cert", 8 * DAY),
        pending_at="1m",
        firing_at="20m",
        also=frozenset({("CredentialExpiring", "ticket")}),
    ),
    Case(
        "IssuerKeysOld",
        Severity.TICKET,
        _keys("0x10 0+2x80", "1x90"),
        # Asked in vain for twenty minutes, and then not.
        _keys("0x10 0+2x20 40x60", "1x30 2x60"),
        pending_at="30m",
        firing_at="45m",
    ),
    Case(
        "IssuerKeysOld",
        Severity.PAGE,
        _keys("0x10 0+2x80", "1x90", "0x10 0+1x80"),
        # A token that came before the first answer.
        _keys("0x10 1x80", "0x11 1x80", "0x10 1x80"),
        pending_at="12m",
        firing_at="15m",
    ),
    Case(
        "PolicyRefusalsSpike",
        Severity.SECURITY,
        # Two an hour yesterday, ten a minute now.
        _decisions(f"0x30 1x30 2x{DAY - 62} 0+10x120"),
        # Just as many yesterday.
        _decisions("0+10x1600"),
        pending_at=f"{DAY + 32}m",
        firing_at=f"{DAY + 50}m",
        every="5m",
    ),
    Case(
        "AuthFailuresSpike",
        Severity.SECURITY,
        {'relay_auth_failures_total{method="client_key"}': f"0x{DAY} 0+20x120"},
        {'relay_auth_failures_total{method="client_key"}': "0+2x1600"},
        pending_at=f"{DAY + 15}m",
        firing_at=f"{DAY + 30}m",
        every="5m",
    ),
    Case(
        "PolicyDrift",
        Severity.PAGE,
        {"relay_policy_drift_total": "0x10 1x30"},
        {"relay_policy_drift_total": "3x60"},
        firing_at="15m",
    ),
    Case(
        "PolicyReloadFailed",
        Severity.TICKET,
        {"relay_policy_pending": "0x10 1x30"},
        # Mended within a minute.
        {"relay_policy_pending": "0x10 1 0x30"},
        pending_at="12m",
        firing_at="15m",
    ),
    Case(
        "KillSwitchOn",
        Severity.TICKET,
        {"relay_policy_kill_switch": "1x90"},
        {"relay_policy_kill_switch": "1x50 0x40"},
        pending_at="50m",
        firing_at="70m",
    ),
    Case(
        "DecisionLogFailing",
        Severity.PAGE,
        {'relay_audit_failures_total{reason="write"}': "0x10 0+10x30"},
        {'relay_audit_failures_total{reason="write"}': "7x60", "relay_audit_queue_depth": "300x60"},
        pending_at="12m",
        firing_at="14m",
    ),
    Case(
        "QuotaStoreFailing",
        Severity.PAGE,
        {'relay_quota_store_failures_total{what="sessions"}': "0x10 0+6x30"},
        {'relay_quota_store_failures_total{what="sessions"}': "3x60"},
        pending_at="12m",
        firing_at="14m",
    ),
    Case(
        "DecisionLogFailing",
        Severity.PAGE,
        {"relay_audit_queue_depth": "0x10 17000x30"},
        {"relay_audit_queue_depth": "9000x60"},
        pending_at="11m",
        firing_at="14m",
    ),
)
