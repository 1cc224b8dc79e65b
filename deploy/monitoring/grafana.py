"""Dashboards as the JSON that Grafana imports (schema of Grafana 10 and later)."""

from __future__ import annotations

import json
from typing import Any

from deploy.monitoring.panels import Dashboard, Kind, Panel, Query

_COLUMNS = 24
_HEIGHTS = {Kind.LINES: 8, Kind.NUMBER: 4}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 39


def dashboard_file(dashboard: Dashboard) -> str:
    """Write one dashboard."""
    return json.dumps(_dashboard(dashboard), indent=1, ensure_ascii=False) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["relay"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_data_source(), _instances()]},
        "annotations": {"list": [_firing()]},
        "links": [
            {
                "type": "dashboards",
                "title": "Relay",
                "tags": ["relay"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "url": "",
                "tooltip": "",
            }
        ],
        "panels": _panels(dashboard),
    }


def _panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    """Lay rows out from top to bottom, panels from left to right."""
    laid: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        laid.append(
            {"id": len(laid) + 1, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            height = max(height, _HEIGHTS[panel.kind])
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHTS[panel.kind]}
            laid.append({"id": len(laid) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += height
    return laid


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": [_target(index, query) for index, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": {"unit": panel.unit.value, "thresholds": _thresholds(panel), **_look(panel)},
            "overrides": [],
        },
        "options": _options(panel),
    }


def _target(index: int, query: Query) -> dict[str, Any]:
    legend = query.legend or "__auto"
    return {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": legend,
        "range": True,
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bounds is not None:
        yellow, red = panel.bounds
        if yellow > red:  # small is bad
            steps = [
                {"color": "red", "value": None},
                {"color": "yellow", "value": red},
                {"color": "green", "value": yellow},
            ]
        else:
            steps += [{"color": "yellow", "value": yellow}] * (yellow < red) + [{"color": "red", "value": red}]
    return {"mode": "absolute", "steps": steps}


def _look(panel: Panel) -> dict[str, Any]:
    if panel.kind is not Kind.LINES:
        return {}
    stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    return {
        "min": 0,
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": stacking,
        },
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind is not Kind.LINES:
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {
            "reduceOptions": last,
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
            "justifyMode": "auto",
        }
    legend = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _instances() -> dict[str, Any]:
    question = "label_values(relay_build_info, instance)"
    return {
        "name": "instance",
        "label": "Relay",
        "type": "query",
        "datasource": _SOURCE,
        "definition": question,
        "query": {"query": question, "refId": "instances"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _firing() -> dict[str, Any]:
    return {
        "name": "Pages",
        "enable": True,
        "iconColor": "red",
        "datasource": _SOURCE,
        "expr": 'ALERTS{alertstate="firing",severity="page",job="relay"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
        "step": "60s",
    }
