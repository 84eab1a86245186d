"""Routes: their order, and what bounds which of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh.catalog import Model
from mesh.render.routes import names_of_carried, virtual_service
from tests.mesh.render.models import canary, model, service

STREAM = {"exact": "/inference.GRPCInferenceService/ModelStreamInfer"}
HOST = "digits.models.svc.cluster.local"


def routes(*models: Model, live: Any = None, ingress: str | None = None) -> dict[str, Any]:
    """Name -> route, in order."""
    spec = cast("dict[str, Any]", virtual_service(service(*models), live or {}, ingress=ingress)["spec"])
    assert len({route["name"] for route in spec["http"]}) == len(spec["http"])
    return {route["name"]: route for route in spec["http"]}


def weights(route: Any) -> list[tuple[str, int]]:
    return [(one["destination"]["subset"], one["weight"]) for one in route["route"]]


def test_what_is_named_comes_before_what_is_drawn() -> None:
    assert list(routes(canary())) == [
        "digits-v1-stream", "digits-v2-stream", "digits-default-stream", "digits-v1", "digits-v2", "digits-default",
    ]  # fmt: skip


def test_a_pin_matches_the_version_and_the_default_everything() -> None:
    found = routes(canary())
    version = {"x-model-version": {"exact": "2"}}
    assert found["digits-v2-stream"]["match"] == [{"uri": STREAM, "headers": version}]
    assert found["digits-v2"]["match"] == [{"headers": version}]
    assert found["digits-default-stream"]["match"] == [{"uri": STREAM}]
    assert "match" not in found["digits-default"]
    assert found["digits-v2"]["route"] == [{"destination": {"host": HOST, "subset": "v2"}}]


def test_each_copy_has_a_route_of_its_own_before_all_others() -> None:
    found = routes(canary(copies={"1": 2}), ingress="infer/express-lane")
    assert list(found)[:3] == ["digits-v1-copy0", "digits-v1-copy1", "digits-v1-stream"]
    headers = {"x-model-version": {"exact": "1"}, "x-headrace-copy": {"exact": "1"}}
    assert found["digits-v1-copy1"] == {
        "name": "digits-v1-copy1",
        "match": [{"headers": headers, "gateways": ["mesh"]}],  # none for the lane, which carries no such call
        "route": [{"destination": {"host": HOST, "subset": "v1-copy1"}}],
        "retries": {"attempts": 0},
    }
    assert not any("copy" in name for name in routes(canary()))


def test_where_a_host_is_shared_every_route_matches_the_model() -> None:
    for name, route in routes(canary(), model("faces")).items():
        (match,) = route["match"]
        assert match["headers"]["x-model-name"] == {"exact": name.partition("-")[0]}


def test_the_default_lists_every_version() -> None:
    versions = {version: {"version": version} for version in "123"}
    found = routes(canary(versions=versions))
    for name in ("digits-default", "digits-default-stream"):
        assert weights(found[name]) == [("v1", 90), ("v2", 10), ("v3", 0)]


def test_one_version_takes_everything() -> None:
    for route in routes(model()).values():
        assert route["route"] == [{"destination": {"host": HOST, "subset": "v1"}}]


def test_weights_that_live_stay() -> None:
    found = routes(
        canary(), live={(HOST, "digits-default"): {"2": 80, "1": 20}, (HOST, "digits-v1"): {"1": 5, "2": 95}}
    )
    assert weights(found["digits-default"]) == [("v1", 20), ("v2", 80)]
    assert weights(found["digits-default-stream"]) == [("v1", 90), ("v2", 10)]


def test_a_stream_is_bounded_by_its_caller_alone() -> None:
    found = routes(canary(timeout="5s", shadow={"version": "2"}))
    for name, route in found.items():
        if name.endswith("-stream"):
            assert route.keys() == {"name", "match", "route", "retries"}
            assert route["retries"] == {"attempts": 0}
        else:
            assert route["timeout"] == "5s"
            assert route["retries"]["attempts"] == 2


def test_only_calls_that_name_no_version_are_mirrored() -> None:
    found = routes(canary(shadow={"version": "2", "share": "10%"}))
    mirror = {"destination": {"host": HOST, "subset": "v2"}, "percentage": {"value": 10}}
    assert [name for name, route in found.items() if "mirrors" in route] == ["digits-default"]
    assert found["digits-default"]["mirrors"] == [mirror]


@pytest.mark.parametrize(
    ("changes", "retries"),
    [
        ({}, {"attempts": 2, "retryOn": "unavailable,reset,refused-stream,connect-failure"}),
        (
            {"retries": {"attempts": 3, "per_try": "1500ms", "on": ["reset"]}},
            {"attempts": 3, "perTryTimeout": "1500ms", "retryOn": "reset,deadline-exceeded"},
        ),
        ({"retries": {"attempts": 0}}, {"attempts": 0}),
        ({"retries": {"on": []}}, {"attempts": 0}),  # unsaid, Istio would take a list of its own
        ({"sequence": True}, {"attempts": 0}),
    ],
)
def test_retries(changes: dict[str, Any], retries: dict[str, Any]) -> None:
    found = routes(model(**changes))
    assert found["digits-v1"]["retries"] == retries
    assert found["digits-default"]["retries"] == retries


LANE = {"x-headrace-lane": {"exact": "express"}}


def test_an_ingress_gateway_gets_what_the_lane_carries_and_nothing_else() -> None:
    found = routes(canary(), ingress="edge/lane")
    version = {"x-model-version": {"exact": "2"}}
    assert found["digits-v2"]["match"] == [
        {"headers": version, "gateways": ["mesh"]},
        {"headers": version | LANE, "gateways": ["edge/lane"]},
    ]
    assert found["digits-default"]["match"] == [{"gateways": ["mesh"]}, {"headers": LANE, "gateways": ["edge/lane"]}]
    for name in ("digits-v1-stream", "digits-v2-stream", "digits-default-stream"):
        (match,) = found[name]["match"]
        assert match["gateways"] == ["mesh"]
    without = routes(canary())
    assert [route | {"match": None} for route in found.values()] == [
        route | {"match": None} for route in without.values()
    ]


def test_sequences_do_not_leave_the_mesh() -> None:
    found = routes(model("a", sequence=True), model("b"), ingress="edge/lane")
    assert [one["gateways"] for one in found["a-default"]["match"]] == [["mesh"]]
    assert [one["gateways"] for one in found["b-default"]["match"]] == [["mesh"], ["edge/lane"]]
    assert virtual_service(service(model(sequence=True)), {}, ingress="edge/lane") == virtual_service(
        service(model(sequence=True)), {}
    )


def test_the_routes_of_carried_calls_have_the_names_that_are_told() -> None:
    found = routes(canary(), ingress="edge/lane")
    bound = [name for name, route in found.items() if len(route["match"]) == 2]
    assert tuple(bound) == names_of_carried(canary())
