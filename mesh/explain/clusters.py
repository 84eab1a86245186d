"""What a cluster means to its calls. Law: a limit is said with what happens to the call that meets it.

Read from an envoy.config.cluster.v3.Cluster; what is unset there has Envoy's own default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.envoy.proto import UINT32_MAX, Json
from mesh.envoy.reading import number, part, parts, text
from mesh.explain.words import Fact, duration, listed

_BALANCING: Final = {
    "": "in turn",
    "LEAST_REQUEST": "of two at random, the one with fewer calls running",
    "RANDOM": "at random",
    "RING_HASH": "by the hash of what is sticky, or else at random (a ring)",
    "MAGLEV": "by the hash of what is sticky, or else at random (Maglev)",
}
_ERRORS: Final = 5
_INTERVAL: Final = "10s"
_EJECTION: Final = "30s"
_MOST: Final = 10.0
_BOUNDS: Final = (
    ("max_requests", "calls"),
    ("max_pending_requests", "waiting for a connection"),
    ("max_connections", "connections"),
)
_REFUSED: Final = "a call over that is refused at once: UNAVAILABLE, overflow"


def facts(cluster: Json) -> Iterator[Fact]:
    """What holds for calls that go to a cluster."""
    yield Fact("copy", _BALANCING[text(cluster, "lb_policy")])
    for thresholds in parts(part(cluster, "circuit_breakers"), "thresholds"):
        yield Fact("budget", _budget(thresholds))
        yield Fact("limits", _limits(thresholds))
    yield Fact("ejection", _ejection(part(cluster, "outlier_detection")) if "outlier_detection" in cluster else "none")
    yield Fact("connect", f"within {duration(text(cluster, 'connect_timeout'))}")
    yield Fact("mTLS", _tls(cluster))


def _budget(thresholds: Json) -> str:
    if "retry_budget" not in thresholds:
        most = number(thresholds, "max_retries")
        return "none" if most == UINT32_MAX else f"at most {most:g} retries at a time"
    budget = part(thresholds, "retry_budget")
    interval = text(budget, "budget_interval")
    of = f"the calls of the last {duration(interval)}" if interval else "the calls that run"
    most, least = number(part(budget, "budget_percent"), "value"), number(budget, "min_retry_concurrency")
    return f"retries are at most {most:g} % of {of}, but {least:g} at a time always may"


def _limits(thresholds: Json) -> str:
    found = [(number(thresholds, name), what) for name, what in _BOUNDS]
    said = [f"{most:g} {what}" for most, what in found if most != UINT32_MAX]
    return f"{listed(said)} of this sidecar at a time; {_REFUSED}" if said else "none"


def _ejection(detection: Json) -> str:
    counts = [f"{most:g} {what}" for most, what in _counted(detection) if most]
    if not counts:
        return "none"
    return (
        f"a copy with {' or '.join(counts)} in a row gets no calls for "
        f"{duration(text(detection, 'base_ejection_time') or _EJECTION)}, the next time for twice as long; "
        f"looked at every {duration(text(detection, 'interval') or _INTERVAL)}, "
        f"at most {number(detection, 'max_ejection_percent') or _MOST:g} % of the copies are out"
    )


def _counted(detection: Json) -> Iterator[tuple[float, str]]:
    """(how many ..., of what) it takes; 0: that kind is not counted."""
    apart = "split_external_local_origin_errors" in detection
    own = "" if apart else "no connection, "
    errors = number({"consecutive_5xx": _ERRORS, **detection}, "consecutive_5xx")
    gateway = number(detection, "consecutive_gateway_failure")
    yield errors, f"failures ({own}UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN, DATA_LOSS or UNIMPLEMENTED)"
    if not 0 < errors <= gateway:
        yield gateway, f"failures ({own}UNAVAILABLE or DEADLINE_EXCEEDED)"
    if apart:
        local = {"consecutive_local_origin_failure": _ERRORS, **detection}
        yield number(local, "consecutive_local_origin_failure"), "failures to connect"


def _tls(cluster: Json) -> str:
    if "transport_socket" in cluster:
        return _mutual(part(cluster, "transport_socket"))
    for one in parts(cluster, "transport_socket_matches"):
        if part(one, "match"):
            return f"{_mutual(part(one, 'transport_socket'))}; plain text to copies without a sidecar"
    return "none: plain text"


def _mutual(socket: Json) -> str:
    context = part(socket, "typed_config", "common_tls_context", "combined_validation_context")
    names = parts(part(context, "default_validation_context"), "match_subject_alt_names")
    accepted = " or ".join(text(name, "exact") for name in names)
    return f"yes, and the copy must be {accepted}" if accepted else "yes, and the copy may be anyone of the mesh"
