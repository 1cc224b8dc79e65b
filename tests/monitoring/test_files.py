"""The files in deploy/ are what their source gives, and hang together: metrics, alerts, runbooks, dashboards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from support.monitoring import documented, metrics_in

from deploy.monitoring.__main__ import DEPLOY, files
from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.prometheus import all_alerts, rules_file
from deploy.monitoring.promql import Scope
from deploy.monitoring.rule_tests import CASES
from deploy.monitoring.timing import Timing

ROOT = DEPLOY.parent
RUNBOOKS = ROOT / "docs" / "runbooks"


def asked_for() -> dict[str, set[str]]:
    found = {f"alert {alert.name}": metrics_in(alert.expr) for alert in all_alerts()}
    for group in yaml.safe_load(rules_file())["groups"]:
        found |= {rule["record"]: metrics_in(rule["expr"]) for rule in group["rules"] if "record" in rule}
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            names = set().union(*(metrics_in(query.expr) for query in panel.queries))
            found[f"{dashboard.uid}: {panel.title}"] = names
    return found


@pytest.mark.parametrize("name", files())
def test_the_file_is_what_its_source_gives(name):
    assert (DEPLOY / name).read_text("utf-8") == files()[name], "run `make monitoring`"


def test_nothing_else_lies_among_them():
    made = {Path(name) for name in files()}
    kept = {Path("prometheus/prometheus.yml"), Path("prometheus/kustomization.yaml")}
    there = {
        path.relative_to(DEPLOY)
        for folder in ("prometheus", "grafana/dashboards")
        for path in (DEPLOY / folder).iterdir()
    }
    assert there == made | kept


def test_every_metric_asked_for_is_documented():
    missing = {where: names - documented() for where, names in asked_for().items()}
    assert not {where: names for where, names in missing.items() if names}


def test_every_documented_metric_of_ours_is_shown_somewhere():
    shown = set().union(*asked_for().values())
    assert {name for name in documented() if name.startswith("relay_")} - shown == set()


def test_every_alert_has_its_runbook_and_every_runbook_its_alert():
    alerts = {alert.name for alert in all_alerts()}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == alerts


def test_the_list_of_runbooks_has_every_alert_with_its_severities():
    severities: dict[str, list[str]] = {}
    for alert in all_alerts():
        severities.setdefault(alert.name, []).append(alert.severity.value)
    listed = re.findall(
        r"^\| \[(\w+)\]\(\1\.md\) \| ([\w, ]+) \|", (RUNBOOKS / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert dict(listed) == {name: ", ".join(found) for name, found in severities.items()}
    assert f"There are {len(severities)}, each with a page" in (ROOT / "docs" / "operate.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted({alert.name for alert in all_alerts()}))
def test_a_runbook_says_what_somebody_woken_up_needs(name):
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What users feel", "Look here first", "Likely causes", "What to do", "When it is not us"]
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        assert len(part.split()) > 8, f"nothing is said under {part.split()[0]}"
    # It points at panels that exist.
    titles = {f"{dashboard.title}: {panel.title}" for dashboard in DASHBOARDS for panel in dashboard.panels()}
    panels = re.findall(r"(?<!\*)\*(?!\*)([^*\n]+)\*(?!\*)", text)
    assert panels
    assert [panel for panel in panels if f"Relay: {panel}" not in titles] == []


def test_every_alert_has_a_case_in_which_it_fires():
    alerts = {(alert.name, alert.severity) for alert in all_alerts()}
    assert {(case.alert, case.severity) for case in CASES} == alerts
    held = {(alert.name, alert.severity) for alert in all_alerts() if alert.hold}
    waiting = {(case.alert, case.severity) for case in CASES if case.pending_at}
    unwatched = {name for name, _ in held - waiting}
    assert unwatched <= {"SetupBudgetBurning", "DropBudgetBurning"}, "their wait shows in nothing but minutes of hours"


def test_dashboards_are_laid_out_without_overlap():
    for dashboard in DASHBOARDS:
        panels = json.loads(files()[f"grafana/dashboards/{dashboard.uid}.json"])["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken = set()
        for place in (panel["gridPos"] for panel in panels):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken
            taken |= cells
        assert len({panel.title for panel in dashboard.panels()}) == len(dashboard.panels())


def test_shortened_rules_ask_the_same_of_shorter_windows():
    short = Timing(faster=60, shortest_window=5, longest_window=20, longest_wait=2, most_needed=1, evaluated_every="1s")
    shipped, shortened = (yaml.safe_load(rules_file(timing))["groups"] for timing in (Timing(), short))
    for before, after in zip(shipped, shortened, strict=True):
        for rule, same in zip(before["rules"], after["rules"], strict=True):
            assert rule.get("alert") == same.get("alert")
            assert metrics_in(rule["expr"]) == metrics_in(same["expr"])
            assert not re.search(r"\[\d+[mhd]", same["expr"])


def test_a_scope_writes_promql():
    scope = Scope("5m", 'instance="a"', kept=("job",))
    assert (
        scope.per_second("x_total", "leg", where='y="1"') == 'sum by (job, leg) (rate(x_total{y="1",instance="a"}[5m]))'
    )
    assert Scope("1m").value("x") == "sum(x)"
