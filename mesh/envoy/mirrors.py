"""Copies of calls for other destinations. Law: a mirror of 0 % is none; without a percentage, every call is copied.

Source: Istio's MirrorPercent and TranslateRequestMirrorPolicy.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.envoy.proto import Json
from mesh.envoy.shares import drawn, in_hundredths, in_millionths
from mesh.istio.fault import Percent
from mesh.istio.http_route import Destination, HTTPRoute


def mirror_policies(route: HTTPRoute, cluster_of: Callable[[Destination], str]) -> list[Json]:
    """Each envoy...RouteAction.RequestMirrorPolicy: of `mirror` first, then of `mirrors`."""
    found = [(route.mirror, _share_of_mirror(route))] if route.mirror else []
    found += [(mirror.destination, _share(mirror.percentage)) for mirror in route.mirrors]
    return [_policy(cluster_of(destination), share) for destination, share in found if share is not None]


def _policy(cluster: str, share: Json) -> Json:
    return {
        "cluster": cluster,
        "runtime_fraction": drawn(share),
        "trace_sampled": False,
        "disable_shadow_host_suffix_append": True,  # a copy keeps its host
    }


def _share_of_mirror(route: HTTPRoute) -> Json | None:
    """`mirror_percentage` wins over the older `mirror_percent`."""
    if route.mirror_percentage is None and route.mirror_percent is not None:
        return in_hundredths(route.mirror_percent) if route.mirror_percent else None
    return _share(route.mirror_percentage)


def _share(percentage: Percent | None) -> Json | None:
    if percentage is None:
        return in_hundredths(100)
    return in_millionths(percentage) if percentage.value > 0 else None
