"""Listeners against what Istio's own control plane generates, and what its goldens do not show."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.inbound import workload_listeners
from mesh.envoy.listeners import listeners
from mesh.istio.load import load_case
from tests.mesh.envoy.istio_vectors import CASES, COMPARE, VECTORS, WORKER, golden
from tests.mesh.envoy.security import SERVICE, resource, world

PLAIN = sorted((Path(__file__).parent / "listeners").glob("*/*.json"))
BOTH = pytest.mark.parametrize("proxy", ["gateway", "worker"])
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def compiled(case: Path, proxy: str, compiler: Any = listeners) -> dict[str, Any]:
    world, proxies = load_case(case)
    return {"listeners": compiler(world, next(one for one in proxies if one.name == proxy))}


def inbound_differences(config: dict[str, Any], candidate: dict[str, Any]) -> list[Any]:
    return list(COMPARE.differences(COMPARE.inbound_view(config, 8001), COMPARE.inbound_view(candidate, 8001)))


def without_istios_filters(value: Any) -> Any:
    """What Istio writes for a plain Envoy: its own filters and their ALPN left out."""
    if isinstance(value, dict):
        return {key: without_istios_filters(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if value == ["istio-peer-exchange", "h2", "http/1.1"]:
        return value[1:]
    kept = (one for one in value if not (isinstance(one, dict) and str(one.get("name", "")).startswith("istio.")))
    return [without_istios_filters(one) for one in kept]


def test_every_case_is_there():
    assert len(CASES) == 46
    assert len(PLAIN) == 9


@BOTH
@EVERY
@pytest.mark.parametrize("compiler", [listeners, workload_listeners])
def test_the_way_in_is_istios(case, proxy, compiler):
    assert inbound_differences(golden(case, proxy), compiled(case, proxy, compiler)) == []


@BOTH
@EVERY
def test_every_listener_is_istios_field_by_field(case, proxy):
    expected = {one["name"]: without_istios_filters(one) for one in golden(case, proxy)["listeners"]}
    actual = {one["name"]: one for one in compiled(case, proxy)["listeners"]}
    assert actual == expected


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_listener_is_istios_for_a_plain_envoy(path):
    expected = {one["name"]: one for one in json.loads(path.read_text())}
    assert {one["name"]: one for one in compiled(path.parent, path.stem)["listeners"]} == expected


def edited(case: str, edit: Any) -> list[Any]:
    expected = golden(VECTORS / "cases" / case, "worker")
    wrong = copy.deepcopy(expected)
    inbound = next(one for one in wrong["listeners"] if one["name"] == "virtualInbound")
    edit(inbound["filter_chains"], [one for one in inbound["filter_chains"] if one["name"] == "0.0.0.0_8001"])
    return inbound_differences(wrong, compiled(VECTORS / "cases" / case, "worker"))


def http_filter(chain: dict[str, Any], name: str) -> dict[str, Any]:
    return next(
        one["typed_config"]
        for one in chain["filters"][-1]["typed_config"]["http_filters"]
        if one["name"].endswith(name)
    )


def test_a_strict_golden_made_permissive_is_found_different():
    def permissive(chains, own):
        chains.append({key: value for key, value in own[0].items() if key != "transport_socket"})

    assert edited("sec-mtls-strict", permissive)
    assert not edited("sec-mtls-strict", lambda chains, own: None)


def test_a_golden_without_tls_is_found_different():
    assert edited("sec-mtls-strict", lambda chains, own: own[0].pop("transport_socket"))


def test_a_golden_with_another_trust_domain_is_found_different():
    def other(chains, own):
        common = own[0]["transport_socket"]["typed_config"]["common_tls_context"]
        context = common["combined_validation_context"]["default_validation_context"]
        context["match_subject_alt_names"] = [{"prefix": "spiffe://elsewhere/"}]

    assert edited("sec-mtls-strict", other)


def test_a_golden_with_a_principal_removed_is_found_different():
    def anyone(chains, own):
        policies = http_filter(own[0], "rbac")["rules"]["policies"]
        next(iter(policies.values()))["principals"] = [{"any": True}]

    assert edited("sec-authz-principal", anyone)


def test_a_golden_that_allows_what_was_denied_is_found_different():
    assert edited(
        "sec-authz-deny", lambda chains, own: [http_filter(one, "rbac")["rules"].pop("action") for one in own]
    )


def test_a_golden_without_the_tokens_audience_is_found_different():
    def any_audience(chains, own):
        for one in own:
            http_filter(one, "jwt_authn")["providers"]["origins-0"].pop("audiences")

    assert edited("sec-jwt", any_audience)


def test_workload_listeners_stand_at_the_workloads_own_address():
    (inbound,) = workload_listeners(world(SERVICE), WORKER)
    assert inbound["name"] == "inbound|8001"
    assert inbound["address"] == {"socket_address": {"address": "127.0.1.11", "port_value": 8001}}
    (inspector,) = inbound["listener_filters"]
    assert inspector["name"] == "envoy.filters.listener.tls_inspector" and "filter_disabled" not in inspector
    assert all("destination_port" not in chain["filter_chain_match"] for chain in inbound["filter_chains"])


def test_the_order_of_resources_changes_nothing():
    documents = [
        *SERVICE.split("---"),
        resource("PeerAuthentication", "a", mtls={"mode": "STRICT"}),
        resource("AuthorizationPolicy", "b", rules=[{"to": [{"operation": {"paths": ["/x"]}}]}]),
        resource("AuthorizationPolicy", "a", action="DENY", rules=[{"to": [{"operation": {"paths": ["/y"]}}]}]),
    ]
    assert listeners(world(*documents), WORKER) == listeners(world(*reversed(documents)), WORKER)
