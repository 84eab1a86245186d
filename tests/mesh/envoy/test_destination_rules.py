"""Which DestinationRule holds: namespaces, hosts, exports, selectors and merging, in Istio's order."""

from __future__ import annotations

from mesh.envoy.destination_rules import rule_for
from mesh.istio.proxies import Proxy
from tests.mesh.envoy.istio_vectors import GATEWAY, WORKER, world_alone

HOST = "a.models.svc.cluster.local"


def rule(name: str, namespace: str, spec: str, host: str = HOST) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{host: "{host}", {spec}}}
"""


def pool(limit: int) -> str:
    return f"trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {limit}}}}}}}"


def limit(text: str, caller: Proxy = GATEWAY, *, inbound: bool = False) -> int | None:
    found = rule_for(world_alone(text), HOST, "models", caller, inbound=inbound)
    policy = found.policy(80) if found else None
    http = policy.connection_pool.http if policy and policy.connection_pool else None
    return http.http2_max_requests if http else None


def test_the_callers_namespace_then_the_services_then_the_root() -> None:
    mine, service, root = rule("r", "infer", pool(1)), rule("r", "models", pool(2)), rule("r", "istio-system", pool(3))
    assert limit(root + service + mine) == 1
    assert limit(root + service) == 2
    assert limit(root) == 3
    assert limit(rule("r", "elsewhere", pool(4))) is None


def test_a_wildcard_of_the_caller_comes_before_the_services_exact_host() -> None:
    assert limit(rule("r", "infer", pool(1), "*.local") + rule("r", "models", pool(2))) == 1


def test_the_narrowest_host_of_a_namespace() -> None:
    wide, narrow = rule("w", "models", pool(1), "*.local"), rule("narrow", "models", pool(2), "*.svc.cluster.local")
    assert limit(wide + narrow) == 2
    assert limit(wide + narrow + rule("short", "models", pool(3), "a")) == 3


def test_exports() -> None:
    private = rule("r", "models", "exportTo: [.], " + pool(2))
    assert limit(private) is None
    assert limit(private, WORKER) == 2
    # The narrowest host is looked for before it is asked who may see it, as Istio does.
    named = rule("narrow", "models", "exportTo: [other], " + pool(1)) + rule("w", "models", pool(5), "*.local")
    assert limit(named) is None


def test_rules_of_one_host_are_merged() -> None:
    one = rule("a", "models", "subsets: [{name: v1, labels: {version: v1}}]")
    two = rule("b", "models", pool(7) + ", subsets: [{name: v1, labels: {version: x}}, {name: v2}]")
    three = rule("c", "models", pool(8))
    found = rule_for(world_alone(three + two + one), HOST, "models", GATEWAY)
    assert found is not None
    assert [subset.name for subset in found.spec.subsets] == ["v1", "v2"]
    assert found.subset_labels("v1") == {"version": "v1"}
    assert found.path == "/apis/networking.istio.io/v1/namespaces/models/destination-rule/a"
    assert limit(one + two + three) == 7


def test_rules_with_other_exports_stay_apart_and_the_last_counts() -> None:
    assert limit(rule("a", "models", pool(1)) + rule("b", "models", "exportTo: ['*'], " + pool(2))) == 2


def test_a_selector_is_for_callers_of_its_own_namespace() -> None:
    some = rule("a", "infer", "workloadSelector: {matchLabels: {app: gateway}}, " + pool(1))
    everyone = rule("b", "infer", pool(2))
    other = Proxy(name="other", namespace="infer", ip="127.0.0.1", labels={"app": "other"})
    assert limit(some + everyone) == 1
    assert limit(some + everyone, other) == 2
    assert limit(some + everyone, inbound=True) == 2
    assert limit(some, WORKER) is None


def test_a_rule_for_other_callers_hides_the_services() -> None:
    """The caller's namespace has a rule for the host, so that Istio looks no further, though it is not for this one."""
    some = rule("a", "infer", "workloadSelector: {matchLabels: {app: other}}, " + pool(1))
    assert limit(some + rule("b", "models", pool(2))) is None
