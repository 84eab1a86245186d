"""Policies of DestinationRules that Istio accepts and Envoy does not. Law: refused by name, before an Envoy sees them.

Bounds are those that Envoy 1.40 checks (the `validate` rules of its protos); a duration is never negative.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.envoy.proto import refusal
from mesh.istio.destination_rule import DestinationRule, RetryBudget, TrafficPolicy
from mesh.istio.document import RefusedError
from mesh.istio.load_balancer import LoadBalancerSettings
from mesh.istio.message import Mistake
from mesh.istio.world import World

_RING_LIMIT = 8388608


def refuse_policies(world: World) -> None:
    """Raises RefusedError with every such place."""
    found = [refusal(one, where, what) for one in world.destination_rules for where, what in _in_rule(one.spec)]
    if found:
        raise RefusedError([mistake for one in found for mistake in one.mistakes])


def _in_rule(rule: DestinationRule) -> Iterator[Mistake]:
    for place, policy in rule.policies():
        for where, what in _in_balancer(policy.load_balancer) if policy.load_balancer else ():
            yield (*place, "loadBalancer", *where), what
        budget = policy.retry_budget if isinstance(policy, TrafficPolicy) else None
        for field, what in _in_budget(budget) if budget else ():
            yield (*place, "retryBudget", field), what


def _in_budget(budget: RetryBudget) -> Iterator[tuple[str, str]]:
    if budget.percent is not None and not 0 <= budget.percent <= 100:
        yield "percent", f"{budget.percent:g} is not in 0..100"
    if budget.budget_interval is not None and budget.budget_interval.nanoseconds < 0:
        yield "budgetInterval", "must not be negative"


def _in_balancer(balancer: LoadBalancerSettings) -> Iterator[Mistake]:
    if balancer.warmup_duration_secs is not None and balancer.warmup_duration_secs.nanoseconds < 0:
        yield ("warmupDurationSecs",), "must not be negative"
    hashing = balancer.consistent_hash
    if hashing is None:
        return
    ring = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else 0
    for where, size in ((("minimumRingSize",), hashing.minimum_ring_size), (("ringHash", "minimumRingSize"), ring)):
        if size > _RING_LIMIT:
            yield ("consistentHash", *where), f"{size} is more than {_RING_LIMIT}"
