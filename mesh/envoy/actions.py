"""What a route does with its calls. Law: a route answers, redirects or forwards; no timeout means no end.

Source: Istio's TranslateRoute and applyHTTPRouteDestination.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mesh.envoy.answers import direct_response, redirect
from mesh.envoy.hash_policies import hash_policy
from mesh.envoy.header_edits import authority
from mesh.envoy.mirrors import mirror_policies
from mesh.envoy.proto import Json, message
from mesh.envoy.retries import retry_policy
from mesh.envoy.weights import cluster_specifier, receiving
from mesh.istio.http_route import Destination, HTTPRewrite, HTTPRoute
from mesh.istio.load_balancer import ConsistentHashLB

_NO_END: Final = "0s"


Bound = Callable[[str], Json]
"""The fields of a RouteAction that end a call after a time."""


def grpc_timeout(timeout: str) -> Json:
    """Also a caller's own deadline (`grpc-timeout`) is heeded, and bounded by the route's timeout if it has one."""
    return {"timeout": timeout, "max_grpc_timeout": timeout}


@dataclass(frozen=True)
class Directory:
    """How destinations are found: the cluster of each, and the hash that chooses its copies (None: no hash).

    `bound` is how a caller of this kind is told of a route's timeout.
    """

    cluster_of: Callable[[Destination], str]
    hash_of: Callable[[Destination], ConsistentHashLB | None]
    bound: Bound


def action(route: HTTPRoute, port: int, directory: Directory) -> Json:
    """The one field of an envoy.config.route.v3.Route that says what it does."""
    if route.redirect:
        return {"redirect": redirect(route.redirect, port)}
    if route.direct_response:
        return {"direct_response": direct_response(route.direct_response)}
    return {"route": _forward(route, directory)}


def default_action(cluster: str, hashing: ConsistentHashLB | None) -> Json:
    """envoy.config.route.v3.RouteAction of a service without a VirtualService."""
    policy = hash_policy(hashing) if hashing else None
    return message(
        cluster=cluster,
        **grpc_timeout(_NO_END),
        retry_policy=retry_policy(None, hashed=False),
        hash_policy=[policy] if policy else None,
    )


def passthrough_action(cluster: str) -> Json:
    """envoy.config.route.v3.RouteAction that forwards as it comes: no retries, no end."""
    return {"cluster": cluster, **grpc_timeout(_NO_END)}


def _forward(route: HTTPRoute, directory: Directory) -> Json:
    hashes = [directory.hash_of(one.destination) for one in receiving(route.route)]
    policies = [policy for hashing in hashes if hashing and (policy := hash_policy(hashing))]
    return message(
        **cluster_specifier(route.route, directory.cluster_of),
        **directory.bound(route.timeout.json if route.timeout else _NO_END),
        **(_rewrite(route.rewrite) if route.rewrite else {}),
        host_rewrite_literal=_authority(route) or None,
        request_mirror_policies=mirror_policies(route, directory.cluster_of) or None,
        hash_policy=policies or None,
        retry_policy=retry_policy(route.retries, hashed=len(route.route) == 1 and hashes[0] is not None),
    )


def _rewrite(rewrite: HTTPRewrite) -> Json:
    if regex := rewrite.uri_regex_rewrite:
        return {"regex_rewrite": {"pattern": {"regex": regex.match}, "substitution": regex.rewrite}}
    return {"prefix_rewrite": rewrite.uri} if rewrite.uri else {}


def _authority(route: HTTPRoute) -> str:
    """What the authority becomes: the rewrite's, the route's headers', those of its one destination."""
    rewritten = route.rewrite.authority if route.rewrite else ""
    found = rewritten or authority(route.headers)
    return found or (authority(route.route[0].headers) if len(route.route) == 1 else "")
