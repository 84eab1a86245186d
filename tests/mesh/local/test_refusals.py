"""What one machine cannot do is refused where it is written."""

from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError
from mesh.local.refusals import refuse
from tests.mesh.local.scene import ALL, CALLER, GATEWAY_ALONE, SERVICE, copy, world

RULE = "from: [{source: {principals: [cluster.local/ns/infer/sa/gateway]}}]"


def refused(*documents: str) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        refuse(world(*documents))
    return [line.partition(": ")[2] for line in caught.value.mistakes]


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("from: [{source: {ipBlocks: [10.0.0.9]}}]", "from[0].source.ipBlocks"),
        ("from: [{source: {notIpBlocks: [10.0.0.0/8]}}]", "from[0].source.notIpBlocks"),
        (
            "from: [{source: {namespaces: [a]}}, {source: {remoteIpBlocks: [10.0.0.9]}}]",
            "from[1].source.remoteIpBlocks",
        ),
        ("from: [{source: {notRemoteIpBlocks: [10.0.0.9]}}]", "from[0].source.notRemoteIpBlocks"),
        ("when: [{key: source.ip, values: [10.0.0.9]}]", "when[0].key"),
        ("when: [{key: remote.ip, values: [10.0.0.9]}]", "when[0].key"),
        ("when: [{key: destination.port, values: ['8001']}, {key: destination.ip, values: [10.0.0.9]}]", "when[1].key"),
    ],
)
def test_addresses_of_callers(rule: str, where: str) -> None:
    """Sidecars have other ones than what stands in the policy: a denial would deny no one."""
    (line,) = refused(SERVICE, GATEWAY_ALONE.replace(RULE, rule))
    assert line.startswith(f"AuthorizationPolicy models/digits: spec.rules[0].{where}: not implemented: on one machine")


def test_conditions_on_anything_else_hold() -> None:
    refuse(world(ALL))
    refuse(world(SERVICE, GATEWAY_ALONE.replace(RULE, "when: [{key: destination.port, values: ['8001']}]")))


@pytest.mark.parametrize("port", [15000, 15001])
def test_the_ports_of_a_sidecar_itself(port: int) -> None:
    (line,) = refused(SERVICE, CALLER, copy("one", "v1", port))
    assert line.startswith(f"WorkloadEntry models/one: spec.ports.grpc: not implemented: at {port} a sidecar itself")
    (line,) = refused(SERVICE.replace("8001", str(port)), CALLER)
    assert line.startswith(f"ServiceEntry models/digits: spec.ports[0]: not implemented: at {port}")
    refuse(world(SERVICE.replace("number: 8001", f"number: {port}, targetPort: 8001"), CALLER, copy("one", "v1", 8001)))


ALIAS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: alias, namespace: other}
spec:
  hosts: [alias.other.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9000, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1, ports: {grpc: 8101}}]
"""
PLAIN = copy("plain", "v1", 8101).replace("serviceAccount: digits", "weight: 1")


def test_a_way_past_a_sidecar() -> None:
    """In a cluster the address would be captured, and the policies of the process behind it would hold."""
    (line,) = refused(SERVICE, CALLER, copy("one", "v1", 8101), ALIAS)
    assert line.startswith(
        "ServiceEntry other/alias: spec: alias-0 leads past the sidecar of the process at 127.0.0.1:"
    )
    (line,) = refused(SERVICE, CALLER, copy("one", "v1", 8101), PLAIN)
    assert "plain leads past the sidecar of the process at 127.0.0.1:8101" in line
    refuse(world(SERVICE, CALLER, copy("one", "v1", 8102), ALIAS))
    refuse(world(SERVICE, CALLER, ALIAS, PLAIN))
