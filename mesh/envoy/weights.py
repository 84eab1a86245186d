"""Where a route's calls go. Law: one destination gets them all, whatever its weight; of several, none with weight 0.

Source: Istio's processDestination and processWeightedDestination.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.envoy.header_edits import authority, header_edits
from mesh.envoy.proto import Json, message
from mesh.istio.http_route import Destination, HTTPRouteDestination


def receiving(destinations: Sequence[HTTPRouteDestination]) -> Sequence[HTTPRouteDestination]:
    """The destinations that get calls."""
    return destinations if len(destinations) == 1 else [one for one in destinations if one.weight]


def cluster_specifier(destinations: Sequence[HTTPRouteDestination], cluster_of: Callable[[Destination], str]) -> Json:
    """The field of a RouteAction that names one cluster, or several with their weights and edits of headers."""
    if len(destinations) == 1:
        return {"cluster": cluster_of(destinations[0].destination)}
    clusters = [_weighted(one, cluster_of(one.destination)) for one in receiving(destinations)]
    return {"weighted_clusters": {"clusters": clusters}}


def _weighted(one: HTTPRouteDestination, cluster: str) -> Json:
    return message(
        name=cluster,
        weight=one.weight,
        host_rewrite_literal=authority(one.headers) or None,
        **header_edits(one.headers),
    )
