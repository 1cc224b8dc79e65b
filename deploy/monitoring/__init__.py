"""The source of what `deploy/prometheus` and `deploy/grafana` hold: alerts, objectives and panels as values.

`make monitoring` writes the files. Names of metrics: docs/reference/metrics.md.
"""
