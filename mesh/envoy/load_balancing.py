"""How Envoy chooses a copy. Law: least requests, unless something else is said; a hash wins over a simple way.

Source: Istio's applyLoadBalancer in pilot/pkg/networking/core/cluster_traffic_policy.go.
"""

from __future__ import annotations

from mesh.envoy.proto import Json, duration, message, percent
from mesh.istio.load_balancer import ConsistentHashLB, LoadBalancerSettings, SimpleLB

_RING_SIZE = 1024


def load_balancing(settings: LoadBalancerSettings | None) -> Json:
    """The fields of a cluster that say how a copy is chosen. ROUND_ROBIN is proto's default and stays unsaid."""
    if settings is None:
        return {"lb_policy": "LEAST_REQUEST"}
    fields = _simple(settings)
    if settings.consistent_hash is None:
        return fields
    hashed = hash_balancing(settings.consistent_hash)
    return hashed if len(hashed) > 1 else fields | hashed  # a ring or table without a size leaves the warmup there


def _simple(settings: LoadBalancerSettings) -> Json:
    slow_start = _slow_start(settings)
    config: Json | None = None if slow_start is None else {"slow_start_config": slow_start}
    if settings.simple is SimpleLB.RANDOM:
        return {"lb_policy": "RANDOM"}
    if settings.simple is SimpleLB.ROUND_ROBIN:
        return message(round_robin_lb_config=config)
    return message(lb_policy="LEAST_REQUEST", least_request_lb_config=config)


def _slow_start(settings: LoadBalancerSettings) -> Json | None:
    warmup = settings.warmup
    if warmup is None:
        window = settings.warmup_duration_secs
        return None if window is None else {"slow_start_window": window.json}
    aggression = 1.0 if warmup.aggression is None else warmup.aggression
    return message(
        slow_start_window=duration(warmup.duration),
        aggression={"default_value": aggression, "runtime_key": "("},
        min_weight_percent=percent(10.0 if warmup.minimum_percent is None else warmup.minimum_percent),
    )


def hash_balancing(settings: ConsistentHashLB) -> Json:
    """The same for a hash."""
    if settings.maglev is not None:
        return {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": str(settings.maglev.table_size)}}
    size = settings.minimum_ring_size or _RING_SIZE
    if settings.ring_hash is not None:
        size = settings.ring_hash.minimum_ring_size
    config: Json | None = {"minimum_ring_size": str(size)} if size else None
    return message(lb_policy="RING_HASH", ring_hash_lb_config=config)
