"""Outbound listeners: what the goldens of Istio do not show."""

from typing import Any

import pytest

from mesh.envoy.outbound import port_listeners, virtual_outbound
from mesh.istio.document import RefusedError
from tests.mesh.envoy.istio_vectors import WORKER
from tests.mesh.envoy.security import SERVICE, resource, world


def service(host: str, *numbers: int, protocol: str = "GRPC") -> str:
    ports = [{"number": number, "name": f"p{number}", "protocol": protocol} for number in numbers]
    endpoints = [{"address": "127.0.2.1"}]
    return resource("ServiceEntry", host, hosts=[host], resolution="STATIC", ports=ports, endpoints=endpoints)


def names(*texts: str) -> list[Any]:
    return [one["name"] for one in port_listeners(world(SERVICE, *texts), WORKER)]


def clusters(*texts: str) -> set[Any]:
    """Where what is unknown goes."""
    seen: Any = world(SERVICE, *texts)
    every: list[Any] = [*port_listeners(seen, WORKER), virtual_outbound(seen, WORKER)]
    chains = [one.get("default_filter_chain") or one["filter_chains"][-1] for one in every]
    return {chain["filters"][-1]["typed_config"]["cluster"] for chain in chains}


def test_services_of_a_port_share_its_listener():
    assert names(service("b.example", 9000, 8001), service("a.example", 80)) == [
        "0.0.0.0_80",
        "0.0.0.0_8001",
        "0.0.0.0_9000",
    ]


def test_a_sidecars_egress_limits_the_listeners():
    egress = resource("Sidecar", "s", egress=[{"hosts": ["./a.example"]}])
    assert names(service("a.example", 80), egress) == ["0.0.0.0_80"]
    assert names(resource("Sidecar", "s", egress=[{"hosts": ["~/*"]}])) == []


def test_unknown_hosts_are_passed_on_unless_the_sidecar_closes_them():
    assert clusters() == {"PassthroughCluster"}
    egress = [{"hosts": ["*/*"]}]
    assert clusters(resource("Sidecar", "s", egress=egress)) == {"PassthroughCluster"}
    open_, closed = ({"mode": mode} for mode in ("ALLOW_ANY", "REGISTRY_ONLY"))
    assert clusters(resource("Sidecar", "s", egress=egress, outboundTrafficPolicy=open_)) == {"PassthroughCluster"}
    assert clusters(resource("Sidecar", "s", egress=egress, outboundTrafficPolicy=closed)) == {"BlackHoleCluster"}


@pytest.mark.parametrize("number", [15001, 15006])
def test_the_sidecars_own_ports_are_refused(number):
    with pytest.raises(RefusedError, match=rf"spec\.ports\[1\]\.number: not implemented: {number}"):
        names(service("a.example", 80, number))


def test_grpc_web_is_translated():
    first: Any = port_listeners(world(SERVICE, service("a.example", 80, protocol="GRPC-WEB")), WORKER)[0]
    manager = first["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["http_filters"][0]["name"] == "envoy.filters.http.grpc_web"
