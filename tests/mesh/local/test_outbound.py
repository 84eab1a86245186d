from __future__ import annotations

from typing import Any

import pytest

from mesh.envoy.routes import routes
from mesh.istio.proxies import Proxy
from mesh.local import outbound
from tests.mesh.local.scene import ROUTES, SERVICE, world

GATEWAY = Proxy(name="gateway", namespace="infer", service_account="gateway", ip="127.0.1.1")
NEIGHBOUR = Proxy(name="neighbour", namespace="models", service_account="digits", ip="127.0.1.2")
TWO_PORTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: triton, namespace: models}
spec:
  hosts: [triton.models.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 8001, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.0.0.9}]
"""


def table(*documents: str, proxy: Proxy = GATEWAY) -> dict[str, Any]:
    return outbound.route_configuration(routes(world(*documents), proxy))


def answered(found: dict[str, Any], authority: str) -> Any:
    """The cluster (or the direct response) of the virtual host that Envoy would take for an authority."""
    (host,) = (one for one in found["virtual_hosts"] if authority in one["domains"])
    (route,) = host["routes"]
    return route["route"]["cluster"]


def test_a_host_on_two_ports_is_two() -> None:
    found = table(TWO_PORTS)
    host = "triton.models.svc.cluster.local"
    assert answered(found, f"{host}:80") == f"outbound|80||{host}"
    assert answered(found, f"{host}:8001") == f"outbound|8001||{host}"


def test_without_a_port_it_is_port_80() -> None:
    found = table(TWO_PORTS, SERVICE)
    assert answered(found, "triton.models.svc.cluster.local") == "outbound|80||triton.models.svc.cluster.local"
    assert "digits.models.svc.cluster.local" not in {name for one in found["virtual_hosts"] for name in one["domains"]}


@pytest.mark.parametrize(
    ("proxy", "short"),
    [(GATEWAY, ["digits.models", "digits.models.svc"]), (NEIGHBOUR, ["digits", "digits.models", "digits.models.svc"])],
)
def test_short_names_are_those_of_the_callers_namespace(proxy: Proxy, short: list[str]) -> None:
    found = table(SERVICE, proxy=proxy)
    (host,) = (one for one in found["virtual_hosts"] if one["name"] != "unknown")
    known = {name.removesuffix(":8001") for name in host["domains"]}
    assert {name for name in known if "cluster.local" not in name} == set(short)
    assert all(name.endswith(":8001") for name in host["domains"])


def test_no_name_occurs_twice() -> None:
    found = table(TWO_PORTS, SERVICE, ROUTES, proxy=NEIGHBOUR)
    domains = [name for one in found["virtual_hosts"] for name in one["domains"]]
    assert len(domains) == len(set(domains))
    names = [one["name"] for one in found["virtual_hosts"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("documents", [(), (TWO_PORTS, SERVICE)])
def test_what_no_service_names_is_answered_and_not_passed_on(documents: tuple[str, ...]) -> None:
    found = table(*documents)
    *_, last = found["virtual_hosts"]
    assert last["domains"] == ["*"]
    assert last["routes"][0]["direct_response"]["status"] == 502
    assert "PassthroughCluster" not in str(found)
    assert sum("*" in one["domains"] for one in found["virtual_hosts"]) == 1


def test_one_listener_at_every_address() -> None:
    found: dict[str, Any] = outbound.listener(world(SERVICE), GATEWAY, [("127.0.1.1", 15001), ("127.0.0.1", 7001)])
    assert found["address"] == {"socket_address": {"address": "127.0.1.1", "port_value": 15001}}
    assert found["additional_addresses"] == [
        {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 7001}}}
    ]
    assert found["traffic_direction"] == "OUTBOUND"


@pytest.mark.parametrize("protocol", ["GRPC", "GRPC-WEB"])
def test_browsers_are_understood_where_a_service_says_so(protocol: str) -> None:
    seen = world(SERVICE.replace("protocol: GRPC", f"protocol: {protocol}"))
    found = str(outbound.listener(seen, GATEWAY, [("127.0.1.1", 15001)]))
    assert ("envoy.filters.http.grpc_web" in found) is (protocol == "GRPC-WEB")
