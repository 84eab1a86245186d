"""What a proxyless caller is told. Law: what Istio's control plane would send it, by the names that gRPC asks for.

gRPC's client asks for the listener `HOST:PORT` of what it calls, for the routes that this names, for their clusters and
the endpoints of these; what no one registered, it cannot call. Only callers: a gRPC server that takes its own
listeners from xDS is not implemented.
Source: Istio's pilot/pkg/networking/grpcgen, and for endpoints pilot/pkg/xds/endpoints.
"""

from __future__ import annotations

from mesh.envoy.endpoints import endpoints
from mesh.envoy.proto import Json
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from mesh.proxyless.clusters import clusters
from mesh.proxyless.listeners import listeners
from mesh.proxyless.refusals import refuse
from mesh.proxyless.routes import routes


def generate(world: World, proxy: Proxy) -> dict[str, list[Json]]:
    """Listeners, routes, clusters and endpoints of all that a caller may call, in proto JSON with proto field names.

    Raises RefusedError: they ask of it what gRPC's client cannot do.
    """
    refuse(world, proxy)
    return {
        "listeners": listeners(world, proxy),
        "routes": routes(world, proxy),
        "clusters": clusters(world, proxy),
        "endpoints": endpoints(world, proxy),
    }
