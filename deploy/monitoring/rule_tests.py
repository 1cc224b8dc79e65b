"""The cases as files that `promtool test rules` runs; what fires is asked for as Prometheus keeps it (`ALERTS`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from deploy.monitoring.case import Case
from deploy.monitoring.cases_process import PROCESS_CASES
from deploy.monitoring.cases_service import SERVICE_CASES
from deploy.monitoring.cases_sessions import SESSION_CASES
from deploy.monitoring.cases_store import STORE_CASES

CASES: tuple[Case, ...] = (*SESSION_CASES, *SERVICE_CASES, *STORE_CASES, *PROCESS_CASES)
_FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'


def rule_tests_files() -> dict[str, str]:
    """Write every case, and beside each its healthy counterpart: file name → text."""
    names = {"30s": "rules_test.yaml", "5m": "rules_slow_test.yaml"}
    return {name: _file(every) for every, name in names.items()}


def _file(every: str) -> str:
    tests = [test for case in CASES if case.every == every for test in (_fires(case), _stays_silent(case))]
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": tests}
    return yaml.safe_dump(whole, sort_keys=False, width=110)


def _fires(case: Case) -> dict[str, Any]:
    this = f'ALERTS{{alertname="{case.alert}",severity="{case.severity.value}",alertstate="%s"}}'
    asked = []
    if case.pending_at:
        asked.append(_asked(f"count({this % 'pending'})", case.pending_at, [{"labels": "{}", "value": 1}]))
        asked.append(_asked(f"count({this % 'firing'})", case.pending_at, []))
    expected = {(case.alert, case.severity.value), *case.also}
    asked.append(_asked(_FIRING, case.firing_at, [_sample(*each) for each in sorted(expected)]))
    return _test(f"{case.alert} ({case.severity.value})", case.series, asked)


def _stays_silent(case: Case) -> dict[str, Any]:
    return _test(f"no {case.alert} ({case.severity.value})", case.healthy, [_asked(_FIRING, case.firing_at, [])])


def _test(name: str, series: Mapping[str, str], asked: list[dict[str, Any]]) -> dict[str, Any]:
    given = [{"series": _placed(each), "values": values} for each, values in series.items()]
    return {"name": name, "interval": "1m", "input_series": given, "promql_expr_test": asked}


def _asked(expr: str, at: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"expr": expr, "eval_time": at, "exp_samples": samples}


def _sample(alert: str, severity: str) -> dict[str, Any]:
    return {"labels": f'{{alertname="{alert}",severity="{severity}"}}', "value": 1}


def _placed(series: str) -> str:
    """Add the labels that a scrape adds."""
    name, _, rest = series.partition("{")
    labels = [each for each in (rest.removesuffix("}"), 'job="relay"', 'instance="relay-1"') if each]
    return f"{name}{{{','.join(labels)}}}"
