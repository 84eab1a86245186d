"""What watches headrace: Prometheus's rules and alerts, Grafana's dashboards, the chart's monitors.

`python -m headrace.observability` writes them all. Thresholds and windows are in `thresholds`, and nowhere else.
"""
