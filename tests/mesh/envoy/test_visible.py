"""What a sidecar sees: exportTo, egress, and hosts that a VirtualService leads to."""

from __future__ import annotations

import pytest

from mesh.envoy.visible import services, virtual_services
from mesh.istio.proxies import Proxy
from tests.mesh.envoy.istio_vectors import GATEWAY, WORKER, world_alone


def entry(name: str, host: str, namespace: str = "models", more: str = "", ports: str = "80") -> str:
    created = f", creationTimestamp: {2020 if name == 'old' else 2021}-01-01T00:00:00Z"
    listed = ", ".join(f"{{number: {port}, name: p{port}, protocol: GRPC}}" for port in ports.split())
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}{created}}}
spec: {{hosts: [{host}], resolution: STATIC, ports: [{listed}]{more}}}
"""


def sidecar(hosts: str, namespace: str = "infer") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: {namespace}}}
spec: {{egress: [{{hosts: [{hosts}]}}]}}
"""


def route(destination: str, match: str = "", hosts: str = "front.example.com", more: str = "") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: front, namespace: models}}
spec: {{hosts: ["{hosts}"]{more}, http: [{{{match}route: [{{destination: {destination}}}]}}]}}
"""


def seen(text: str, proxy: Proxy = GATEWAY) -> dict[str, list[int]]:
    return {one.host: [port.number for port in one.ports] for one in services(world_alone(text), proxy)}


@pytest.mark.parametrize(
    ("export", "gateway", "worker"),
    [
        ("['*']", True, True),
        ("[.]", False, True),
        ("[infer]", True, False),
        ("['~']", False, False),
        ("[other, infer]", True, False),
    ],
)
def test_exports(export: str, gateway: bool, worker: bool) -> None:
    text = entry("a", "a.com", more=f", exportTo: {export}")
    assert ("a.com" in seen(text)) is gateway
    assert ("a.com" in seen(text, WORKER)) is worker


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("'*/*'", {"a.com", "b.a.com", "c.org"}),
        ("'*/a.com'", {"a.com"}),
        ("'*/*.a.com'", {"b.a.com"}),
        ("models/*", {"a.com", "b.a.com"}),
        ("models/c.org", set()),
        ("~/*", set()),
        ("./*", {"c.org"}),
    ],
)
def test_egress(hosts: str, expected: set[str]) -> None:
    world = entry("a", "a.com") + entry("b", "b.a.com") + entry("c", "c.org", "infer")
    assert set(seen(world + sidecar(hosts))) == expected


def test_the_oldest_comes_first_and_what_is_named_before_what_is_for_all() -> None:
    text = entry("a", "a.com") + entry("old", "z.com") + entry("named", "n.com", more=", exportTo: [infer]")
    assert list(seen(text)) == ["n.com", "z.com", "a.com"]


def test_of_one_host_in_two_namespaces_the_callers_own_counts() -> None:
    text = entry("old", "a.com", ports="80") + entry("mine", "a.com", "infer", ports="81")
    assert seen(text) == {"a.com": [81]}
    assert seen(text, WORKER) == {"a.com": [80]}
    assert seen(text, Proxy(name="third", namespace="third", ip="127.0.0.1")) == {"a.com": [80]}


def test_alike_entries_of_one_host_share_their_ports() -> None:
    text = entry("old", "a.com", ports="80 81")
    assert seen(text + entry("more", "a.com", ports="81 82")) == {"a.com": [80, 81, 82]}
    assert seen(text + entry("more", "a.com", ports="82", more=", exportTo: [infer]")) == {"a.com": [82]}


def test_egress_in_full_names_finds_the_oldest_entry_only() -> None:
    text = entry("old", "a.com", more=", exportTo: [other]") + entry("more", "a.com")
    assert seen(text + sidecar("models/*")) == {"a.com": [80]}
    assert seen(text + sidecar("models/a.com")) == {}


def test_what_a_virtual_service_leads_to_is_seen_whatever_the_egress() -> None:
    world = entry("f", "front.example.com") + entry("b", "back.example.com", ports="80 81")
    egress = sidecar("'*/front.example.com'")
    assert seen(world + egress) == {"front.example.com": [80]}
    assert seen(world + egress + route("{host: back.example.com}"))["back.example.com"] == [80, 81]
    one_port = seen(world + egress + route("{host: back.example.com, port: {number: 81}}"))
    assert one_port["back.example.com"] == [81]
    no_port = seen(world + egress + route("{host: back.example.com, port: {number: 9}}"))
    assert "back.example.com" not in no_port


def test_but_not_what_is_for_callers_of_other_namespaces() -> None:
    world = entry("f", "front.example.com") + entry("b", "back.example.com") + sidecar("'*/front.example.com'")
    assert "back.example.com" not in seen(world + route("{host: back.example.com}", "match: [{sourceNamespace: x}], "))
    assert "back.example.com" in seen(world + route("{host: back.example.com}", "match: [{sourceNamespace: infer}], "))


@pytest.mark.parametrize(
    ("hosts", "more", "egress", "expected"),
    [
        ("front.example.com", "", "'*/*'", True),
        ("front.example.com", ", exportTo: [.]", "'*/*'", False),
        ("front.example.com", "", "'*/*.example.com'", True),
        ("*.example.com", "", "'*/front.example.com'", True),
        ("front.example.com", "", "'*/other.example.com'", False),
        ("front.example.com", "", "infer/*", False),
    ],
)
def test_virtual_services(hosts: str, more: str, egress: str, expected: bool) -> None:
    world = world_alone(route("{host: front.example.com}", hosts=hosts, more=more) + sidecar(egress))
    assert bool(virtual_services(world, GATEWAY)) is expected
