"""Hosts and names: what belongs together, what it is called, and what cannot stand side by side."""

from __future__ import annotations

import pytest

from mesh.catalog import GatewayWorkload, Model
from mesh.render.services import services
from mesh.render.source import RenderError
from tests.mesh.render.models import GATEWAY, canary, catalog, model, service


def mistakes(*models: Model, gateway: GatewayWorkload = GATEWAY) -> tuple[str, ...]:
    with pytest.raises(RenderError) as refused:
        services(catalog(*models), gateway)
    return refused.value.mistakes


@pytest.mark.parametrize(
    "host", ["digits.models:8001", "digits.models.svc:8001", "digits.models.svc.cluster.local:8001"]
)
def test_every_spelling_of_a_host(host: str) -> None:
    found = service(model(host=host))
    assert (found.name, found.namespace, found.port) == ("digits", "models", 8001)
    assert found.host == "digits.models.svc.cluster.local"


@pytest.mark.parametrize(
    "host",
    ["digits:8001", "127.0.0.1:8001", "[::1]:8001", "a.b.c:1", "a.b.svc.other.local:1", "Digits.models:1", "a_b.c:1"],
)
def test_a_host_that_is_no_service_of_a_namespace(host: str) -> None:
    (mistake,) = mistakes(model(host=host))
    assert mistake.startswith(f"model digits: host: {host} names no service of a namespace, as digits.models.svc.")


def test_models_of_the_same_copies_agree_on_how_many_there_are() -> None:
    two = model("b", copies={"1": 2})
    services(catalog(model("a", copies={"1": 2}), two), GATEWAY)
    assert mistakes(model("a", copies={"1": 1}), two) == (
        "model b: copies.1: must be as for a 1, which has the same copies",
    )


def test_a_model_alone_gives_its_name_and_its_versions_theirs() -> None:
    found = service(canary(name="Digits_2"))
    assert found.resource_name.startswith("digits-2-")
    assert found.file == f"{found.resource_name}.yaml"
    assert found.subset(found.models[0], "2") == "v2"


def test_models_that_share_a_host_share_its_name() -> None:
    found = service(model("a", "triton.models:8001"), model("b", "triton.models.svc:8001"))
    assert (found.resource_name, found.file, found.shared) == ("triton", "triton.models.yaml", True)
    assert [found.subset(one, "1") for one in found.models] == ["a-v1", "b-v1"]


def test_services_of_one_name_in_two_namespaces() -> None:
    models = [model(f"{name}{space}", f"triton.{space}:8001") for space in ("one", "two") for name in "ab"]
    found = services(catalog(*models), GATEWAY)
    assert [one.file for one in found] == ["triton.one.yaml", "triton.two.yaml"]


def test_models_of_one_host_agree_about_it() -> None:
    first = model("a", "triton.models:8001")
    assert mistakes(first, model("b", "triton.models:8002")) == (
        "model b: host: a has the same host with the port 8001: it has one port",
    )
    assert mistakes(first, model("b", "triton.models:8001", workload={"app": "other"})) == (
        "model b: workload: must be app=triton, as a of the same host has it",
    )
    assert services(catalog(first, model("b", "triton.models:8001", workload={"app": "triton"})), GATEWAY)


def test_a_version_cannot_have_other_labels_than_every_copy() -> None:
    versions = {"1": {"app": "other"}}
    assert mistakes(model(versions=versions)) == ("model digits: versions.1.app: every copy has app=digits",)
    assert service(model(versions={"1": {"app": "digits"}}))


@pytest.mark.parametrize("name", ["gateway", "workloads"])
def test_a_file_is_written_once(name: str) -> None:
    (mistake,) = mistakes(model(name))
    assert mistake.startswith(f"model {name}: {name}.yaml is the file of the ")
    assert service(model(name), model("other"))  # then the file is called like the host


def test_a_resource_is_there_once() -> None:
    shared = [model("a", "triton.models:8001"), model("b", "triton.models:8001")]
    assert mistakes(*shared, model("triton", "other.models:8001")) == (
        "model triton: the resources of the host triton.models.svc.cluster.local are called models/triton, too: "
        "rename the model",
    )
    assert services(catalog(*shared, model("triton", "other.elsewhere:8001")), GATEWAY)


def test_policies_of_one_service_do_not_hold_for_anothers_copies() -> None:
    one = model("a", "one.models:8001", workload={"app": "x"})
    wide, apart = {"app": "x", "tier": "y"}, {"app": "z"}
    (mistake,) = mistakes(one, model("b", "two.models:8001", workload=wide))
    assert mistake.startswith("model b: workload: copies with app=x, tier=y cannot be told from those of model a")
    assert mistakes(model("b", "two.models:8001", workload=wide), one)
    assert services(catalog(one, model("b", "two.models:8001", workload=apart)), GATEWAY)
    assert services(catalog(one, model("b", "two.elsewhere:8001", workload=wide)), GATEWAY)


def test_nor_for_the_gateway() -> None:
    gateway = GatewayWorkload(namespace="models", labels={"app": "digits"})
    (mistake,) = mistakes(model(), gateway=gateway)
    assert "cannot be told from those of the gateway" in mistake
    assert services(catalog(model()), GatewayWorkload(namespace="models", labels={"app": "gateway"}))


def test_every_mistake_is_told() -> None:
    assert (
        len(mistakes(model("a", "nowhere:1"), model("gateway"), model("b", "x.y:1", versions={"1": {"app": "z"}}))) == 3
    )
