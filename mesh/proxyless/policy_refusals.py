"""What a DestinationRule can ask and gRPC's client cannot do. Law: it is refused by name; gRPC itself ignores it.

Or, for a load balancer that it does not have, it takes none of the clusters. Sources:
https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md; gRFC A32 for limits, A42 for hashes, A48 for
LEAST_REQUEST, which C-core lacks, A50 for ejection, of which Istio has no kind that gRPC has; and Istio's own cds.go,
which leaves out the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.istio.destination_rule import DestinationRule, PortTrafficPolicy, TrafficPolicy
from mesh.istio.load_balancer import ConsistentHashLB, LoadBalancerSettings, SimpleLB
from mesh.istio.message import Message, Mistake, json_name

_MOST_POINTS: Final = 4096  # of a hash ring in C-core (gRFC A42), which cuts what is over without a word
_BALANCERS: Final = (None, SimpleLB.UNSPECIFIED, SimpleLB.ROUND_ROBIN)


def in_rule(rule: DestinationRule) -> Iterator[Mistake]:
    """Every such place in a rule."""
    for place, policy in rule.policies():
        yield from (((*place, *where), what) for where, what in _in_policy(policy))


def _in_policy(policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Mistake]:
    for where, what in _in_balancer(policy.load_balancer) if policy.load_balancer else ():
        yield ("loadBalancer", *where), what
    pool, tls = policy.connection_pool, policy.tls
    for part, found, known in (("tcp", pool and pool.tcp, ()), ("http", pool and pool.http, ("http2_max_requests",))):
        for field in _set(found, known) if found else ():
            yield ("connectionPool", part, field), "of these limits, gRPC's client has http2MaxRequests alone"
    for field in _set(tls, ("mode",)) if tls else ():
        yield ("tls", field), "gRPC's client looks for the identities of the service's copies, and for its own name"
    if policy.outlier_detection is not None:
        yield ("outlierDetection",), "gRPC's client ejects no copies for errors in a row"
    if isinstance(policy, TrafficPolicy) and policy.retry_budget is not None:
        yield ("retryBudget",), "gRPC's client keeps no budget of retries"


def _in_balancer(balancer: LoadBalancerSettings) -> Iterator[Mistake]:
    if balancer.simple not in _BALANCERS:
        yield ("simple",), f"{balancer.simple}: gRPC's client has ROUND_ROBIN and consistentHash"
    for field in _set(balancer, ("simple", "consistent_hash")):
        yield (field,), "gRPC's client does not warm up copies"
    for where, what in _in_hash(balancer.consistent_hash) if balancer.consistent_hash else ():
        yield ("consistentHash", *where), what


def _in_hash(hashing: ConsistentHashLB) -> Iterator[Mistake]:
    for field in _set(hashing, ("http_header_name", "ring_hash", "minimum_ring_size")):
        yield (field,), "gRPC's client hashes a header, on a ring"
    if (hashing.http_header_name or "").endswith("-bin"):
        yield ("httpHeaderName",), "gRPC's client does not see binary headers"
    ring = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else 0
    for where, size in ((("minimumRingSize",), hashing.minimum_ring_size), (("ringHash", "minimumRingSize"), ring)):
        if size > _MOST_POINTS:
            yield where, f"{size}: a ring of gRPC's client has {_MOST_POINTS} points at most"


def _set(message: Message, known: tuple[str, ...]) -> Iterator[str]:
    """The fields that say something, but for those that are known."""
    for name, field in type(message).model_fields.items():
        if name not in known and getattr(message, name) != field.default:
            yield json_name(name)
