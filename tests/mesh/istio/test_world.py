"""Who sees what, by Istio's rules."""

from __future__ import annotations

from mesh.istio.document import read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.proxies import Proxy
from mesh.istio.resource import read_resources
from mesh.istio.world import World, workload_labels

GATEWAY = Proxy(name="gateway", namespace="infer", ip="127.0.0.1", labels={"app": "gateway"})
WORKER = Proxy(name="worker", namespace="models", ip="127.0.0.2", labels={"app": "digits"})


def _world(*resources: tuple[str, str, str]) -> World:
    """(kind, NAMESPACE/NAME, spec) of each resource."""
    texts = []
    for kind, where, spec in resources:
        namespace, name = where.split("/")
        group = "security" if kind.endswith(("Authentication", "Policy")) else "networking"
        texts.append(
            f"apiVersion: {group}.istio.io/v1\nkind: {kind}\nspec: {spec}\n"
            f"metadata: {{name: {name}, namespace: {namespace}}}"
        )
    return World(MeshConfig(), read_resources(read_documents("\n---\n".join(texts), "f.yaml")))


def test_policies_of_a_workload() -> None:
    world = _world(
        ("AuthorizationPolicy", "models/all", "{}"),
        ("AuthorizationPolicy", "models/digits", "{selector: {matchLabels: {app: digits}}}"),
        ("AuthorizationPolicy", "models/other", "{selector: {matchLabels: {app: other}}}"),
        ("AuthorizationPolicy", "istio-system/mesh", "{}"),
        ("PeerAuthentication", "models/default", "{mtls: {mode: STRICT}}"),
        ("PeerAuthentication", "istio-system/default", "{mtls: {mode: STRICT}}"),
    )
    assert [policy.name for policy in world.authorization_policies(WORKER)] == ["mesh", "all", "digits"]
    assert [policy.name for policy in world.authorization_policies(GATEWAY)] == ["mesh"]
    assert [policy.namespace for policy in world.peer_authentications(WORKER)] == ["models", "istio-system"]


def test_the_narrowest_sidecar() -> None:
    egress = "egress: [{hosts: ['./*']}]"
    mesh = ("Sidecar", "istio-system/default", f"{{{egress}}}")
    space = ("Sidecar", "models/default", f"{{{egress}}}")
    mine = ("Sidecar", "models/mine", f"{{workloadSelector: {{labels: {{app: digits}}}}, {egress}}}")
    for resources, name in (
        ((mesh, space, mine), "mine"),
        ((mesh, space), "default"),
        ((mesh,), "default"),
        ((), None),
    ):
        sidecar = _world(*resources).sidecar(WORKER)
        assert (sidecar.name if sidecar else None) == name
    assert _world(space, mine).sidecar(GATEWAY) is None
    found = _world(mesh, space).sidecar(WORKER)
    assert found is not None
    assert found.namespace == "models"
    assert found.spec.egress[0].pairs("models") == (("models", "*"),)


def test_copies_and_their_labels() -> None:
    world = _world(
        ("WorkloadEntry", "models/a", "{address: 10.0.0.1, labels: {app: digits}}"),
        ("WorkloadEntry", "other/b", "{address: 10.0.0.2, labels: {app: digits}}"),
    )
    (copy,) = world.workloads("models", {"app": "digits"})
    assert (copy.name, workload_labels(copy)) == ("a", {"app": "digits"})
    assert world.workloads("models", {"app": "triton"}) == ()
