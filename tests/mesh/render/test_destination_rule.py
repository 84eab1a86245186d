"""Subsets, and the limits that hold for each."""

from __future__ import annotations

from typing import Any, cast

from mesh.catalog import Model
from mesh.render.destination_rule import destination_rule
from tests.mesh.render.models import canary, model, service


def spec(*models: Model) -> dict[str, Any]:
    return cast("dict[str, Any]", destination_rule(service(*models))["spec"])


def test_a_model_alone_has_its_limits_on_the_rule() -> None:
    found = spec(
        canary(
            retries={"budget": "25%"},
            breaker={"requests": 512, "pending": 64},
            ejection={"errors": 3, "interval": "500ms", "time": "2m", "most": "34%"},
        )
    )
    assert found["trafficPolicy"] == {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "loadBalancer": {"simple": "LEAST_REQUEST"},
        "connectionPool": {"http": {"http1MaxPendingRequests": 64, "http2MaxRequests": 512}},
        "retryBudget": {"percent": 25, "minRetryConcurrency": 3},
        "outlierDetection": {
            "consecutiveGatewayErrors": 3,
            "consecutive5xxErrors": 3,
            "interval": "500ms",
            "baseEjectionTime": "2m",
            "maxEjectionPercent": 34,
        },
    }
    assert found["subsets"] == [
        {"name": "v1", "labels": {"version": "v1"}},
        {"name": "v2", "labels": {"version": "v2"}},
    ]


LABEL = "apps.kubernetes.io/pod-index"
NEVER = {"consecutiveGatewayErrors": 0, "consecutive5xxErrors": 0}


def test_each_copy_is_a_subset_that_nothing_is_ejected_from() -> None:
    found = spec(canary(copies={"1": 2}))["subsets"]
    assert [one["name"] for one in found] == ["v1", "v2", "v1-copy0", "v1-copy1"]
    assert found[3] == {
        "name": "v1-copy1",
        "labels": {"version": "v1", LABEL: "1"},
        "trafficPolicy": {"outlierDetection": NEVER},
    }
    assert "trafficPolicy" not in spec(canary(copies={"1": 2}, ejection=None))["subsets"][3]
    shared = spec(model("a", copies={"1": 1}), model("b", copies={"1": 1}))["subsets"]
    assert shared[2]["name"] == "a-v1-copy0"
    assert shared[2]["trafficPolicy"] == shared[0]["trafficPolicy"] | {"outlierDetection": NEVER}


def test_what_a_request_can_provoke_need_not_be_counted() -> None:
    """A 0 switches it off; without the field Envoy would count to 5."""
    counted = spec(model(ejection={"errors": 3, "count": "gateway"}))["trafficPolicy"]["outlierDetection"]
    assert (counted["consecutiveGatewayErrors"], counted["consecutive5xxErrors"]) == (3, 0)


def test_models_that_share_a_host_have_them_on_their_subsets() -> None:
    found = spec(model("a"), model("b", breaker={"requests": 7}))
    assert found["trafficPolicy"] == {"tls": {"mode": "ISTIO_MUTUAL"}}
    limits = {one["name"]: one["trafficPolicy"]["connectionPool"]["http"] for one in found["subsets"]}
    assert {name: http["http2MaxRequests"] for name, http in limits.items()} == {"a-v1": 1024, "b-v1": 7}
    assert "tls" not in found["subsets"][0]["trafficPolicy"]


def test_a_version_without_labels_is_on_every_copy() -> None:
    assert spec(model())["subsets"] == [{"name": "v1"}]


def test_a_sequence_stays_with_its_copy() -> None:
    policy = spec(model(sequence=True))["trafficPolicy"]
    assert policy["loadBalancer"] == {"consistentHash": {"httpHeaderName": "x-sequence-id"}}
    assert "retryBudget" not in policy


def test_what_is_not_wanted_is_not_there() -> None:
    for retries in ({"attempts": 0}, {"on": []}):
        policy = spec(model(ejection=None, retries=retries))["trafficPolicy"]
        assert policy.keys() == {"tls", "loadBalancer", "connectionPool"}
