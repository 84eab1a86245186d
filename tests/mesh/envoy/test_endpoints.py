"""Which copies are behind a cluster, where they listen, and which of them are spoken to with the mesh's TLS."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.istio.world import World
from tests.mesh.envoy.istio_vectors import GATEWAY, world_alone

HOST = "a.models.svc.cluster.local"


def entry(spec: str, name: str = "a", ports: str = "{number: 80, name: grpc, protocol: GRPC}") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: models}}
spec: {{hosts: [{HOST}], location: MESH_INTERNAL, resolution: STATIC, ports: [{ports}], {spec}}}
"""


def workload(name: str, spec: str, labels: str = "") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: models, labels: {{{labels}}}}}
spec: {{{spec}}}
"""


SELECTED = entry("workloadSelector: {labels: {app: a}}")


def rule(spec: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a, namespace: models}}
spec: {{host: {HOST}, {spec}}}
"""


def peers(spec: str) -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: p, namespace: models}}
spec: {{{spec}}}
"""


def behind(world: World, subset: str = "", port: int = 80) -> list[dict[str, Any]]:
    """The endpoints of a cluster."""
    found: dict[str, Any] = {str(one["cluster_name"]): one for one in endpoints(world, GATEWAY)}
    return [
        each
        for group in found[f"outbound|{port}|{subset}|{HOST}"].get("endpoints", [])
        for each in group["lb_endpoints"]
    ]


def sockets(world: World, subset: str = "", port: int = 80) -> list[str]:
    found = [each["endpoint"]["address"]["socket_address"] for each in behind(world, subset, port)]
    return [f"{one['address']}:{one['port_value']}" for one in found]


def secured(world: World, subset: str = "") -> list[bool]:
    return ["envoy.transport_socket_match" in each["metadata"]["filter_metadata"] for each in behind(world, subset)]


@pytest.mark.parametrize(("ports", "expected"), [("", 80), (", ports: {grpc: 9000}", 9000)])
def test_a_copys_own_port(ports: str, expected: int) -> None:
    assert sockets(world_alone(entry(f"endpoints: [{{address: 127.0.0.1{ports}}}]"))) == [f"127.0.0.1:{expected}"]


def test_the_target_port() -> None:
    ports = "{number: 80, name: grpc, protocol: GRPC, targetPort: 8080}, {number: 81, name: other, protocol: GRPC}"
    world = world_alone(entry("endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2, ports: {grpc: 9}}]", ports=ports))
    assert sockets(world) == ["127.0.0.1:8080", "127.0.0.2:9"]
    assert sockets(world, port=81) == ["127.0.0.1:81", "127.0.0.2:81"]


def test_weights_and_names() -> None:
    world = world_alone(entry("endpoints: [{address: 127.0.0.1, weight: 5}, {address: 127.0.0.2, labels: {app: x}}]"))
    (assignment,) = endpoints(world, GATEWAY)
    assert isinstance(assignment["endpoints"], list)
    assert assignment["endpoints"][0]["load_balancing_weight"] == 6
    istio = [each["metadata"]["filter_metadata"]["istio"]["workload"] for each in behind(world)]
    assert istio == ["a-0;models;a-0;;Kubernetes", "a-1;models;x;;Kubernetes"]


def test_selected_copies_by_name_and_only_addresses() -> None:
    copies = workload("z", "address: 127.0.0.1, labels: {app: a}") + workload("b", "address: 127.0.0.2", "app: a")
    others = workload("other", "address: 127.0.0.3, labels: {app: x}") + workload("dns", "address: a.b", "app: a")
    assert sockets(world_alone(SELECTED + copies + others)) == ["127.0.0.2:80", "127.0.0.1:80"]


def test_labels_of_the_metadata_win() -> None:
    world = world_alone(SELECTED + workload("w", "address: 127.0.0.1, labels: {app: a}", "app: x"))
    assert endpoints(world, GATEWAY) == [{"cluster_name": f"outbound|80||{HOST}"}]


def test_entries_of_one_host_share_their_copies() -> None:
    world = world_alone(entry("endpoints: [{address: 127.0.0.1}]") + entry("endpoints: [{address: 127.0.0.2}]", "b"))
    assert sockets(world) == ["127.0.0.1:80", "127.0.0.2:80"]


def test_entries_of_one_host_but_two_ways_to_find_copies() -> None:
    """To a host that has a copy for the port, DNS_ROUND_ROBIN adds none; names are no addresses of a STATIC service."""
    static = entry("endpoints: [{address: 127.0.0.1}]")
    by_name = entry("endpoints: [{address: b.example.com}]", "b").replace("STATIC", "DNS")
    robin = entry("endpoints: [{address: 127.0.0.3}]", "c").replace("STATIC", "DNS_ROUND_ROBIN")
    assert sockets(world_alone(static + by_name + robin)) == ["127.0.0.1:80"]


def test_each_address_of_a_service_lists_the_copies_again() -> None:
    listed = "addresses: [240.0.9.1, 240.0.9.2, 240.0.9.1/32], endpoints: [{address: 127.0.0.1}]"
    assert sockets(world_alone(entry(listed))) == ["127.0.0.1:80"] * 2


def test_a_subset_without_labels_has_all_copies() -> None:
    listed = "endpoints: [{address: 127.0.0.1, labels: {version: v1}}, {address: 127.0.0.2}]"
    world = world_alone(entry(listed) + rule("subsets: [{name: v1, labels: {version: v1}}, {name: all}]"))
    assert sockets(world, "v1") == ["127.0.0.1:80"]
    assert len(sockets(world, "all")) == 2


WITH_AND_WITHOUT = entry("endpoints: [{address: 127.0.0.1, serviceAccount: a, labels: {app: a}}, {address: 127.0.0.2}]")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", [True, False]),
        (rule("trafficPolicy: {tls: {mode: DISABLE}}"), [False, False]),
        (rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), [True, False]),
        (rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"), [False, False]),
        (rule("trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {mode: DISABLE}}]}"), [True, False]),
        (peers("mtls: {mode: DISABLE}"), [False, False]),
        (peers("selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}"), [False, False]),
        (peers("selector: {matchLabels: {app: b}}, mtls: {mode: DISABLE}"), [True, False]),
        (peers("selector: {matchLabels: {app: a}}, portLevelMtls: {80: {mode: DISABLE}}"), [False, False]),
        (peers("selector: {matchLabels: {app: a}}, portLevelMtls: {81: {mode: DISABLE}}"), [True, False]),
        (peers("mtls: {mode: DISABLE}") + rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), [True, False]),
    ],
)
def test_whom_the_meshs_tls_reaches(more: str, expected: list[bool]) -> None:
    assert secured(world_alone(WITH_AND_WITHOUT + more)) == expected


def test_a_subset_says_for_itself() -> None:
    subsets = "subsets: [{name: plain, trafficPolicy: {tls: {mode: DISABLE}}}, {name: secured}]"
    world = world_alone(WITH_AND_WITHOUT + rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, " + subsets))
    assert secured(world, "plain") == [False, False]
    assert secured(world, "secured") == [True, False]


def test_dns_round_robin_has_one_copy_whatever_the_subset() -> None:
    first = workload("b", "address: b.example.com, labels: {version: v2}", "app: a")
    second = workload("c", "address: c.example.com, labels: {version: v1}", "app: a")
    subsets = rule("subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]")
    world = world_alone(SELECTED.replace("STATIC", "DNS_ROUND_ROBIN") + first + second + subsets)
    found = {str(one["name"]): str(one) for one in clusters(world, GATEWAY) if str(one["name"]).startswith("outbound")}
    assert found.keys() == {f"outbound|80||{HOST}", f"outbound|80|v2|{HOST}"}
    assert all("b.example.com" in text and "c.example.com" not in text for text in found.values())
