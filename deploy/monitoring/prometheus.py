"""Rules as the file that Prometheus reads."""

from __future__ import annotations

from typing import Any

import yaml

from deploy.monitoring.alerts import (
    capacity_alerts,
    governance_alerts,
    identity_alerts,
    quality_alerts,
    record_alerts,
    runtime_alerts,
    session_alerts,
    upstream_alerts,
)
from deploy.monitoring.objectives import budget_alerts, recordings
from deploy.monitoring.rules import Alert, Recorded
from deploy.monitoring.timing import AS_SHIPPED, Timing

RUNBOOKS = "docs/runbooks"
GROUPS = {
    "relay-objectives": budget_alerts,
    "relay-sessions": session_alerts,
    "relay-quality": quality_alerts,
    "relay-upstream": upstream_alerts,
    "relay-governance": governance_alerts,
    "relay-identity": identity_alerts,
    "relay-records": record_alerts,
    "relay-runtime": runtime_alerts,
    "relay-capacity": capacity_alerts,
}


def all_alerts(timing: Timing = AS_SHIPPED) -> list[Alert]:
    """List every alert, in the file's order."""
    return [alert for source in GROUPS.values() for alert in source(timing)]


def rules_file(timing: Timing = AS_SHIPPED, runbooks: str = RUNBOOKS) -> str:
    """Write the rules; `runbooks` is the base of every `runbook_url`."""
    recorded = {"name": "relay-recorded", "rules": [_recorded(rule) for rule in recordings(timing)]}
    groups = [
        {"name": name, "rules": [_alert(alert, timing, runbooks) for alert in source(timing)]}
        for name, source in GROUPS.items()
    ]
    timed = [{"name": group["name"], "interval": timing.evaluated_every, **group} for group in (recorded, *groups)]
    return yaml.safe_dump({"groups": timed}, sort_keys=False, width=110, allow_unicode=True)


def _recorded(rule: Recorded) -> dict[str, Any]:
    return {"record": rule.record, "expr": rule.expr}


def _alert(alert: Alert, timing: Timing, runbooks: str) -> dict[str, Any]:
    held = {"for": timing.wait(alert.hold)} if alert.hold else {}
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **held,
        "labels": {"severity": alert.severity.value},
        "annotations": {"summary": alert.summary, "runbook_url": f"{runbooks}/{alert.name}.md"},
    }
