"""A sidecar's clusters. Law: one for each port of each service it may call, and one for each of its subsets.

Source: Istio's buildOutboundClusters in pilot/pkg/networking/core/cluster.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from mesh.envoy.connection_pool import http_options, limits, speaks_http2
from mesh.envoy.copies import identities
from mesh.envoy.destination_rules import Rule, rule_for
from mesh.envoy.endpoints import assignment
from mesh.envoy.fixed_clusters import fixed_clusters
from mesh.envoy.inbound_clusters import inbound_clusters
from mesh.envoy.load_balancing import load_balancing
from mesh.envoy.mtls import namespace_mode
from mesh.envoy.outlier import outlier_detection
from mesh.envoy.policy_refusals import refuse_policies
from mesh.envoy.proto import Json, message, metadata_exchange, named, outbound, percent, service_metadata, sni
from mesh.envoy.upstream_tls import upstream_tls
from mesh.envoy.visible import Service, services
from mesh.istio.destination_rule import TrafficPolicy
from mesh.istio.peer_authentication import MutualTLSMode
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import Resolution, ServicePort
from mesh.istio.world import World

_TYPES = {Resolution.STATIC: "EDS", Resolution.DNS: "STRICT_DNS", Resolution.DNS_ROUND_ROBIN: "LOGICAL_DNS"}


def clusters(world: World, proxy: Proxy) -> list[Json]:
    """envoy.config.cluster.v3.Cluster: those of services, by service, port and subset; fixed ones; the workload's.

    Raises RefusedError for what Envoy would not take.
    """
    refuse_policies(world)
    found = [cluster for service in services(world, proxy) for cluster in _of_service(world, proxy, service)]
    return [*found, *fixed_clusters(proxy), *inbound_clusters(world, proxy)]


def _of_service(world: World, proxy: Proxy, service: Service) -> Iterator[Json]:
    rule = rule_for(world, service.host, service.namespace, proxy)
    subsets = [subset.name for subset in rule.spec.subsets] if rule else []
    for port in service.ports:
        whole = _discovery(world, proxy, service, port, rule, "")
        if whole is None:
            continue
        yield _cluster(world, service, port, rule, "") | whole
        for subset in subsets:
            discovery = _discovery(world, proxy, service, port, rule, subset)
            if discovery is not None:
                yield _cluster(world, service, port, rule, subset) | discovery


def _cluster(world: World, service: Service, port: ServicePort, rule: Rule | None, subset: str) -> Json:
    """Everything but where the copies are."""
    name = outbound(port.number, service.host, subset)
    policy = rule.policy(port.number, subset) if rule else None
    outlier = policy.outlier_detection if policy else None
    http2 = speaks_http2(policy, http2=port.http2)
    about = service_metadata(
        (service.host, service.namespace),
        config=rule.path if rule else None,
        subset=subset or None,
        external=True if service.external and not subset else None,
    )
    return message(
        name=name,
        alt_stat_name=name + ";",
        **load_balancing(policy.load_balancer if policy else None),
        common_lb_config={"healthy_panic_threshold": percent(outlier.min_health_percent if outlier else 0)},
        **limits(policy),
        outlier_detection=outlier_detection(outlier) if outlier else None,
        typed_extension_protocol_options=http_options(policy, http2=http2),
        **_security(world, service, port, policy, subset, http2=http2),
        filters=[metadata_exchange()],
        metadata=about,
    )


def _security(
    world: World, service: Service, port: ServicePort, policy: TrafficPolicy | None, subset: str, *, http2: bool
) -> Json:
    mode = namespace_mode(world, service.namespace)
    return upstream_tls(
        policy.tls if policy else None,
        automatic=world.mesh.enable_auto_mtls and not service.external and mode is not MutualTLSMode.DISABLE,
        sni=sni(port.number, service.host, subset),
        peers=identities(world, service),
        http2=http2,
    )


def _discovery(
    world: World, proxy: Proxy, service: Service, port: ServicePort, rule: Rule | None, subset: str
) -> Json | None:
    """How a cluster's addresses are found. None where there is nothing to look up: Istio leaves such a cluster out."""
    resolution = service.entry.spec.resolution
    kind: Json = {"type": _TYPES[resolution]}
    if resolution is Resolution.STATIC:
        return kind | _by_ads(outbound(port.number, service.host, subset))
    found = assignment(world, service, port, rule, subset)
    return kind | _by_dns(proxy) | {"load_assignment": found} if "endpoints" in found else None


def _by_ads(name: str) -> Json:
    source: Json = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {"eds_cluster_config": {"service_name": name, "eds_config": source}}


def _by_dns(proxy: Proxy) -> Json:
    resolver = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    return {
        "dns_lookup_family": "V4_ONLY" if ip_address(proxy.ip).version == 4 else "V6_ONLY",
        "dns_refresh_rate": "60s",
        "dns_jitter": "0.100s",
        "respect_dns_ttl": True,
        "typed_dns_resolver_config": named("envoy.network.dns_resolver.cares", resolver, udp_max_queries=100),
    }
