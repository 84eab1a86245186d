"""For those who run headrace. Law: it tells whether it stands, whom it trusts, and what it loses."""

from __future__ import annotations

from headrace.observability import series
from headrace.observability.dashboards.asked import INSTANCE, WINDOW, chosen, legend, per_second, percentiles, summed
from headrace.observability.panels import Dashboard, Panel, Query, Row
from headrace.observability.series import CLUSTER, ISSUER, LANE

_FIRING = 'ALERTS{alertname=~"Headrace.+", alertstate="firing"}'
_JOBS = f'job=~"{series.GATEWAY_JOB}|{series.WORKER_JOB}"'


def operators() -> Dashboard:
    """By gateway."""
    rows = [
        Row("Gateways", _gateways()),
        Row("Trust", _trust()),
        Row("What is told of it", _told()),
        Row("Mesh", _mesh()),
        Row("Processes", _processes()),
    ]
    words = "For those who run headrace: gateways, keys and certificates, telemetry, the mesh, processes."
    return Dashboard("headrace-operators", "headrace: operators", words, [INSTANCE], rows)


def _gateways() -> list[Panel]:
    these = chosen(INSTANCE)
    active = summed(series.ACTIVE, (LANE,), *these)
    return [
        Panel(
            "Gateways",
            "Those that take calls, and all.",
            "short",
            [Query(f"sum ({series.READY})", "ready"), Query(f"count ({series.READY})", "all")],
            wide=4,
            kind="stat",
        ),
        Panel(
            "Alerts",
            "Of headrace, that fire now.",
            "short",
            [Query(f"count ({_FIRING}) or vector(0)", "firing")],
            wide=4,
            kind="stat",
        ),
        Panel(
            "Calls by lane",
            "Carried by Envoy alone (express), or handled by Python.",
            "reqps",
            [Query(per_second(series.CALLS, (LANE,), *these), legend(LANE))],
            wide=8,
            stacked=True,
        ),
        Panel("Calls under way", "By lane.", "short", [Query(active, legend(LANE))], wide=8),
        Panel(
            "Time in the gateway itself",
            "A call's time without the upstream's.",
            "s",
            percentiles(legend(LANE), series.GATEWAY_DURATION, (LANE,), *these, exemplars=False),
            wide=12,
        ),
        Panel(
            "Refused or failed",
            "By status.",
            "reqps",
            [
                Query(
                    per_second(series.CALLS, (series.STATUS,), *these, f'{series.STATUS}!="OK"'), legend(series.STATUS)
                )
            ],
            wide=12,
            stacked=True,
        ),
    ]


def _trust() -> list[Panel]:
    these = chosen(INSTANCE)
    tokens = per_second(series.TOKENS, (series.RESULT,), *these)
    left = f"min {series.by(series.CERTIFICATE)} ({series.where(series.CERTIFICATE_END, *these)}) - time()"
    age = f"max {series.by(ISSUER)} ({series.where(series.JWKS_AGE, *these)})"
    keys = f"min {series.by(ISSUER)} ({series.where(series.JWKS_KEYS, *these)})"
    return [
        Panel(
            "Tokens", "Known already, verified anew, or refused.", "reqps", [Query(tokens, legend(series.RESULT))], 6
        ),
        Panel("Age of keys", "Since an issuer's were last fetched well.", "s", [Query(age, legend(ISSUER))], 6),
        Panel("Keys", "Of each issuer.", "short", [Query(keys, legend(ISSUER))], 6),
        Panel("Certificates", "Until each ends.", "s", [Query(left, legend(series.CERTIFICATE))], 6),
    ]


def _told() -> list[Panel]:
    these = chosen(INSTANCE)
    each = ("instance",)
    return [
        Panel(
            "Configurations",
            "Taken up since the start.",
            "short",
            [Query(summed(series.GENERATION, each, *these), legend(*each))],
        ),
        Panel(
            "Lost",
            "Spans, metrics and lines that found no room.",
            "cps",
            [Query(per_second(series.DROPPED, (series.SIGNAL,), *these), legend(series.SIGNAL))],
        ),
        Panel(
            "Wrong",
            "1: headrace.yaml is refused, or the audit file cannot be written.",
            "short",
            [
                Query(summed(series.CONFIG_REFUSED, each, *these), f"{legend(*each)} configuration refused"),
                Query(summed(series.AUDIT_FAILING, each, *these), f"{legend(*each)} audit failing"),
            ],
            most=1.0,
        ),
    ]


def _mesh() -> list[Panel]:
    told, of_each, to_copies = legend(CLUSTER), (CLUSTER,), f'{CLUSTER}=~"outbound.+"'
    return [
        Panel(
            "Ejected copies",
            "As sidecars count them now.",
            "short",
            [Query(summed(series.EJECTED, of_each, to_copies), told)],
        ),
        Panel(
            "Open breakers",
            "Calls that a sidecar refused, for there were too many.",
            "reqps",
            [Query(per_second(series.BROKEN, of_each, to_copies), told)],
        ),
        Panel(
            "Healthy copies",
            "As all sidecars together see them.",
            "short",
            [Query(summed(series.HEALTHY, of_each, to_copies), told)],
        ),
    ]


def _processes() -> list[Panel]:
    each = ("job", "instance")
    cpu = f"sum {series.by(*each)} ({series.rate(series.CPU, WINDOW, _JOBS)})"
    return [
        Panel("Processor", "Cores in use.", "none", [Query(cpu, legend(*each))], wide=12),
        Panel("Memory", "Resident.", "bytes", [Query(summed(series.MEMORY, each, _JOBS), legend(*each))], wide=12),
    ]
