"""The clusters that every sidecar has. Law: what no one registered goes to its original address, or nowhere.

Source: Istio's pilot/pkg/networking/core/cluster_builder.go.
"""

from __future__ import annotations

from ipaddress import ip_address

from mesh.envoy.connection_pool import limits
from mesh.envoy.proto import HTTP_PROTOCOL_OPTIONS, Json, metadata_exchange, typed
from mesh.istio.proxies import Proxy

BLACK_HOLE = "BlackHoleCluster"
PASSTHROUGH = "PassthroughCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"


def fixed_clusters(proxy: Proxy) -> list[Json]:
    """Nowhere; to where a call was going; and to where a call to the workload itself was going."""
    nowhere: Json = {
        "name": BLACK_HOLE,
        "alt_stat_name": BLACK_HOLE + ";",
        "type": "STATIC",
        "connect_timeout": limits(None)["connect_timeout"],
    }
    outward = _passthrough(PASSTHROUGH) | {"filters": [metadata_exchange()]}
    inward = _passthrough(INBOUND_PASSTHROUGH) | bind(proxy)
    return [nowhere, outward, inward]


def bind(proxy: Proxy) -> Json:
    """The source address by which a sidecar knows its own calls to its workload."""
    address = "127.0.0.6" if ip_address(proxy.ip).version == 4 else "::6"
    return {"upstream_bind_config": {"source_address": {"address": address, "port_value": 0}}}


def _passthrough(name: str) -> Json:
    options = typed(
        HTTP_PROTOCOL_OPTIONS,
        common_http_protocol_options={"idle_timeout": "300s"},
        use_downstream_protocol_config={"http_protocol_options": {}, "http2_protocol_options": {}},
    )
    return {
        "name": name,
        "alt_stat_name": PASSTHROUGH + ";",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        **limits(None),
        "typed_extension_protocol_options": {HTTP_PROTOCOL_OPTIONS: options},
    }
