"""Write `deploy/prometheus` and `deploy/grafana` from their source."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.grafana import dashboard_file
from deploy.monitoring.prometheus import RUNBOOKS, rules_file
from deploy.monitoring.rule_tests import rule_tests_files

DEPLOY = Path(__file__).resolve().parents[1]


def files(runbooks: str = RUNBOOKS) -> dict[str, str]:
    """Make every generated file: path below `deploy` → text."""
    dashboards = {f"grafana/dashboards/{each.uid}.json": dashboard_file(each) for each in DASHBOARDS}
    tests = {f"prometheus/{name}": text for name, text in rule_tests_files().items()}
    return {"prometheus/rules.yaml": rules_file(runbooks=runbooks), **tests, **dashboards}


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(prog="python -m deploy.monitoring", description=__doc__)
    parser.add_argument("--into", type=Path, default=DEPLOY, help="directory (default: %(default)s)")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="base of every runbook_url (default: %(default)s)")
    arguments = parser.parse_args()
    for name, text in files(arguments.runbooks).items():
        path = arguments.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
