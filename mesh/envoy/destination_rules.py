"""Which DestinationRule holds for a service. Law: Istio's order of namespaces, of hosts and of merging, to the letter.

Rules of one namespace for one host and with one exportTo become one rule: the oldest rule's policy, everyone's subsets.
Sources: Istio's pilot/pkg/model/destination_rule.go and push_context.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from mesh.istio.destination_rule import DestinationRule, TrafficPolicy
from mesh.istio.names import labels_match, qualified
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.world import World, most_specific


@dataclass(frozen=True)
class Rule:
    """Rules that were merged into one: `parts`, in order."""

    parts: tuple[Resource[DestinationRule], ...]
    spec: DestinationRule
    export_to: frozenset[str]

    @property
    def resource(self) -> Resource[DestinationRule]:
        """The first of the rules."""
        return self.parts[0]

    @property
    def selector(self) -> Mapping[str, str] | None:
        """The labels of the callers it is for."""
        return None if self.spec.workload_selector is None else self.spec.workload_selector.labels

    @property
    def path(self) -> str:
        """Where Kubernetes keeps it."""
        resource = self.resource
        return f"/apis/networking.istio.io/v1/namespaces/{resource.namespace}/destination-rule/{resource.name}"

    def subset_labels(self, name: str) -> Mapping[str, str]:
        """The labels of a subset's copies; none for the whole service and for a subset that is not there."""
        return next((subset.labels for subset in self.spec.subsets if subset.name == name), {})

    def policy(self, port: int, subset: str = "") -> TrafficPolicy | None:
        """What holds for a port of a subset, or of the whole service.

        Settings of a port stand alone: they inherit nothing. A subset's settings go over the rule's, part by part, and
        a subset's settings of a port over all parts.
        """
        policy, _ = _of_port(self.spec.traffic_policy, port)
        written = next((one.traffic_policy for one in self.spec.subsets if one.name == subset), None)
        over, alone = _of_port(written, port)
        if over is None or policy is None:
            return policy if over is None else over
        parts = {name: getattr(over, name) for name in ("connection_pool", "outlier_detection", "load_balancer", "tls")}
        parts = {name: part for name, part in parts.items() if part is not None or alone}
        if over.retry_budget is not None:
            parts["retry_budget"] = over.retry_budget
        return policy.model_copy(update={**parts, "port_level_settings": ()})


def _of_port(policy: TrafficPolicy | None, port: int) -> tuple[TrafficPolicy | None, bool]:
    """The policy for a port, and whether the port has its own."""
    for own in policy.port_level_settings if policy is not None else ():
        if own.port.number == port:
            alone = TrafficPolicy(
                load_balancer=own.load_balancer,
                connection_pool=own.connection_pool,
                outlier_detection=own.outlier_detection,
                tls=own.tls,
            )
            return alone, True
    return policy, False


def rule_for(world: World, host: str, namespace: str, caller: Proxy, *, inbound: bool = False) -> Rule | None:
    """The rule for a service of a namespace as a caller meets it.

    `inbound`: as the service's own sidecar meets it, where rules with a workloadSelector do not count.
    """
    catch_all = None
    for rule in _candidates(world, host, namespace, caller.namespace):
        if rule.selector is None:
            catch_all = rule  # the last one, as Istio has it
        elif not inbound and rule.resource.namespace == caller.namespace and labels_match(rule.selector, caller.labels):
            return rule
    return catch_all


def _candidates(world: World, host: str, of: str, caller: str) -> tuple[Rule, ...]:
    """The caller's namespace decides, then the service's, then the mesh's root: the first that has a rule."""
    root = world.mesh.root_namespace
    if found := _narrowest(_rules(world, caller, _is_private if caller == root else _is_local), host):
        return found
    for namespace in (of, root):
        exported = _narrowest(_rules(world, namespace, _is_exported), host)
        if found := tuple(rule for rule in exported if not rule.export_to or rule.export_to & {"*", caller}):
            return found
    return ()


def _narrowest(rules: Mapping[str, tuple[Rule, ...]], host: str) -> tuple[Rule, ...]:
    best = host if host in rules else most_specific(host, rules)
    return rules[best] if best is not None else ()


@lru_cache(maxsize=2)
def _every_rule(world: World) -> Mapping[str, tuple[Rule, ...]]:
    """Namespace -> its rules; those for some callers first, then the oldest first."""
    found: dict[str, tuple[Rule, ...]] = {}
    for rule in sorted(map(_rule, world.destination_rules), key=lambda rule: rule.selector is None):
        found[rule.resource.namespace] = (*found.get(rule.resource.namespace, ()), rule)
    return found


@lru_cache(maxsize=64)
def _rules(world: World, namespace: str, wanted: Callable[[Rule], bool]) -> Mapping[str, tuple[Rule, ...]]:
    """Host -> the merged rules of a namespace for it."""
    found: dict[str, list[Rule]] = {}
    for rule in filter(wanted, _every_rule(world).get(namespace, ())):
        _merge(found.setdefault(qualified(rule.spec.host, namespace), []), rule)
    return {host: tuple(merged) for host, merged in found.items()}


def _rule(resource: Resource[DestinationRule]) -> Rule:
    private = resource.spec.workload_selector is not None
    return Rule((resource,), resource.spec, frozenset({"."} if private else resource.spec.export_to))


def _is_local(rule: Rule) -> bool:
    return not rule.export_to or bool(rule.export_to & {"*", ".", rule.resource.namespace})


def _is_private(rule: Rule) -> bool:
    return len(rule.export_to) == 1 and bool(rule.export_to & {".", rule.resource.namespace})


def _is_exported(rule: Rule) -> bool:
    return not _is_private(rule)


def _merge(rules: list[Rule], new: Rule) -> None:
    apart = True
    for index, rule in enumerate(rules):
        apart = rule.export_to != new.export_to
        if apart and not (rule.export_to and rule.export_to <= new.export_to):
            continue
        if rule.selector is not None and new.selector is not None and rule.selector != new.selector:
            apart = True
            continue
        if (rule.selector is None) == (new.selector is None):
            apart = False
        names = {subset.name for subset in rule.spec.subsets}
        subsets = (*rule.spec.subsets, *(subset for subset in new.spec.subsets if subset.name not in names))
        policy = rule.spec.traffic_policy or new.spec.traffic_policy
        spec = rule.spec.model_copy(update={"subsets": subsets, "traffic_policy": policy})
        rules[index] = replace(rule, parts=(*rule.parts, *new.parts), spec=spec)
    if apart:
        rules.append(new)
