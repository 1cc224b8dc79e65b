"""The six dashboards."""

from __future__ import annotations

from deploy.monitoring.dashboards.governance import GOVERNANCE
from deploy.monitoring.dashboards.overview import OVERVIEW
from deploy.monitoring.dashboards.quality import QUALITY
from deploy.monitoring.dashboards.runtime import RUNTIME
from deploy.monitoring.dashboards.setup import SETUP_FUNNEL
from deploy.monitoring.dashboards.upstream import UPSTREAM

DASHBOARDS = (OVERVIEW, QUALITY, SETUP_FUNNEL, UPSTREAM, GOVERNANCE, RUNTIME)
