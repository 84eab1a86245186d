"""Panels of a dashboard as values, and what Grafana reads. Law: who makes a panel knows nothing of JSON.

The form is Grafana's dashboard model, schema 39 (Grafana 11), as it exports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

Document = dict[str, object]
Unit = Literal["reqps", "percentunit", "s", "short", "bytes", "none", "cps"]

_SOURCE: Final[Document] = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24  # columns of Grafana's grid
_SCHEMA: Final = 39


@dataclass(frozen=True)
class Query:
    """PromQL with Grafana's variables, and a legend with `{{labels}}`."""

    expression: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """A picture of queries, `wide` columns of 24; `kind`: lines over time, or the last value alone."""

    title: str
    description: str
    unit: Unit
    queries: Sequence[Query]
    wide: int = 8
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False
    most: float | None = None
    """The greatest value of the axis, where it is known."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice that the viewer makes: values of a label of a metric, several or all."""

    name: str
    label: str
    metric: str
    of: str


@dataclass(frozen=True)
class Dashboard:
    """A page for one audience."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, in order."""
        return chain.from_iterable(row.panels for row in self.rows)

    def document(self) -> Document:
        """As Grafana reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["headrace"],
            "schemaVersion": _SCHEMA,
            "editable": True,
            "graphTooltip": 1,  # one crosshair for all panels
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": [_others()],
            "templating": {"list": [_datasource(), *(_variable(one) for one in self.variables)]},
            "panels": list(_placed(self.rows)),
        }


def matching(variable: Variable) -> str:
    """The matcher of what the viewer has chosen."""
    return f'{variable.of}=~"${variable.name}"'


def filled(expression: str, window: str) -> str:
    """The query as Grafana sends it where the viewer has chosen all, with this window for rates."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", window))


def _others() -> Document:
    return {"type": "dashboards", "title": "headrace", "tags": ["headrace"], "keepTime": True, "includeVars": True}


def _datasource() -> Document:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(variable: Variable) -> Document:
    query = f"label_values({variable.metric}, {variable.of})"
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _placed(rows: Sequence[Row], high: int = 8) -> Iterator[Document]:
    """Each row's heading, and its panels from left to right."""
    number, down = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            **_at(0, down, _WIDTH, 1),
        }
        number, down, across = number + 1, down + 1, 0
        for panel in row.panels:
            if across + panel.wide > _WIDTH:
                across, down = 0, down + high
            yield {"id": number, **_panel(panel), **_at(across, down, panel.wide, high)}
            number, across = number + 1, across + panel.wide
        down += high


def _at(across: int, down: int, wide: int, high: int) -> Document:
    return {"gridPos": {"x": across, "y": down, "w": wide, "h": high}}


def _panel(panel: Panel) -> Document:
    lines = panel.kind == "timeseries"
    custom: Document = {
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 0,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none"},
    }
    defaults: Document = {"unit": panel.unit, "min": 0} | ({} if panel.most is None else {"max": panel.most})
    shown: Document = (
        {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        if lines
        else {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
    )
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults | ({"custom": custom} if lines else {}), "overrides": []},
        "options": shown,
        "targets": [_target(query, chr(ord("A") + number)) for number, query in enumerate(panel.queries)],
    }


def _target(query: Query, name: str) -> Document:
    return {
        "refId": name,
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "exemplar": query.exemplars,
        "range": True,
    }
