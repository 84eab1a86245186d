"""The DestinationRule of a host. Law: a subset for each version, so that each has limits and ejections of its own.

What a model asks for stands on the rule where the model has the host alone, else on its subsets; the mesh's TLS is
always the rule's.
"""

from __future__ import annotations

from typing import Final

from mesh.catalog import Model
from mesh.render.resource import Fields, duration, given, percent, resource
from mesh.render.routes import is_retried
from mesh.render.services import Service
from protos.contract import COPY_LABEL, SEQUENCE_ID

_TLS: Final[Fields] = {"tls": {"mode": "ISTIO_MUTUAL"}}
_FEWEST_RETRIES: Final = 3  # that may run whatever the budget says; Envoy's own


def destination_rule(service: Service, *, proxyless: bool = False) -> Fields:
    """Istio's DestinationRule."""
    policy = _TLS if service.shared else _TLS | _policy(service.models[0], proxyless=proxyless)
    subsets = [
        given(
            name=service.subset(model, version),
            labels=labels or None,
            trafficPolicy=_policy(model, proxyless=proxyless) if service.shared else None,
        )
        for model in service.models
        for version, labels in model.versions.items()
    ]
    subsets += [
        given(
            name=service.subset_of_copy(model, version, index),
            labels={**model.versions[version], COPY_LABEL: str(index)},
            trafficPolicy=_policy_of_copy(service, model, proxyless=proxyless),
        )
        for model in service.models
        for version, number in model.copies.items()
        for index in range(number)
    ]
    spec: Fields = {"host": service.host, "trafficPolicy": policy, "subsets": subsets}
    return resource("DestinationRule", service.namespace, service.resource_name, spec)


def _policy(model: Model, *, proxyless: bool) -> Fields:
    breaker = model.breaker
    return given(
        loadBalancer=_load_balancer(model, proxyless=proxyless),
        connectionPool={
            "http": given(http1MaxPendingRequests=breaker.pending, http2MaxRequests=breaker.requests),
        },
        retryBudget=_retry_budget(model),
        outlierDetection=_outlier_detection(model),
    )


def _policy_of_copy(service: Service, model: Model, *, proxyless: bool) -> Fields | None:
    """As its version's, but that it is told whatever it said before."""
    policy = _policy(model, proxyless=proxyless) if service.shared else {}
    never = {"consecutiveGatewayErrors": 0, "consecutive5xxErrors": 0}
    return (policy | given(outlierDetection=never if model.ejection else None)) or None


def _load_balancer(model: Model, *, proxyless: bool) -> Fields:
    if model.sequence:
        return {"consistentHash": {"httpHeaderName": SEQUENCE_ID}}
    return {"simple": "ROUND_ROBIN" if proxyless else "LEAST_REQUEST"}  # gRPC's client counts no calls


def _retry_budget(model: Model) -> Fields | None:
    if not is_retried(model) or model.retries.budget is None:
        return None
    # No budgetInterval: with it Envoy weighs the retries that run against all calls of that time, and bounds none.
    return {"percent": percent(model.retries.budget), "minRetryConcurrency": _FEWEST_RETRIES}


def _outlier_detection(model: Model) -> Fields | None:
    ejection = model.ejection
    if ejection is None:
        return None
    return {
        "consecutiveGatewayErrors": ejection.errors,
        "consecutive5xxErrors": ejection.errors if ejection.count == "5xx" else 0,
        "interval": duration(ejection.interval),
        "baseEjectionTime": duration(ejection.time),
        "maxEjectionPercent": percent(ejection.most),
    }
