"""Models, versions and weights, as routes tell them."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.envoy.routes import routes
from mesh.istio.load import load_case
from mesh.status.models import Model, Version, models
from tests.mesh.envoy.istio_vectors import CASES, GATEWAY

HOST = "digits.models.svc.cluster.local"


def cluster(subset: str, host: str = HOST) -> str:
    return f"outbound|8001|{subset}|{host}"


def told(case: str) -> dict[str, dict[str, tuple[str, float]]]:
    """Model -> version -> (subset, weight) of a case of the vectors."""
    world, _ = load_case(next(one for one in CASES if one.name == case))
    found = models(routes(world, GATEWAY))
    return {
        model.name: {one.name: (one.cluster.split("|")[2], one.weight) for one in model.versions} for model in found
    }


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("all-canary", {"digits": {"1": ("v1", 95), "2": ("v2", 5)}}),
        ("vs-weighted-90-10", {"digits": {"v1": ("v1", 90), "v2": ("v2", 10)}}),  # no pins: the subsets' names
        ("vs-none", {}),  # nothing but services: whose they are, no one says
        ("vs-single", {"digits": {"v1": ("v1", 100)}}),
    ],
)
def test_what_istios_cases_route_for(case: str, expected: dict[str, Any]) -> None:
    assert told(case) == expected


def test_models_that_share_a_host_are_told_apart_by_their_name() -> None:
    assert told("vs-multi-model") == {
        "minilm": {"a100": ("a100", 20), "l4": ("l4", 80)},
        "resnet": {"a100": ("a100", 100)},
    }


def route(name: str = "", version: str = "", path: str = "", **clusters: float) -> dict[str, Any]:
    headers = [("x-model-name", name), ("x-model-version", version)]
    match: dict[str, Any] = {"path": path} if path else {"prefix": "/"}
    match["headers"] = [{"name": key, "string_match": {"exact": value}} for key, value in headers if value]
    weighted = {"clusters": [{"name": cluster(subset), "weight": weight} for subset, weight in clusters.items()]}
    action = {"cluster": cluster(*clusters)} if len(clusters) == 1 else {"weighted_clusters": weighted}
    metadata = {"filter_metadata": {"istio": {"config": "/apis/x/namespaces/models/virtual-service/digits"}}}
    return {"match": match, "route": action, "metadata": metadata}


def table(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"virtual_hosts": [{"routes": list(routes)}]}


def test_the_weights_are_those_of_unary_calls_that_pin_nothing() -> None:
    stream = "/inference.GRPCInferenceService/ModelStreamInfer"
    (found,) = models(
        [
            table(
                route(path=stream, v1=1, v2=99),
                route(version="2", v2=100),
                route(version="1", v1=100),
                route(v1=3, v2=1),
            )
        ]
    )
    assert found == Model("digits", (Version("2", cluster("v2"), 25), Version("1", cluster("v1"), 75)))


def test_a_version_without_traffic_and_one_without_a_pin_are_there() -> None:
    (found,) = models([table(route(version="3", v3=100), route(v1=90, v4=10))])
    assert [(one.name, one.weight) for one in found.versions] == [("3", 0), ("v1", 90), ("v4", 10)]


def test_what_is_no_route_of_a_model_is_left_out() -> None:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 502}}
    nobodys = {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}
    assert models([table(answer, nobodys), {}]) == ()


def test_a_header_that_must_not_be_so_names_no_model() -> None:
    other = route(v1=100)
    other["match"]["headers"] = [{"name": "x-model-name", "string_match": {"exact": "a"}, "invert_match": True}]
    assert [model.name for model in models([table(other)])] == ["digits"]
