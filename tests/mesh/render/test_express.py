"""The express lane's resources: what callers reach, and which patches make an ingress gateway the lane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.settings import load
from headrace.rendering import source_of
from mesh.catalog import GatewayWorkload, Ingress, Mesh, Model
from mesh.express import parts
from mesh.express.rules import script
from mesh.render import express
from mesh.render.files import render
from mesh.render.services import services
from mesh.render.source import RenderError
from tests.mesh.render.models import catalog, model
from tests.mesh.render.rendered import CATALOGS

HOST = "digits.models.svc.cluster.local"
CLUSTER = next(path for path in CATALOGS if path.name == "cluster")
SOURCE = source_of(load(CLUSTER / "headrace.yaml", {}), express=True)
assert SOURCE.express is not None
RULES = SOURCE.express
INFER = {"exact": RULES.path}
HTTP = "envoy.filters.network.http_connection_manager"


def digits(name: str = "digits", host: str = f"{HOST}:8001", **more: Any) -> Model:
    return model(name, host, **more)


def resources(*models: Model, mesh: Mesh = Mesh()) -> dict[str, dict[str, Any]]:  # noqa: B008 - it is frozen
    """Kind and name -> resource."""
    found = express.resources(mesh, services(catalog(*models), mesh.gateway), RULES)
    return {f"{one['kind']} {cast('Any', one)['metadata']['name']}": cast("dict[str, Any]", one) for one in found}


def patches(*models: Model, mesh: Mesh = Mesh()) -> list[dict[str, Any]]:  # noqa: B008 - the same
    spec = resources(*models, mesh=mesh)["EnvoyFilter express-lane"]["spec"]
    return cast("list[dict[str, Any]]", spec["configPatches"])


def of_routes(*models: Model) -> Mapping[str, Any]:
    """Name of a route -> what is merged into it."""
    return {
        one["match"]["routeConfiguration"]["vhost"]["route"]["name"]: one["patch"]["value"]
        for one in patches(*models)
        if one["applyTo"] == "HTTP_ROUTE"
    }


@pytest.mark.parametrize(
    ("ingress", "server"),
    [
        ({}, {"port": {"number": 8080, "name": "grpc", "protocol": "GRPC"}}),
        (
            {"credential": "door"},
            {
                "port": {"number": 8443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "SIMPLE", "credentialName": "door"},
            },
        ),
        (
            {"credential": "door", "client_ca": True, "port": 9443},
            {
                "port": {"number": 9443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "MUTUAL", "credentialName": "door"},
            },
        ),
    ],
)
def test_where_callers_come_in(ingress: dict[str, Any], server: dict[str, Any]) -> None:
    mesh = Mesh(ingress=Ingress.model_validate({"namespace": "edge", "labels": {"app": "door"}} | ingress))
    found = resources(digits(), mesh=mesh)["Gateway express-lane"]
    assert found["metadata"]["namespace"] == "edge"
    assert found["spec"] == {"selector": {"app": "door"}, "servers": [{**server, "hosts": ["*"]}]}
    listeners = [one["match"]["listener"] for one in patches(digits(), mesh=mesh) if "listener" in one["match"]]
    assert [one["portNumber"] for one in listeners] == [server["port"]["number"]] * 3


def test_whatever_the_authority_python_gets_what_the_script_does_not_carry() -> None:
    mesh = Mesh(gateway=GatewayWorkload(namespace="edge", service="front", port=9000))
    found = resources(digits(), digits("seq", "seq.models.svc.cluster.local:8001", sequence=True), mesh=mesh)
    everyone, models = (found[f"VirtualService express-lane{which}"]["spec"] for which in ("", "-models"))
    assert (everyone["hosts"], models["hosts"]) == (["*"], [HOST])
    assert everyone["gateways"] == models["gateways"] == ["istio-system/express-lane"]
    assert everyone["http"] == models["http"]
    nobodys = {"withoutHeaders": {"x-headrace-lane": {}}}
    assert [route["match"] for route in everyone["http"]] == [
        [{"uri": INFER, "headers": {"x-headrace-lane": {"exact": "python"}}}],
        [{"uri": INFER, **nobodys}],
        [nobodys],
    ]
    for route in everyone["http"]:
        assert route["route"] == [{"destination": {"host": "front.edge.svc.cluster.local", "port": {"number": 9000}}}]
        assert route["retries"] == {"attempts": 0}


def test_where_nothing_is_carried_no_models_host_is_known() -> None:
    assert "VirtualService express-lane-models" not in resources(digits(sequence=True))


def test_questions_go_to_a_port_of_their_own() -> None:
    mesh = Mesh(gateway=GatewayWorkload(namespace="edge", asked=9001))
    (lua,) = (one for one in patches(digits(), mesh=mesh) if one["patch"]["operation"] == "INSERT_BEFORE")
    asked = replace(RULES, asked="outbound|9001||gateway.edge.svc.cluster.local")
    assert lua["patch"]["value"]["typed_config"]["default_source_code"] == {"inline_string": script(asked)}


def test_the_listener_is_as_that_of_our_own_envoy() -> None:
    found = patches(digits(max_request="1MiB"), digits("seq", sequence=True, max_request="2MiB"))
    manager, router, lua, *_ = found
    merged = dict(manager["patch"]["value"]["typed_config"])
    assert merged.pop("@type").endswith("HttpConnectionManager")
    assert merged == parts.manager()
    assert router["patch"] == {"operation": "MERGE", "value": parts.router()}
    last = {"name": HTTP, "subFilter": {"name": "envoy.filters.http.router"}}
    assert [one["applyTo"] for one in found[:3]] == ["NETWORK_FILTER", "HTTP_FILTER", "HTTP_FILTER"]
    assert manager["match"]["listener"]["filterChain"] == {"filter": {"name": HTTP}}
    assert router["match"]["listener"]["filterChain"] == lua["match"]["listener"]["filterChain"] == {"filter": last}
    assert {one["match"]["context"] for one in found} == {"GATEWAY"}


def test_routes_of_carried_calls_and_of_pythons() -> None:
    found = of_routes(digits(), digits("seq", sequence=True))
    of_models = {name: value for name, value in found.items() if not name.startswith("express-lane")}
    assert list(of_models) == ["digits-v1", "digits-default"]
    assert all(value == parts.carried() | {"route": {"idle_timeout": "0s"}} for value in of_models.values())
    forever = {"max_stream_duration": {"max_stream_duration": "0s"}}
    assert {name: value for name, value in found.items() if name not in of_models} == {
        "express-lane-decided": {"route": forever | {"idle_timeout": "0s"}},
        "express-lane-undecided": {
            "route": forever | {"idle_timeout": "30s"},
            "request_body_buffer_limit": 65 * 1024**2,
        },
        "express-lane-other": {"route": forever | {"idle_timeout": "0s"}},
    }


def test_the_filter_chooses_the_ingress_gateway() -> None:
    mesh = Mesh(ingress=Ingress(namespace="edge", labels={"app": "door"}))
    found = resources(digits(), mesh=mesh)["EnvoyFilter express-lane"]
    assert found["metadata"]["namespace"] == "edge"
    assert found["spec"]["workloadSelector"] == {"labels": {"app": "door"}}


def test_the_lanes_own_header_is_no_callers_to_send() -> None:
    found = resources(digits(), mesh=Mesh(ingress=Ingress(labels={"app": "door"})))
    first, *_, last = found
    assert first == "AuthorizationPolicy express-lane"
    assert last == "Gateway express-lane"  # nobody comes in before the rest is there
    assert found["AuthorizationPolicy express-lane"]["spec"] == {
        "selector": {"matchLabels": {"app": "door"}},
        "action": "DENY",
        "rules": [{"when": [{"key": "request.headers[x-headrace-lane]", "values": ["*"]}]}],
    }


def test_a_host_must_be_the_one_that_the_ingress_gateway_knows() -> None:
    with pytest.raises(RenderError) as refused:
        resources(digits(), model("faces", "faces.models:8001"))
    full = "faces.models.svc.cluster.local:8001"
    assert refused.value.mistakes == (f"model faces: host: must be {full}, in full, for the express lane",)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (replace(SOURCE, endpoints={"digits": {"1": ("127.0.0.1:1",)}}), "upstream.endpoints: are one machine's"),
        (
            replace(SOURCE, catalog=catalog(digits()), mesh=Mesh(ingress=Ingress(namespace="no such"))),
            r"spec.gateways\[1\]: 'no such' is no name",
        ),
    ],
)
def test_what_cannot_be(source: Any, words: str) -> None:
    assert render(replace(SOURCE, catalog=catalog(digits())), {})
    with pytest.raises(RenderError, match=words):
        render(source, {})


def test_with_what_spans_python_sends_what_is_sampled_is_pythons() -> None:
    loaded = load(CLUSTER / "headrace.yaml", {})
    assert RULES.tracing == ""
    telemetry = loaded.telemetry.model_copy(update={"otlp": "http://127.0.0.1:4317"})
    told = source_of(loaded.model_copy(update={"telemetry": telemetry}), express=True).express
    assert told is not None
    assert (told.tracing, told.sample) == ("python", 0.1)
