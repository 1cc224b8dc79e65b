"""A deployment with its own Prometheus, faults switched on: dashboards and alerts as Prometheus itself answers."""

from __future__ import annotations

import pytest

from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.prometheus import all_alerts

pytestmark = [pytest.mark.operations, pytest.mark.timeout(200), pytest.mark.xdist_group("operations")]

# Whether these fire depends on how slow the machine is at that moment; their cases are in rules_test.yaml.
THE_MACHINE = {"CapacityHigh", "ForwardDelayHigh", "JitterHigh", "LoopLag", "TurnLatencyHigh"}
# The relay's certificate in this run is good for a day.
FROM_THE_BEGINNING = {("CredentialExpiring", "page"), ("CredentialExpiring", "ticket")}
EXPECTED = FROM_THE_BEGINNING | {
    ("AuthFailuresSpike", "security"),
    ("ClientIceFailing", "page"),
    ("DecisionLogFailing", "page"),
    ("DrainStuck", "page"),
    ("KillSwitchOn", "ticket"),
    ("OneWayAudio", "page"),
    ("PolicyDrift", "page"),
    ("PolicyRefusalsSpike", "security"),
    ("PolicyReloadFailed", "ticket"),
    ("RelayDown", "page"),
    ("RelayNotReady", "page"),  # while the decision log cannot be written
    ("ServiceMediaLost", "page"),
    ("SetupBudgetBurning", "page"),
    ("SetupBudgetBurning", "ticket"),
    ("SetupSuccessLow", "page"),
    ("UpstreamDown", "page"),
    ("UpstreamSlow", "ticket"),
    ("UpstreamThrottled", "ticket"),
    ("UpstreamUnauthorized", "page"),
}
# Panels of what this deployment does not have: a second resource to go to, an identity provider.
EMPTY = ("Failovers, by reason:", "Age of keys:")
FAULTS = {
    "a slow mint", "drift", "a 429 of the service", "a 401 of the service", "browsers blocked",
    "the service's media blocked",
    "a policy reload that failed", "the kill switch", "guessed keys", "a model without a policy", "refused events",
    "a full audit disk", "the audit disk emptied", "a service that is gone", "a session that lost the service",
    "a drain",
    "a relay that is gone", "a decision that was only watched", "a policy changed live", "a client that went away",
}  # fmt: skip


def judged(alerts: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(name, severity) for name, severity in alerts if name not in THE_MACHINE}


def test_the_run_came_to_its_end_with_all_its_sessions(report):
    assert not report.error, report.error


def test_every_fault_shows_under_its_name_within_two_scrapes(report):
    assert set(report.seen) == FAULTS


def test_nothing_fires_while_all_is_well(report):
    assert judged(report.fired_when_well) <= FROM_THE_BEGINNING


def test_the_expected_alerts_fire_and_no_other(report):
    assert judged(report.fired) == set(EXPECTED)


def test_every_alert_is_expected_or_stays_silent_for_a_reason():
    silent = {(alert.name, alert.severity.value) for alert in all_alerts()} - EXPECTED
    assert {name for name, _ in silent} - THE_MACHINE == {
        "DropBudgetBurning",  # the relay itself drops nobody
        "IssuerKeysOld",  # nobody comes with a token
        "MediaLossHigh",  # loopback loses nothing
        "MemoryGrowing",
        "QuotaStoreFailing",  # this relay keeps to its own file
        "StoreAway",
        "StoreDropping",
        "UpstreamMemberDown",  # one resource, which is gone for less than the five minutes this takes
        "WorkersRestarting",
    }


@pytest.mark.parametrize("uid", [dashboard.uid for dashboard in DASHBOARDS])
def test_every_panel_of_the_dashboard_has_data(report, uid):
    assert [panel for panel in report.empty_panels[uid] if not panel.startswith(EMPTY)] == []
