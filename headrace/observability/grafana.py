"""How Grafana finds its sources and dashboards. Law: its provisioning files, of dictionaries."""

from __future__ import annotations

from typing import Final

Document = dict[str, object]
_JAEGER: Final = "headrace-jaeger"


def datasources(prometheus: str, jaeger: str) -> Document:
    """Prometheus and Jaeger at these URLs; an exemplar's `trace_id` is a link from the one to the other."""
    to_trace = {"name": "trace_id", "datasourceUid": _JAEGER}
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "headrace-prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": prometheus,
                "isDefault": True,
                "jsonData": {"httpMethod": "POST", "exemplarTraceIdDestinations": [to_trace]},
            },
            {"name": "Jaeger", "uid": _JAEGER, "type": "jaeger", "access": "proxy", "url": jaeger},
        ],
    }


def providers(folder: str) -> Document:
    """Where, in Grafana's container, the dashboards are."""
    options = {"path": folder}
    return {
        "apiVersion": 1,
        "providers": [{"name": "headrace", "folder": "headrace", "type": "file", "options": options}],
    }
