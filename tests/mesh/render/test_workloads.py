"""The copies on this machine: which there are, with which labels, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from mesh.catalog import Model
from mesh.render import workloads
from mesh.render.services import services
from mesh.render.source import RenderError
from tests.mesh.render.models import GATEWAY, canary, catalog, model

Said = Mapping[str, Mapping[str, tuple[str, ...]]]


def resources(endpoints: Said, *models: Model) -> list[dict[str, Any]]:
    found = services(catalog(*models), GATEWAY)
    return cast("list[dict[str, Any]]", workloads.resources(found, endpoints, GATEWAY))


def copies(endpoints: Said, *models: Model) -> dict[str, dict[str, Any]]:
    """Name -> spec of every copy but the gateway."""
    found = [one for one in resources(endpoints, *models) if one["kind"] == "WorkloadEntry"]
    return {one["metadata"]["name"]: one["spec"] for one in found if one["metadata"]["name"] != "gateway"}


def mistakes(endpoints: Said, *models: Model) -> tuple[str, ...]:
    with pytest.raises(RenderError) as refused:
        resources(endpoints, *models)
    return refused.value.mistakes


def test_a_copy_has_the_labels_of_its_version() -> None:
    found = copies({"digits": {"1": ("127.0.0.1:8101",), "2": ("[::1]:8102",)}}, canary())
    assert found == {
        "digits-127-0-0-1-8101": {
            "address": "127.0.0.1",
            "ports": {"grpc": 8101},
            "labels": {"app": "digits", "version": "v1"},
            "serviceAccount": "digits",
        },
        "digits---1-8102": {
            "address": "::1",
            "ports": {"grpc": 8102},
            "labels": {"app": "digits", "version": "v2"},
            "serviceAccount": "digits",
        },
    }


def test_copies_that_are_called_one_by_one_have_their_numbers() -> None:
    endpoints = {"digits": {"1": ("127.0.0.1:8101", "127.0.0.1:8102"), "2": ("127.0.0.1:8103",)}}
    found = copies(endpoints, canary(copies={"1": 2}))
    assert [one["labels"].get("apps.kubernetes.io/pod-index") for one in found.values()] == ["0", "1", None]
    assert mistakes(endpoints, canary(copies={"1": 3})) == (
        "endpoints.digits.1: there are 2 here, but copies.1 says 3",
    )


def test_a_copy_that_serves_several_is_there_once_with_the_labels_of_all() -> None:
    models = (model("a", versions={"1": {"pool": "l4"}}), model("b", versions={"1": {"gpu": "yes"}}), model("c"))
    every = {name: {"1": ("127.0.0.1:8101",)} for name in "abc"}
    (only,) = copies(every, *models).values()
    assert only["labels"] == {"app": "digits", "pool": "l4", "gpu": "yes"}


def test_services_without_copies_and_the_gateway_are_there() -> None:
    found = resources({"digits": {"1": ("127.0.0.1:8101",)}}, model(), model("faces", "faces.models:8002"))
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("ServiceEntry", "digits"),
        ("WorkloadEntry", "digits-127-0-0-1-8101"),
        ("ServiceEntry", "faces"),
        ("WorkloadEntry", "gateway"),
    ]
    assert found[2]["spec"] == {
        "hosts": ["faces.models.svc.cluster.local"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 8002, "name": "grpc", "protocol": "GRPC"}],
        "workloadSelector": {"labels": {"app": "faces"}},
    }
    assert found[3]["metadata"]["namespace"] == "infer"
    assert found[3]["spec"] == {"address": "127.0.0.1", "labels": {"app": "gateway"}, "serviceAccount": "gateway"}


@pytest.mark.parametrize("address", ["localhost:8101", "worker.example:8101"])
def test_a_copy_is_at_an_ip_address(address: str) -> None:
    said = f"endpoints.digits.1: {address} is no IP address and port, as 127.0.0.1:8101 is"
    assert mistakes({"digits": {"1": (address,)}}, model()) == (said,)


def test_a_copy_cannot_have_two_values_of_a_label() -> None:
    assert mistakes({"digits": {"1": ("127.0.0.1:8101",), "2": ("127.0.0.1:8101",)}}, canary()) == (
        "endpoints.digits.2: the copy at 127.0.0.1:8101 cannot have both version=v1 and version=v2",
    )


def test_labels_choose_the_copies_that_are_listed() -> None:
    models = (model("a", versions={"1": {"pool": "l4"}}), model("b"))
    apart: Said = {"a": {"1": ("127.0.0.1:8101",)}, "b": {"1": ("127.0.0.1:8102",)}}
    assert mistakes(apart, *models) == (
        "endpoints.b.1: this version's labels choose the copy at 127.0.0.1:8101, too: "
        "give its copies a label of their own",
    )
    together: Said = {"a": {"1": ("127.0.0.1:8101",)}, "b": {"1": ("127.0.0.1:8102", "127.0.0.1:8101")}}
    assert len(copies(together, *models)) == 2
    with_label = model("b", versions={"1": {"pool": "a100"}})
    assert len(copies(apart, models[0], with_label)) == 2


def test_a_copy_belongs_to_one_host() -> None:
    one: Said = {"digits": {"1": ("127.0.0.1:8101",)}, "faces": {"1": ("127.0.0.1:8101",)}}
    (mistake,) = mistakes(one, model(), model("faces", "faces.models:8002"))
    assert mistake.startswith("endpoints: 127.0.0.1:8101 is a copy of digits.models.svc.cluster.local and of faces.")
    assert len(copies({**one, "faces": {"1": ("127.0.0.1:8102",)}}, model(), model("faces", "faces.models:8002"))) == 2
