"""The clusters that gRPC's client asks for. Law: its copies come by ADS; what the rule does not say, gRPC does its way.

That is: round robin, at most 1024 calls at a time, and plain text, for gRPC does not choose TLS by the copy. Source:
Istio's BuildClusters in pilot/pkg/networking/grpcgen/cds.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mesh.envoy.copies import identities
from mesh.envoy.destination_rules import rule_for
from mesh.envoy.load_balancing import hash_balancing
from mesh.envoy.proto import (
    ROOT_CERTIFICATES,
    TLS_TRANSPORT_SOCKET,
    UPSTREAM_TLS_CONTEXT,
    WORKLOAD_CERTIFICATE,
    Json,
    message,
    named,
    outbound,
)
from mesh.envoy.visible import Service, services
from mesh.istio.destination_rule import TLSMode, TrafficPolicy
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from mesh.proxyless.bootstrap import PROVIDER


def clusters(world: World, proxy: Proxy) -> list[Json]:
    """envoy.config.cluster.v3.Cluster of every port of every service that a caller may call, and of its subsets."""
    return [cluster for service in services(world, proxy) for cluster in _of_service(world, proxy, service)]


def _of_service(world: World, proxy: Proxy, service: Service) -> Iterator[Json]:
    rule = rule_for(world, service.host, service.namespace, proxy)
    subsets = ["", *(subset.name for subset in rule.spec.subsets)] if rule else [""]
    peers = identities(world, service)
    for port in service.ports:
        for subset in subsets:
            policy = rule.policy(port.number, subset) if rule else None
            yield _cluster(outbound(port.number, service.host, subset), policy or TrafficPolicy(), peers)


def _cluster(name: str, policy: TrafficPolicy, peers: Sequence[str]) -> Json:
    mutual = policy.tls is not None and policy.tls.mode is TLSMode.ISTIO_MUTUAL
    hashing = policy.load_balancer.consistent_hash if policy.load_balancer else None
    return message(
        name=name,
        alt_stat_name=name + ";",
        type="EDS",
        eds_cluster_config={"service_name": name, "eds_config": {"ads": {}}},
        transport_socket=_mutual_tls(peers) if mutual else None,
        circuit_breakers=_circuit_breakers(policy),
        **(hash_balancing(hashing) if hashing else {}),
    )


def _circuit_breakers(policy: TrafficPolicy) -> Json | None:
    http = policy.connection_pool.http if policy.connection_pool else None
    most = http.http2_max_requests if http else 0
    return {"thresholds": [{"max_requests": most}]} if most else None


def _mutual_tls(peers: Sequence[str]) -> Json:
    """By a certificate provider of the bootstrap. Older clients read the fields whose names say so twice."""
    own: Json = {"instance_name": PROVIDER, "certificate_name": WORKLOAD_CERTIFICATE}
    roots: Json = {"instance_name": PROVIDER, "certificate_name": ROOT_CERTIFICATES}
    validation: Json = {
        "default_validation_context": message(
            match_subject_alt_names=[{"exact": peer} for peer in peers] or None, ca_certificate_provider_instance=roots
        ),
        "validation_context_certificate_provider_instance": roots,
    }
    common: Json = {
        "tls_certificate_provider_instance": own,
        "tls_certificate_certificate_provider_instance": own,
        "combined_validation_context": validation,
    }
    return named(TLS_TRANSPORT_SOCKET, UPSTREAM_TLS_CONTEXT, common_tls_context=common)
