"""The listeners of a sidecar whose workload's connections are captured. Law: two listeners take all of them.

Listeners in proto JSON, in Istio's order (outbound ports by number). Without Istio's own filters: see http_filters.py.
"""

from __future__ import annotations

from mesh.envoy.inbound import virtual_inbound
from mesh.envoy.outbound import port_listeners, virtual_outbound
from mesh.envoy.proto import Json
from mesh.istio.proxies import Proxy
from mesh.istio.world import World


def listeners(world: World, proxy: Proxy) -> list[Json]:
    """What Istio generates for a sidecar. RefusedError: not implemented."""
    return [*port_listeners(world, proxy), virtual_outbound(world, proxy), virtual_inbound(world, proxy)]
