"""The clusters of the workload's own ports. Law: one for each port; the oldest service's rule limits it.

Of a DestinationRule only connection pool and retry budget hold here, so that a worker is not overrun either.
Source: Istio's buildInboundCluster in pilot/pkg/networking/core/cluster_builder.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.envoy.connection_pool import http_options, limits
from mesh.envoy.copies import targets
from mesh.envoy.destination_rules import Rule, rule_for
from mesh.envoy.fixed_clusters import bind
from mesh.envoy.proto import Json, inbound, message, service_metadata
from mesh.envoy.visible import Service, services
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import ServicePort
from mesh.istio.world import World

_NEVER = "9223372035s"

Served = tuple[Service, ServicePort]


def inbound_clusters(world: World, proxy: Proxy) -> list[Json]:
    """One cluster for each port that the workload listens on, by port."""
    by_port: dict[int, list[Served]] = {}
    for service, port, copy in targets(world, proxy.ip, proxy.namespace):
        by_port.setdefault(copy.port, []).append((service, port))
    return [_cluster(world, proxy, number, by_port[number]) for number in sorted(by_port)]


def _cluster(world: World, proxy: Proxy, number: int, served: Sequence[Served]) -> Json:
    service, port = served[0]
    rule = _rule(world, proxy, service.host)
    policy = rule.policy(port.number) if rule else None
    same_port = dict.fromkeys((other.host, other.namespace) for other, one in served if one.number == port.number)
    about = service_metadata(*same_port, config=rule.path if rule and policy else None)
    return message(
        name=inbound(number),
        alt_stat_name=inbound(number) + ";",
        type="ORIGINAL_DST",
        lb_policy="CLUSTER_PROVIDED",
        common_lb_config={},
        cleanup_interval=_NEVER,
        **limits(policy),
        typed_extension_protocol_options=http_options(policy, http2=port.http2),
        metadata=None if service.external else about,
        **bind(proxy),
    )


def _rule(world: World, proxy: Proxy, host: str) -> Rule | None:
    """The rule for the workload's own service: Istio looks among those services that the sidecar may call."""
    service = next((one for one in services(world, proxy) if one.host == host), None)
    return rule_for(world, host, service.namespace, proxy, inbound=True) if service else None
