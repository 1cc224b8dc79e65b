"""The shipped rules, by Prometheus's own tool: they parse, and every alert fires when it should and only then."""

from __future__ import annotations

import subprocess

import pytest
from support import needs

from deploy.monitoring.__main__ import DEPLOY
from deploy.monitoring.rule_tests import rule_tests_files

pytestmark = [pytest.mark.operations, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def promtool() -> str:
    return needs.program("promtool", package="prometheus")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "asked", [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yaml")], ids="-".join
)
def test_prometheus_takes_the_files(promtool, asked):
    assert "SUCCESS" in run(promtool, *asked)


@pytest.mark.parametrize("name", rule_tests_files())
def test_every_alert_fires_when_it_should_and_only_then(promtool, name):
    assert "SUCCESS" in run(promtool, "test", "rules", name)
