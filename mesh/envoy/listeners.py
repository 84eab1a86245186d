"""The listeners of a sidecar. Law: where connections are captured, two listeners take them all; elsewhere, one a port.

Listeners in proto JSON, in Istio's order (outbound ports by number). Without Istio's own filters: see http_filters.py.
"""

from __future__ import annotations

from mesh.envoy.inbound import virtual_inbound, workload_listeners
from mesh.envoy.outbound import port_listeners, virtual_outbound
from mesh.envoy.proto import Json
from mesh.istio.document import RefusedError
from mesh.istio.proxies import Proxy
from mesh.istio.world import World


def listeners(world: World, proxy: Proxy) -> list[Json]:
    """What Istio generates for a sidecar whose workload's connections are captured. RefusedError: not implemented."""
    _check(world)
    return [*port_listeners(world, proxy), virtual_outbound(world, proxy), virtual_inbound(world, proxy)]


def local_listeners(world: World, proxy: Proxy) -> list[Json]:
    """The same where nothing is captured: `inbound|PORT` at the workload's own address, and the outbound ports.

    The outbound ports are bound to nothing yet: who starts the Envoy knows where its workload calls it.
    """
    _check(world)
    return [*port_listeners(world, proxy), *workload_listeners(world, proxy)]


def _check(world: World) -> None:
    if world.mesh.enable_tracing:
        raise RefusedError(["mesh.yaml: enableTracing: not implemented: true"])
