"""Which weights change, for what people write."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mesh.shift.plan import Plan, ShiftError, json_patch, plan
from mesh.shift.routes import read
from tests.mesh.envoy.istio_vectors import CASES

HOST = "digits.models.svc.cluster.local"
STREAM = {"uri": {"exact": "/inference.GRPCInferenceService/ModelStreamInfer"}}
Json = dict[str, Any]


def to(subset: str, weight: int | None = None, host: str = "digits") -> Json:
    destination = {"host": host, "subset": subset} if subset else {"host": host}
    return {"destination": destination} if weight is None else {"destination": destination, "weight": weight}


def route(*destinations: Json, name: str = "", match: tuple[Json, ...] = ()) -> Json:
    return {"name": name, "match": list(match), "route": list(destinations)}


def having(**headers: str) -> Json:
    """A match on `x_model_version` and the like; an empty text stands for any value."""
    texts = {name.replace("_", "-"): {"exact": value} if value else {} for name, value in headers.items()}
    return {"headers": texts}


def planned(routes: list[Json], model: str = "digits", **wanted: int) -> Plan:
    metadata = {"name": "digits", "namespace": "models"}
    resource = {"kind": "VirtualService", "metadata": metadata, "spec": {"hosts": [HOST], "http": routes}}
    return plan(read(resource), model, {key.removeprefix("v"): wanted[key] for key in wanted})


def changed(found: Plan) -> dict[str, tuple[int, int]]:
    return {one.pointer: (one.old, one.new) for one in found.changes}


def pinned(one: str = "green", two: str = "blue") -> list[Json]:
    return [
        route(to(two), name="stream-2", match=(STREAM | having(x_model_version="2"),)),
        route(to(one, 90), to(two, 10), name="stream", match=(STREAM,)),
        route(to(one), name="pin-1", match=(having(x_model_version="1"),)),
        route(to(two), name="pin-2", match=(having(x_model_version="2"),)),
        route(to(one, 90), to(two, 10), name="all"),
    ]


def test_every_route_for_calls_that_name_no_version_changes_and_no_pin() -> None:
    found = planned(pinned(), v1=80, v2=20)
    assert changed(found) == {
        "/spec/http/1/route/0/weight": (90, 80),
        "/spec/http/1/route/1/weight": (10, 20),
        "/spec/http/4/route/0/weight": (90, 80),
        "/spec/http/4/route/1/weight": (10, 20),
    }
    assert [one.version for one in found.weights] == ["1", "2", "1", "2"]
    assert found.left == ()


def test_what_is_so_already_does_not_change() -> None:
    found = planned(pinned(), v1=90, v2=10)
    assert (len(found.weights), changed(found)) == (4, {})


def test_a_version_that_is_not_asked_for_gets_nothing() -> None:
    assert changed(planned(pinned(), v2=100))["/spec/http/4/route/0/weight"] == (90, 0)


def test_a_pin_decides_what_a_version_is_whatever_its_subset_is_called() -> None:
    found = planned(pinned(one="v2", two="v1"), v1=0, v2=100)
    assert changed(found)["/spec/http/4/route/0/weight"] == (90, 0)


@pytest.mark.parametrize("names", [("v1", "v2"), ("1", "2"), ("digits-v1", "digits-v2"), ("digits-v1", "2")])
def test_without_pins_a_version_is_known_by_its_subset(names: tuple[str, str]) -> None:
    one, two = names
    assert list(changed(planned([route(to(one, 90), to(two))], v1=80, v2=20)).values()) == [(90, 80), (0, 20)]


def test_without_subsets_a_version_is_known_by_its_host() -> None:
    routes = [route(to("", 100, host="digits-v1"), to("", 0, host="digits-v2.models.svc.cluster.local"))]
    assert list(changed(planned(routes, v1=80, v2=20)).values()) == [(100, 80), (0, 20)]


def test_a_subset_may_be_named_itself() -> None:
    assert list(changed(planned([route(to("a100", 20), to("l4", 80))], a100=50, l4=50)).values()) == [
        (20, 50),
        (80, 50),
    ]


def test_where_models_share_a_host_another_models_routes_stay() -> None:
    routes = [route(to("v1", 1), to("v2", 1), match=(having(x_model_name=name),)) for name in ("digits", "letters")]
    assert [one.route.index for one in planned(routes, "letters", v1=80, v2=20).changes] == [1, 1]


def special(gateway: str = "mesh") -> list[Json]:
    unpinned = {"withoutHeaders": {"x-model-version": {}}, "gateways": [gateway]}
    return [
        route(to("v2"), name="testers", match=(having(x_tester=""),)),
        route(to("v2"), name="slow", match=({"queryParams": {"slow": {"exact": "1"}}},)),
        route(to("v1", 1), to("v2", 1), name="all", match=(unpinned,)),
        route(to("v1"), name="rest"),
    ]


def test_routes_for_other_headers_are_left_and_named_and_what_no_call_reaches_stays() -> None:
    found = planned(special(), v1=80, v2=20)
    assert {one.route.name for one in found.weights} == {"all"}
    assert found.left == (("testers", "only for calls with x-tester"), ("slow", "only for calls with ?slow"))


def test_a_route_for_another_gateway_is_not_the_end() -> None:
    found = planned(special(gateway="door"), v1=100)
    assert {one.route.name for one in found.weights} == {"all", "rest"}


def missing(subset: str) -> str:
    return f"- {{destination: {{host: {HOST}, subset: {subset}}}, weight: 0}}"


REFUSED = [
    (
        [route(to("v2"), match=(having(x_model_version="2"),)), route(to("v1"), name="all")],
        f"in VirtualService models/digits the route all does not list version 2: add {missing('v2')} to it",
    ),
    (
        [route(to("v1"))],
        "there is no version 2 of digits: VirtualService models/digits has v1; to bring it in, "
        f"add {missing('SUBSET')} to the route http[0]",
    ),
    (
        [route(to("v1"), match=(having(x_model_name="letters"),)), route(to("v1"), to("v2", 1), name="all")],
        "in VirtualService models/digits the route all is for other models, too: give digits one of its own",
    ),
    (
        [route(to("v1"), match=(having(x_model_name="letters"), having(x_model_name="digits")))],
        "in VirtualService models/digits the route http[0] is for other models, too: give digits one of its own",
    ),
    (
        [route(to("v1", 1), to("v1", 2), to("v2", 3))],
        "in VirtualService models/digits the route http[0] does not tell the versions apart: "
        "give each one destination of its own",
    ),
    (
        [route(to("v1"), to("v2", 1), to("a-v2", 1))],
        "in VirtualService models/digits several destinations are called like version 2: "
        "pin it, by a route for x-model-version",
    ),
    (
        [
            route(to("a"), match=(STREAM | having(x_model_version="2"),)),
            route(to("b"), match=(having(x_model_version="2"),)),
            route(to("v1"), to("v2", 1)),
        ],
        "in VirtualService models/digits version 2 of digits leads to two destinations: make it one",
    ),
    (
        [route(to("v1"), match=(having(x_model_version=""),))],
        "in VirtualService models/digits no route takes calls of digits that name no version: add one",
    ),
]


@pytest.mark.parametrize(("routes", "said"), REFUSED)
def test_what_cannot_be_done_says_what_to_do(routes: list[Json], said: str) -> None:
    with pytest.raises(ShiftError) as refused:
        planned(routes, v1=80, v2=20)
    assert str(refused.value) == said


def test_a_fallback_for_any_version_makes_no_version() -> None:
    routes = [route(to("v1"), match=(having(x_model_version=""),)), route(to("v1", 1), to("v2", 1))]
    with pytest.raises(ShiftError, match="there is no version 3"):
        planned(routes, v3=100)


def test_istios_own_cases() -> None:
    weights = {}
    for case in CASES:
        for document in yaml.safe_load_all((case / "config.yaml").read_text()):
            if document["kind"] == "VirtualService" and "weight" in str(document):
                other = case.name == "vs-multi-model"
                wanted = {"l4": 60, "a100": 40} if other else {"1": 60, "2": 40}
                found = plan(read(document), "minilm" if other else "digits", wanted)
                weights[case.name] = list(changed(found).values())
    assert weights["all-canary"] == [(95, 60), (5, 40)]
    assert weights["vs-multi-model"] == [(20, 40), (80, 60)]
    assert weights["vs-weighted-0-100"] == [(0, 60), (100, 40)]
    assert all(weights.values())


def test_the_patch_is_of_the_version_that_was_planned_on() -> None:
    assert json_patch(planned([route(to("v1", 90), to("v2"))], v1=80, v2=20), "41") == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "41"},
        {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 80},
        {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 20},
    ]
