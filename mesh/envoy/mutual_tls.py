"""Which copies are spoken to with the mesh's TLS. Law: as the DestinationRule says, or else whoever takes it.

Source: Istio's pilot/pkg/xds/endpoints/mtls_checker.go.
"""

from __future__ import annotations

from mesh.envoy.copies import Copy
from mesh.envoy.destination_rules import Rule
from mesh.envoy.mtls import modes
from mesh.istio.destination_rule import TLSMode, TrafficPolicy
from mesh.istio.peer_authentication import MutualTLSMode
from mesh.istio.world import World


def is_sent(world: World, copy: Copy, rule: Rule | None, port: int, subset: str) -> bool:
    """Whether calls to a copy are sent with the mesh's TLS: as the rule says, or else wherever it is possible."""
    said = _said(rule, port, subset)
    if said is not None:
        return said is TLSMode.ISTIO_MUTUAL
    return copy.identity is not None and modes(world, copy).of(copy.port) is not MutualTLSMode.DISABLE


def _said(rule: Rule | None, port: int, subset: str) -> TLSMode | None:
    if rule is None:
        return None
    if not subset:
        return _mode(rule.spec.traffic_policy, port)
    own = next((one.traffic_policy for one in rule.spec.subsets if one.name == subset), None)
    return _mode(own, port) or _mode(rule.spec.traffic_policy, port)


def _mode(policy: TrafficPolicy | None, port: int) -> TLSMode | None:
    if policy is None:
        return None
    of_port = next((one.tls for one in policy.port_level_settings if one.port.number == port and one.tls), None)
    tls = of_port or policy.tls
    return tls.mode if tls else None
