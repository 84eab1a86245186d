"""PeerAuthentication: which policy holds, and for which port."""

from typing import Any

import pytest

from mesh.envoy import mtls
from mesh.istio.proxies import Proxy
from tests.mesh.envoy.istio_vectors import WORKER
from tests.mesh.envoy.security import resource, world

SELECTED = {"matchLabels": {"app": "digits"}}


def peer(name: str, mode: str | None, namespace: str = "models", **spec: Any) -> str:
    return resource("PeerAuthentication", name, namespace, **(spec | ({"mtls": {"mode": mode}} if mode else {})))


def mode(*texts: str, port: int = 8001, workload: Proxy = WORKER) -> str:
    return mtls.modes(world(*texts), workload).of(port).value


MESH = peer("mesh", "STRICT", "istio-system")
NAMESPACE = peer("namespace", "DISABLE")
OWN = peer("own", "PERMISSIVE", selector=SELECTED)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], "PERMISSIVE"),
        ([MESH], "STRICT"),
        ([MESH, NAMESPACE], "DISABLE"),
        ([MESH, NAMESPACE, OWN], "PERMISSIVE"),
        ([MESH, OWN], "PERMISSIVE"),
        ([MESH, peer("unset", "UNSET")], "STRICT"),
        ([MESH, peer("empty", None)], "STRICT"),
        ([NAMESPACE, peer("own", None, selector=SELECTED)], "DISABLE"),
        ([NAMESPACE, peer("other", "STRICT", selector={"matchLabels": {"app": "triton"}})], "DISABLE"),
        ([NAMESPACE, peer("elsewhere", "STRICT", "infer")], "DISABLE"),
        ([peer("root", "STRICT", "istio-system", selector=SELECTED)], "PERMISSIVE"),
        ([peer("b", "STRICT"), peer("a", "DISABLE")], "DISABLE"),
    ],
)
def test_the_narrowest_policy_with_a_mode_holds(policies, expected):
    assert mode(*policies) == expected
    assert mode(*reversed(policies)) == expected


def test_the_oldest_of_a_width_holds():
    old = peer("z", "STRICT").replace("name: z", "name: z\n  creationTimestamp: '2020-01-01T00:00:00Z'")
    new = peer("a", "DISABLE").replace("name: a", "name: a\n  creationTimestamp: '2021-01-01T00:00:00Z'")
    assert mode(new, old) == "STRICT"


@pytest.mark.parametrize(("port", "expected"), [(8001, "DISABLE"), (8002, "STRICT"), (8003, "STRICT")])
def test_a_port_may_have_a_mode_of_its_own(port, expected):
    ports = {8001: {"mode": "DISABLE"}, 8002: {"mode": "UNSET"}}
    assert mode(peer("own", "STRICT", selector=SELECTED, portLevelMtls=ports), port=port) == expected


def test_peers_are_of_the_meshs_trust_domain():
    socket: Any = mtls.transport_socket(world(trust_domain="my.org"))
    validation = socket["typed_config"]["common_tls_context"]["combined_validation_context"]
    names = validation["default_validation_context"]["match_subject_alt_names"]
    assert names == [{"prefix": "spiffe://my.org/"}]
