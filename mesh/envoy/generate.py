"""One sidecar's whole configuration. Law: what Istio's control plane would send to a proxy of this world.

Where addresses and certificates come from is written as Istio writes it: by ADS, and from its agent. Whoever runs an
Envoy without a control plane replaces these sources.
"""

from __future__ import annotations

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.envoy.listeners import listeners
from mesh.envoy.proto import Json
from mesh.envoy.routes import routes
from mesh.istio.proxies import Proxy
from mesh.istio.world import World


def generate(world: World, proxy: Proxy) -> dict[str, list[Json]]:
    """Clusters, routes, listeners and endpoints in proto JSON with proto field names. Raises RefusedError."""
    return {
        "clusters": clusters(world, proxy),
        "routes": routes(world, proxy),
        "listeners": listeners(world, proxy),
        "endpoints": endpoints(world, proxy),
    }
