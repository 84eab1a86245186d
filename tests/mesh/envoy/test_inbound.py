"""Ports of a workload and their chains: what the goldens of Istio do not show."""

from typing import Any

import pytest

from mesh.envoy.inbound import targets, virtual_inbound, workload_listeners
from mesh.istio.document import RefusedError
from tests.mesh.envoy.istio_vectors import WORKER
from tests.mesh.envoy.security import SERVICE, chains, http_filters, resource, world

SELECTED = {"matchLabels": {"app": "digits"}}


def entry(name: str, host: str, *ports: dict[str, Any], namespace: str = "models", **spec: Any) -> str:
    shape = {"hosts": [host], "resolution": "STATIC", "ports": list(ports)} | spec
    return resource("ServiceEntry", name, namespace, **shape)


def selecting(host: str, *ports: dict[str, Any]) -> str:
    return entry(host, host, *ports, workloadSelector={"labels": {"app": "digits"}})


def port(number: int, name: str, protocol: str = "GRPC", **more: Any) -> dict[str, Any]:
    return {"number": number, "name": name, "protocol": protocol} | more


def numbers(*texts: str) -> list[tuple[int, str]]:
    return [(one.number, one.service.host) for one in targets(world(SERVICE, *texts), WORKER)]


OWN = (8001, "digits.models.svc.cluster.local")


def test_a_port_is_the_copys_the_target_or_the_services():
    more = selecting("a.example", port(81, "grpc"), port(82, "web", targetPort=9000), port(83, "plain"))
    assert numbers(more) == [(83, "a.example"), (8001, "a.example"), (9000, "a.example")]


def test_services_elsewhere_and_of_others_are_not_the_workloads():
    elsewhere = entry("e", "e.example", port(1, "a"), namespace="infer", endpoints=[{"address": "127.0.1.11"}])
    others = entry("o", "o.example", port(2, "a"), endpoints=[{"address": "127.0.1.99"}])
    assert numbers(elsewhere, others) == [OWN]


def test_a_listed_endpoint_is_a_copy():
    assert numbers(entry("l", "l.example", port(9, "a"), endpoints=[{"address": "127.0.1.11"}])) == [
        (9, "l.example"),
        OWN,
    ]


def test_the_oldest_service_of_a_port_holds():
    same = selecting("a.example", port(8001, "other"))
    assert numbers(same) == [(8001, "a.example")]  # of one age: by host
    old = SERVICE.replace("name: digits, ", "name: digits, creationTimestamp: '2020-01-01T00:00:00Z', ", 1)
    young = same.replace("name: a.example", "name: a.example\n  creationTimestamp: '2021-01-01T00:00:00Z'", 1)
    assert [one.service.host for one in targets(world(old, young), WORKER)] == [OWN[1]]


@pytest.mark.parametrize("number", [15001, 15006])
def test_the_sidecars_own_ports_are_refused(number):
    with pytest.raises(RefusedError, match=rf"spec\.ports\[0\]: not implemented: {number}"):
        numbers(selecting("a.example", port(80, "a", targetPort=number)))


@pytest.mark.parametrize(
    ("protocol", "http2", "retries", "grpc_web"),
    [
        ("HTTP", False, True, False),
        ("HTTP2", True, True, False),
        ("GRPC", True, False, False),
        ("GRPC-WEB", True, False, True),
    ],
)
def test_what_a_protocol_changes(protocol, http2, retries, grpc_web):
    found: Any = workload_listeners(world(SERVICE, selecting("a.example", port(70, "a", protocol))), WORKER)[0]
    chain = found["filter_chains"][0]
    manager = chain["filters"][-1]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert ("http2_protocol_options" in manager, "retry_policy" in route) == (http2, retries)
    assert ("envoy.filters.http.grpc_web" in http_filters(chain)) == grpc_web


def modes(mode: str, ports: dict[int, str]) -> str:
    by_port = {number: {"mode": value} for number, value in ports.items()}
    return resource("PeerAuthentication", "own", selector=SELECTED, mtls={"mode": mode}, portLevelMtls=by_port)


def test_a_port_of_its_own_mode_that_no_service_names_has_chains():
    found: Any = virtual_inbound(world(SERVICE, modes("STRICT", {8001: "DISABLE", 9090: "PERMISSIVE"})), WORKER)
    assert [one["filter_chain_match"]["transport_protocol"] for one in chains(found, 8001)] == ["raw_buffer"]
    assert [("transport_socket" in one) for one in chains(found, 9090)] == [True, False, True, False, False]
    assert all("transport_socket" in one for one in chains(found))


def test_inspectors_are_on_only_where_chains_need_them():
    found: Any = virtual_inbound(world(SERVICE, modes("DISABLE", {8001: "STRICT"})), WORKER)
    filters = {one["name"].rpartition(".")[2]: one.get("filter_disabled") for one in found["listener_filters"]}
    own = {"destination_port_range": {"start": 8001, "end": 8002}}
    assert filters["tls_inspector"] == {"not_match": own}
    assert own in filters["http_inspector"]["or_match"]["rules"]


def test_tokens_are_verified_before_calls_are_authorized():
    keys = '{"keys": [{"kty": "RSA", "n": "xA", "e": "AQAB"}]}'
    policies = (
        resource("AuthorizationPolicy", "a", rules=[{}]),
        resource("RequestAuthentication", "r", jwtRules=[{"issuer": "i", "jwks": keys}]),
    )
    found: Any = workload_listeners(world(SERVICE, *policies), WORKER)[0]
    names = [name.rpartition(".")[2] for name in http_filters(found["filter_chains"][0])]
    assert names == ["jwt_authn", "rbac", "grpc_stats", "fault", "cors", "router"]
