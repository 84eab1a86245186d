"""ClusterLoadAssignments: the addresses behind each cluster. Law: a subset has those copies that have its labels.

Source: Istio's pilot/pkg/xds/endpoints/endpoint_builder.go. A service found by DNS has its addresses in its cluster.
"""

from __future__ import annotations

from mesh.envoy.copies import Copy, copies
from mesh.envoy.destination_rules import Rule, rule_for
from mesh.envoy.mutual_tls import is_sent
from mesh.envoy.proto import Json, message, outbound
from mesh.envoy.visible import Service, services
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import Resolution, ServicePort
from mesh.istio.world import World

_CLUSTER_ID = "Kubernetes"


def endpoints(world: World, proxy: Proxy) -> list[Json]:
    """envoy.config.endpoint.v3.ClusterLoadAssignment of every cluster whose addresses are sent apart from it."""
    found = []
    for service in services(world, proxy):
        if service.entry.spec.resolution is Resolution.STATIC:
            rule = rule_for(world, service.host, service.namespace, proxy)
            subsets = ["", *(subset.name for subset in rule.spec.subsets)] if rule else [""]
            for port in service.ports:
                found += [assignment(world, service, port, rule, subset) for subset in subsets]
    return found


def assignment(world: World, service: Service, port: ServicePort, rule: Rule | None, subset: str) -> Json:
    """envoy.config.endpoint.v3.ClusterLoadAssignment of one cluster; without copies, it has no endpoints."""
    labels = rule.subset_labels(subset) if rule else {}
    found = copies(world, service, port, labels)
    lb_endpoints = [_endpoint(copy, mutual_tls=is_sent(world, copy, rule, port.number, subset)) for copy in found]
    weight = min(sum(copy.weight for copy in found), 2**32 - 1)
    locality: Json = {"locality": {}, "lb_endpoints": lb_endpoints, "load_balancing_weight": weight}
    name = outbound(port.number, service.host, subset)
    return message(cluster_name=name, endpoints=[locality] if found else None)


def _endpoint(copy: Copy, *, mutual_tls: bool) -> Json:
    telemetry: Json = {"istio": {"workload": _workload(copy)}}
    match: Json = {"envoy.transport_socket_match": {"tlsMode": "istio"}} if mutual_tls and copy.identity else {}
    return {
        "endpoint": {"address": {"socket_address": {"address": copy.address, "port_value": copy.port}}},
        "load_balancing_weight": copy.weight,
        "metadata": {"filter_metadata": {**match, **telemetry}},
    }


def _workload(copy: Copy) -> str:
    """What Istio's telemetry reads: workload, namespace, service, revision and cluster."""
    labels = copy.labels
    service = labels.get("app.kubernetes.io/name", labels.get("app", copy.name))
    revision = labels.get("app.kubernetes.io/version", labels.get("version", "latest"))
    return ";".join((copy.name, copy.namespace, service, "" if revision == "latest" else revision, _CLUSTER_ID))
